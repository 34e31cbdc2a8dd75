"""A model before and after compression -> what it cost and what it gained.

Quality is measured on judge rows with the very weights that ship. Size and latency are measured on
files converted for LiteRT: that is what is deployed, and on CPUs no other engine was faster.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.core.storage import scratch
from pipelines.engines.convert import to_int8, to_tflite
from pipelines.engines.litert import FILE, LiteRTEngine
from pipelines.engines.predictor import BUNDLE, Bundle, Floats, Predictor, describe, load
from pipelines.engines.timing import median_ms
from pipelines.engines.torch_engine import TorchEngine

LENGTH = 64  # tokens of the text that latency is measured with, if the model reads as many


@dataclass(frozen=True)
class Measurement:
    """`metrics` repeat exactly, `measured` do not; names of before begin with `teacher_`."""

    metrics: dict[str, float]
    measured: dict[str, float]


@dataclass(frozen=True)
class Cost:
    """Of one model: weights, megabytes on disk, median milliseconds a text of `LENGTH` tokens."""

    parameters: int
    size_mb: float
    engine_ms: float
    torch_ms: float


def measure(
    before: Path,
    after: Path,
    texts: Sequence[str],
    labels: Sequence[str | None],
    *,
    int8: bool,
) -> Measurement:
    """Compare two Model folders.

    Args:
        before: the model as it was; its file is float32.
        after: the compressed one.
        texts: judge rows.
        labels: their labels; where none is known the row tells of agreement only.
        int8: whether the matrices in the file of `after` take 8 bits.
    """
    teacher, student = load(before), load(after)
    old, new = cost(teacher, int8=False), cost(student, int8=int8)
    metrics = quality(teacher, student, texts, labels) | {
        "teacher_parameters": old.parameters,
        "parameters": new.parameters,
        "teacher_size_mb": old.size_mb,
        "size_mb": new.size_mb,
    }
    measured = {
        "teacher_torch_latency_ms": old.torch_ms,
        "teacher_latency_ms": old.engine_ms,
        "latency_ms": new.engine_ms,
        "speedup": old.engine_ms / new.engine_ms,
        "speedup_over_torch": old.torch_ms / new.engine_ms,
    }
    return Measurement(metrics, measured)


def quality(
    teacher: Predictor, student: Predictor, texts: Sequence[str], labels: Sequence[str | None]
) -> dict[str, float]:
    """Agreement on all rows; accuracy of both on the labelled ones, if any."""
    old, new = _labels(teacher, texts), _labels(student, texts)
    figures = {"agreement": _share(old, new)}
    known = [row for row, label in enumerate(labels) if label is not None]
    if known:
        truth = [labels[row] for row in known]
        figures["teacher_accuracy"] = _share([old[row] for row in known], truth)
        figures["accuracy"] = _share([new[row] for row in known], truth)
    return figures


def cost(predictor: Predictor, *, int8: bool) -> Cost:
    """What a classifier weighs and takes, as a LiteRT file and in torch."""
    engine = predictor.engine
    assert isinstance(engine, TorchEngine)
    length = min(LENGTH, predictor.max_length)
    ids = [[(place % 5) + engine.pad_id + 1 for place in range(length)]]
    with scratch() as name:
        folder = Path(name)
        to_tflite(engine, (length,), folder / FILE)
        if int8:
            to_int8(folder / FILE, folder / FILE)
        facts = Bundle("tflite", predictor.labels, length, engine.pad_id)
        (folder / BUNDLE).write_bytes(describe(facts))
        exported = LiteRTEngine(folder)
        return Cost(
            parameters=sum(weight.numel() for weight in engine.model.parameters()),
            size_mb=(folder / FILE).stat().st_size / 1e6,
            engine_ms=median_ms(exported.logits, [ids]),
            torch_ms=median_ms(engine.logits, [ids]),
        )


def _labels(predictor: Predictor, texts: Sequence[str]) -> list[str]:
    logits_NL: Floats = predictor.logits(texts)
    return [predictor.labels[place] for place in logits_NL.argmax(axis=1)]


def _share(one: Sequence[str | None], other: Sequence[str | None]) -> float:
    """Of the rows on which both are equal."""
    return float(np.mean([a == b for a, b in zip(one, other, strict=True)]))
