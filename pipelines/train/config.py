"""Settings of the train stage and of any optimisation run (distillation uses `Optimise` too)."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipelines.core.config import Config, Input, Location, StageConfig
from pipelines.model.config import ModelConfig
from pipelines.model.pretrained import open_pretrained
from pipelines.tasks.config import Classify, MaskedLM, TaskConfig


class Linear(Config):
    """An even fall to zero (Devlin et al. 2019, appendix A.2)."""

    kind: Literal["linear"] = "linear"


class Cosine(Config):
    """Half a cosine from the peak to a floor (Loshchilov and Hutter 2017, equation 5)."""

    kind: Literal["cosine"] = "cosine"
    floor: float = Field(default=0.1, ge=0, lt=1, description="share of the peak at the end")


class WarmupStableDecay(Config):
    """The peak held, then a fall to zero at the end (Hu et al. 2024, section 4)."""

    kind: Literal["wsd"] = "wsd"
    decay: float = Field(default=0.2, gt=0, le=1, description="share of steps of the fall")
    fall: Literal["1-sqrt", "linear"] = Field(
        default="1-sqrt",
        description="its course; 1-sqrt ended lower than linear (Hägele et al. 2024, section 3)",
    )


class Constant(Config):
    """The peak to the end."""

    kind: Literal["constant"] = "constant"


Schedule = Annotated[Linear | Cosine | WarmupStableDecay | Constant, Field(discriminator="kind")]


class AdamW(Config):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), in one fused kernel."""

    kind: Literal["adamw"] = "adamw"
    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay of the mean gradient")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="decay of its mean square")


class Muon(Config):
    """Orthogonalised momentum for the blocks' matrices, AdamW for all else (Jordan 2024)."""

    kind: Literal["muon"] = "muon"
    momentum: float = Field(default=0.95, ge=0, lt=1, description="of the matrices' updates")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's, for all else")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="AdamW's, for all else")


Optimizer = Annotated[AdamW | Muon, Field(discriminator="kind")]


class Spikes(Config):
    """What is done about a loss or gradient norm far above those of the steps before.

    Source: OLMo-core's SkipStepOptimizer (6 sigma, 128 steps); going back and leaving the data out
    is what Chowdhery et al. 2022, section 5.1, did by hand.
    """

    sigma: float = Field(
        default=6.0, gt=0, description="standard deviations above the mean from which it is one"
    )
    window: int = Field(
        default=128, ge=4, description="steps looked back on; half of them must be there"
    )
    in_a_row: int = Field(
        default=4, ge=1, description="spikes after which weights go back; fewer leave the step out"
    )
    anchor_steps: int = Field(
        default=200, ge=1, description="steps between the points that weights go back to"
    )
    roll_backs: int = Field(default=3, ge=0, description="most; one more spike stops the run")


class Optimise(Config):
    """How the weights are learnt."""

    steps: int = Field(ge=1, description="optimizer steps")
    batch_rows: int = Field(default=32, ge=1, description="rows a step, over all workers")
    learning_rate: float = Field(default=5e-4, gt=0, description="peak rate")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of steps warming up")
    schedule: Schedule = Field(default=Linear(), description="the rate after the warm-up")
    optimizer: Optimizer = Field(default=AdamW(), description="how a gradient changes weights")
    weight_decay: float = Field(default=0.01, ge=0, description="not on biases and norms")
    clip: float = Field(default=1.0, gt=0, description="largest gradient norm")
    spikes: Spikes | None = Field(
        default=None, description="what is done about loss spikes; None learns from every step"
    )
    shards: int = Field(
        default=2,
        ge=1,
        description="parts each batch is cut into; workers share them out, and a worker learns "
        "from one after the other, so more parts need less memory",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="auto: bf16 where the CPU or GPU has it, else fp32, so the weights depend on "
        "the machine; the manifest's measured.precision_bits tells which it was",
    )
    attention: Literal["sdpa", "eager", "auto"] = Field(
        default="sdpa",
        description="torch's fused code, or plain products; auto takes the faster one here, so the "
        "weights depend on the machine; measured.attention_sdpa tells which it was",
    )
    compile: Literal["off", "auto", "on"] = Field(
        default="off",
        description="Inductor's code for the model; auto: where a run is long enough to gain by it "
        "here, so the weights depend on the machine; measured.compiled tells whether it was",
    )
    parallel: Literal["replicate", "shard"] = Field(
        default="replicate",
        description="replicate: every worker holds all weights; shard: each holds its share of "
        "weights, gradients and moments, and gathers a layer at a time",
    )
    checkpoint_steps: int = Field(
        default=100,
        ge=1,
        description="steps between checkpoints; changes no weight",
        json_schema_extra={"identity": False},
    )
    checkpoint_s: float = Field(
        default=120.0,
        gt=0,
        description="seconds after which a checkpoint is due before that; changes no weight",
        json_schema_extra={"identity": False},
    )
    seed: int = Field(default=0, ge=0, description="weights, order, masks and dropout")

    def work(self) -> str:
        """How much is done, for `plan`."""
        return f"{self.steps:,} x {self.batch_rows} rows"

    @model_validator(mode="after")
    def _compiled_whole(self) -> "Optimise":
        if self.compile != "off" and self.parallel == "shard":
            raise ValueError("compile has no effect on parallel=shard; set compile=off")
        return self

    @model_validator(mode="after")
    def _one_sum_whatever_the_workers(self) -> "Optimise":
        if isinstance(self.optimizer, Muon) and self.parallel == "shard":
            raise ValueError(
                "optimizer=muon multiplies whole matrices; over the shares of parallel=shard its "
                "sums would round otherwise for each number of workers: take adamw or replicate"
            )
        return self

    @model_validator(mode="after")
    def _warm_up_ends_before_the_fall(self) -> "Optimise":
        if isinstance(self.schedule, WarmupStableDecay) and self.warmup + self.schedule.decay > 1:
            raise ValueError(
                f"warmup={self.warmup} and schedule.decay={self.schedule.decay} are shares of the "
                "steps; together they must not be more than 1"
            )
        return self


