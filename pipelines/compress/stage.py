"""Model -> Model: a smaller or cheaper one, measured against the one it was made from."""

from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

from pipelines.compress.config import CompressConfig, Distill, Quantize
from pipelines.compress.distill import distill
from pipelines.compress.measure import Measurement, measure
from pipelines.compress.quantize import quantize
from pipelines.core.artifact import Artifact, Workspace
from pipelines.core.cluster import remotely
from pipelines.core.errors import ConfigError
from pipelines.core.storage import scratch
from pipelines.core.workflow import Outcome, Step
from pipelines.model.checkpoint import read_facts
from pipelines.tasks.classify import select


def make(config: CompressConfig, step: Step) -> Outcome:
    """Compress by the method that is set, then measure before and after on the judge rows.

    Raises:
        ConfigError: the model is no classifier, or reads longer texts than the student can.
        ArtifactError: the model is broken.
        DataError: the corpus has no row in a split, or a label the teacher does not know.
    """
    check(config, step.inputs)
    match config.method:
        case Quantize():
            made = _quantise(step)
        case Distill():
            made = distill(config, step)
        case other:
            assert_never(other)
    found = remotely(_measure, config, dict(step.inputs), step.out)
    return Outcome(
        counts=made.counts,
        metrics=made.metrics | found.metrics,
        measured=made.measured | found.measured,
    )


def check(config: CompressConfig, inputs: Mapping[str, Artifact]) -> None:
    """Refuse what cannot be made or judged, before any process starts.

    Raises:
        ConfigError: the model is no classifier, or reads longer texts than the student can.
        DataError: no row is in the judge split.
    """
    model, data = inputs["model"], inputs["data"]
    facts = read_facts(model.local())
    if facts["task"]["kind"] != "classify":
        raise ConfigError(
            f"compress.model at {model.uri} does {facts['task']['kind']}; expected a classify "
            "Model, whose answers can be compared: fine-tune it first"
        )
    length, method = facts["max_length"], config.method
    if isinstance(method, Distill) and length > method.student.max_length:
        raise ConfigError(
            f"compress.method.student.max_length={method.student.max_length} is less than the "
            f"{length} tokens a text that the model at {model.uri} reads; give at least that"
        )
    select(data.local(), config.judge_split, config.judge_rows)


def _quantise(step: Step) -> Outcome:
    with scratch() as folder:
        report = quantize(step.inputs["model"].local(), Path(folder))
        step.out.put(Path(folder))
    matrices = report["matrices"].values()
    return Outcome(
        counts={"matrices": len(matrices), "scales": sum(facts["scales"] for facts in matrices)},
        metrics={"max_weight_error": max(facts["max_error"] for facts in matrices)},
    )


def _measure(config: CompressConfig, inputs: dict[str, Artifact], out: Workspace) -> Measurement:
    """Runs in a Ray worker, because the converters are noisy and take gigabytes."""
    rows = select(inputs["data"].local(), config.judge_split, config.judge_rows)
    with scratch() as folder:
        names = [name for name in out.names() if not name.startswith(".")]
        out.store.download(names, Path(folder))
        texts, labels = rows["text"].to_pylist(), rows["label"].to_pylist()
        int8 = isinstance(config.method, Quantize)
        return measure(inputs["model"].local(), Path(folder), texts, labels, int8=int8)
