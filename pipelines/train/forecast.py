"""A train step's settings and facts of its inputs -> its parameters, FLOPs, memory; without torch.

Also `Forecaster`, which tells the prediction when a step starts and how it came out when it ends.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO, assert_never

from pydantic import ValidationError

from pipelines.core.artifact import Artifact
from pipelines.core.config import Json, Placement, StageConfig, inputs
from pipelines.core.plan import Planned
from pipelines.core.predict import Book, Facts, Prediction, compared, told
from pipelines.core.storage import Store
from pipelines.model.config import ModelConfig
from pipelines.model.count import flops_per_token, parameters
from pipelines.tasks.config import CausalLM, Classify, Denoise, MaskedLM, SpanCorruption, TaskConfig
from pipelines.train.config import TrainConfig

WORD = 4  # bytes of an fp32 number
# fp32 weights, gradients and AdamW's two moments (Rajbhandari et al. 2020, section 3.1, less the
# half-precision copies); Muon keeps one moment of its matrices, and is counted alike.
STATES = 4
# A checkpoint under way: a copy of weights and moments, and the bytes of the file it becomes.
CHECKPOINT = 6
SCORES = 3  # logits, their log-softmax and its gradient, each of predicted tokens x entries
RUNTIME = 0.55e9  # bytes of a process that has loaded torch and transformers and holds no model
Lookup = Callable[[str], Facts | None]


def forecast(
    config: TrainConfig, sources: Mapping[str, Facts], lookup: Lookup, workers: int
) -> Prediction | None:
    """What the step costs, or None where its inputs do not tell its shape.

    Args:
        config: its settings.
        sources: the facts of its inputs, by role.
        lookup: finds the facts of what an input was made from.
        workers: processes that the placement has.
    """
    found = _shape(config.model_dump(mode="json"), sources, lookup)
    if found is None:
        return None
    shape, entries = found
    optimise, task = config.optimise, config.task
    rows = optimise.steps * optimise.batch_rows
    length, sees, most = _length(task, sources.get("data"))
    tokens = rows * length
    predicted, targets = _asked(task)
    each = flops_per_token(shape, entries, sees, predicted, targets, targets * length)
    processes = min(workers, optimise.shards)
    size = parameters(shape, entries)
    part = -(-optimise.batch_rows // optimise.shards) * length
    share = processes if optimise.parallel == "shard" else 1
    held = (STATES + CHECKPOINT) * WORD * size / share + part * kept_bytes(
        shape, entries, predicted, targets
    )
    return Prediction(
        parameters=size,
        tokens=round(tokens * (1 + targets)),
        flops=tokens * each,
        bytes=RUNTIME + held,
        processes=processes,
        most=most,
    )


def forecasts(steps: Sequence[Planned], storage: str, workers: int) -> list[str]:
    """A line for each train step of a plan that has to run."""
    book = Book(Store.at(storage), {step.name: step for step in steps})
    lines = []
    for step in steps:
        if step.action == "RUN" and isinstance(step.config, TrainConfig):
            asked = {role: book[reference] for role, (reference, _) in inputs(step.config).items()}
            known = {role: facts for role, facts in asked.items() if facts}
            prediction = forecast(step.config, known, book.__getitem__, workers)
            if prediction is not None:
                lines.append(told(step.name, prediction, book.rate(prediction.parameters)))
    return lines


def kept_bytes(
    shape: ModelConfig, entries: int, predicted: float = 1.0, targets: float = 0.0
) -> float:
    """Bytes of activations that one token read leaves for the backward pass, in fp32, with sdpa.

    In numbers of width D a block: five in attention (its input, queries, keys, values and the
    projection's input), two for the norms and one into the MLP, whose inner width F is kept before
    and after the activation, and four times where it is gated (Korthikanti et al. 2022, section
    4.1, with 4 bytes in place of 2 and neither dropout masks nor attention weights). A decoder's
    block has four more, and the source's keys and values.
    """
    inner = (2 if shape.architecture in ("bert", "bart") else 4) * shape.feedforward
    numbers: float = 8 * shape.width + inner
    if shape.family == "encoder-decoder":
        numbers += 2 * shape.width + targets * (12 * shape.width + inner)
        predicted = targets
    return WORD * (shape.layers * numbers + predicted * entries * SCORES)


def _shape(
    config: Json, sources: Mapping[str, Facts], lookup: Lookup
) -> tuple[ModelConfig, int] | None:
    """The shape and the entries of a Model, followed back to the step that drew its weights."""
    if config.get("model") is not None and "tokenizer" in sources:
        entries = sources["tokenizer"].config.get("vocab_size")
        try:
            shape = ModelConfig.model_validate(config["model"])
        except ValidationError:  # an artifact of another version
            return None
        return (shape, int(entries)) if entries else None
    start = sources.get("start")
    if start is None or start.stage != "train":
        return None
    before = {role: lookup(reference) for role, reference in start.inputs.items()}
    return _shape(start.config, {r: facts for r, facts in before.items() if facts}, lookup)


def _length(task: TaskConfig, data: Facts | None) -> tuple[float, float, bool]:
    """Tokens of a row, tokens that each of them sees, and whether rows may have fewer."""
    if isinstance(task, Classify):
        return task.max_length, task.max_length, True
    longest = float(data.config.get("length", 0)) if data else 0.0
    counts = data.counts if data else {}
    if not counts.get("rows"):
        return longest, longest, True
    row = counts["tokens"] / counts["rows"]
    return row, counts["tokens"] / counts.get("pieces", counts["rows"]), False


def _asked(task: TaskConfig) -> tuple[float, float]:
    """For each token read: the share whose entries are scored, and the tokens written."""
    match task:
        case MaskedLM():
            return task.mask_share, 0.0
        case CausalLM():
            return 1.0, 0.0
        case SpanCorruption():  # what was cut out, and a sentinel a span
            return 0.0, task.noise_share * (1 + 1 / task.mean_span)
        case Denoise():
            return 0.0, 1.0
        case Classify():
            return 0.0, 0.0
        case _:
            assert_never(task)


class Forecaster:
    """An Observer that prints what a train step will cost, and at its end how that came out."""

    def __init__(self, placement: Placement, stream: TextIO = sys.stderr) -> None:
        self._placement, self._stream = placement, stream
        self._seconds: dict[str, float] = {}

    def started(self, name: str, config: StageConfig, made_from: Mapping[str, Artifact]) -> None:
        """Tell what the step will cost."""
        if not isinstance(config, TrainConfig):
            return
        book = Book(Store.at(self._placement.storage))
        sources = {role: Facts.made(artifact) for role, artifact in made_from.items()}
        prediction = forecast(config, sources, book.__getitem__, self._placement.workers)
        if prediction is None:
            return
        rate = book.rate(prediction.parameters)
        print(f"      {told(name, prediction, rate)}", file=self._stream)
        if (seconds := prediction.seconds(rate)) is not None:
            self._seconds[name] = seconds

    def progress(self, name: str, facts: Json) -> None:
        """Nothing: the terminal has it."""

    def finished(
        self,
        name: str,
        artifact: Artifact,
        made_from: Mapping[str, Artifact],  # noqa: ARG002 (part of the Observer role)
    ) -> None:
        """Tell how long it took beside the prediction: at its pace, if it was resumed."""
        facts = artifact.manifest
        pace = facts.measured.get("useful_tokens_per_s")
        if name in self._seconds and pace:
            taken = facts.counts["tokens"] / pace
            print(f"      {compared(name, self._seconds[name], taken)}", file=self._stream)

    def reused(self, name: str, artifact: Artifact) -> None:
        """Nothing: it cost nothing."""

    def failed(self, name: str, error: BaseException) -> None:
        """Nothing to compare."""