class Validation(Config):
    """Rows kept from training that tell which step's weights are the best.

    The Model is that of the step with the lowest loss on them, not that of the last step.
    """

    data: str = Input("Tokens", "Corpus", description="what is judged on")
    split: str = Field(default="test", description="the corpus split judged on")
    every: int = Field(default=100, ge=1, description="steps between two; the last step is one")
    rows: int | None = Field(
        default=None, ge=1, description="rows judged, up to a whole batch; None takes all"
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="validations in a row without a lower loss after which training ends, one "
        "later than seen, for the newest is still being judged; None takes every step",
    )


class TrainConfig(StageConfig):
    """Tokens | Corpus (+ Model) -> Model: pretraining from Tokens, fine-tuning from a Corpus."""

    stage: ClassVar[str] = "train"
    makes: ClassVar[str] = "Model"
    version: ClassVar[int] = 3

    data: str = Input("Tokens", "Corpus", description="what is learnt from")
    tokenizer: str | None = Input(
        "Tokenizer", default=None, description="needed from scratch; a start Model brings its own"
    )
    start: str | None = Input("Model", default=None, description="weights to start from")
    pretrained: str | None = Location(
        default=None,
        description="weights and tokenizer to start from that no step made: a transformers folder "
        "or hf://org/name; its files' contents are identity",
    )
    model: ModelConfig | None = Field(
        default=None, description="shape to build from scratch, or a size's name such as bert-mini"
    )
    warm_start: bool = Field(
        default=False, description="token embeddings start from co-occurrence in the Tokens"
    )
    task: TaskConfig = Field(description="what is learnt")
    optimise: Optimise = Field(description="how")
    validation: Validation | None = Field(
        default=None,
        description="rows that choose the best step; None takes the last step's weights",
    )
    split: str = Field(default="train", description="the corpus split used")
    max_rows: int | None = Field(
        default=None, ge=1, description="labelled rows used, the first by hash; None takes all"
    )

    def estimate(self) -> str:
        """Rows that are learnt from."""
        return self.optimise.work()

    def raw_digests(self) -> dict[str, str]:
        """SHA-256 of the files of `pretrained`.

        Raises:
            ArtifactError: it cannot be read, or is of no architecture that is known.
        """
        if self.pretrained is None:
            return {}
        digests = open_pretrained(self.pretrained).digests
        return {f"pretrained: {name}": digest for name, digest in digests.items()}

    @model_validator(mode="after")
    def _one_beginning(self) -> "TrainConfig":
        if sum(given is not None for given in (self.start, self.pretrained, self.model)) != 1:
            raise ValueError(
                "set one of start (a Model), pretrained (a transformers folder) and model (a shape "
                "from scratch)"
            )
        if (self.model is None) != (self.tokenizer is None):
            raise ValueError("tokenizer goes with model: weights to start from bring their own")
        if self.model is not None and self.model.family != self.task.family:
            raise ValueError(
                f"{self.task.kind} is a task of the family {self.task.family}, and "
                f"model.architecture={self.model.architecture} is of the family {self.model.family}"
            )
        if (
            self.model is not None
            and isinstance(self.task, MaskedLM)
            and self.task.pair != "none"
            and self.model.architecture != "bert"
        ):
            raise ValueError(
                f"{self.model.architecture} has no head for pairs of sentences; set task.pair=none"
            )
        return self

    @model_validator(mode="after")
    def _no_idle_setting(self) -> "TrainConfig":
        kind, tokens = self.task.kind, self.task.reads == "Tokens"
        if self.warm_start and (self.model is None or not tokens):
            raise ValueError("warm_start has an effect only on Tokens and a model from scratch")
        if self.max_rows is not None and tokens:
            raise ValueError(f"max_rows has no effect on {kind}, which reads all Tokens")
        if "split" in self.model_fields_set and tokens:
            raise ValueError(f"split has no effect on {kind}; the Tokens were made of one")
        if self.validation and "split" in self.validation.model_fields_set and tokens:
            raise ValueError(
                f"validation.split has no effect on {kind}; the Tokens were made of one"
            )
        shaped = self.model.model_fields_set if self.model else ()
        if "dropout" in shaped and isinstance(self.task, Classify):
            raise ValueError("model.dropout has no effect on classify; set task.dropout")
        return self
