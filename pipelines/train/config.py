"""Settings of the train stage and of any optimisation run (distillation uses `Optimise` too)."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from pipelines.core.config import Config, Input, StageConfig
from pipelines.model.config import ModelConfig
from pipelines.tasks.config import Classify, MaskedLM, TaskConfig


class Optimise(Config):
    """How the weights are learnt: AdamW, linear warm-up, then linear decay to zero."""

    steps: int = Field(ge=1, description="optimizer steps")
    batch_rows: int = Field(default=32, ge=1, description="rows a step, over all workers")
    learning_rate: float = Field(default=5e-4, gt=0, description="peak rate")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of steps warming up")
    weight_decay: float = Field(default=0.01, ge=0, description="not on biases and norms")
    clip: float = Field(default=1.0, gt=0, description="largest gradient norm")
    shards: int = Field(
        default=2, ge=1, description="parts each batch is cut into; workers share them out"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="auto: bf16 where the CPU or GPU has it, else fp32, so the weights depend on "
        "the machine; the manifest's measured.precision_bits tells which it was",
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
    seed: int = Field(default=0, ge=0, description="weights, order, masks and dropout")

    def work(self) -> str:
        """How much is done, for `plan`."""
        return f"{self.steps:,} x {self.batch_rows} rows"


class TrainConfig(StageConfig):
    """Tokens | Corpus (+ Model) -> Model: pretraining from Tokens, fine-tuning from a Corpus."""

    stage: ClassVar[str] = "train"
    makes: ClassVar[str] = "Model"
    version: ClassVar[int] = 2

    data: str = Input("Tokens", "Corpus", description="what is learnt from")
    tokenizer: str | None = Input(
        "Tokenizer", default=None, description="needed from scratch; a start Model brings its own"
    )
    start: str | None = Input("Model", default=None, description="weights to start from")
    model: ModelConfig | None = Field(default=None, description="shape to build from scratch")
    warm_start: bool = Field(
        default=False, description="token embeddings start from co-occurrence in the Tokens"
    )
    task: TaskConfig = Field(description="what is learnt")
    optimise: Optimise = Field(description="how")
    split: str = Field(default="train", description="the corpus split used")
    max_rows: int | None = Field(
        default=None, ge=1, description="labelled rows used, the first by hash; None takes all"
    )

    def estimate(self) -> str:
        """Rows that are learnt from."""
        return self.optimise.work()

    @model_validator(mode="after")
    def _one_beginning(self) -> "TrainConfig":
        if (self.start is None) == (self.model is None):
            raise ValueError("set either start (a Model) or model (a shape from scratch)")
        if (self.model is None) != (self.tokenizer is None):
            raise ValueError("tokenizer goes with model: a start Model brings its own")
        if self.warm_start and (self.model is None or not isinstance(self.task, MaskedLM)):
            raise ValueError("warm_start has an effect only on masked-lm from scratch")
        if self.max_rows is not None and not isinstance(self.task, Classify):
            raise ValueError("max_rows has no effect on masked-lm, which reads all Tokens")
        return self

    @model_validator(mode="after")
    def _no_idle_setting(self) -> "TrainConfig":
        if "split" in self.model_fields_set and isinstance(self.task, MaskedLM):
            raise ValueError("split has no effect on masked-lm; the Tokens were made of one")
        shaped = self.model.model_fields_set if self.model else ()
        if "dropout" in shaped and isinstance(self.task, Classify):
            raise ValueError("model.dropout has no effect on classify; set task.dropout")
        return self
