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
from pipelines.engines.timing import race_ms
from pipelines.engines.torch_engine import TorchEngine

LENGTH = 64  # tokens of the text that latency is measured with, if the model reads as many


@dataclass(frozen=True)
class Measurement:
    """`metrics` repeat exactly, `measured` do not; names of before begin with `teacher_`."""

    metrics: dict[str, float]
    measured: dict[str, float]


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
    length = min(LENGTH, teacher.max_length, student.max_length)
    with scratch() as one, scratch() as other:
        old = exported(teacher, length, Path(one), int8=False)
        new = exported(student, length, Path(other), int8=int8)
        ids = [[old.pad_id + 1 + place % 5 for place in range(length)]]
        torch_ms, old_ms, new_ms = race_ms(
            [lambda: teacher.engine.logits(ids), lambda: old.logits(ids), lambda: new.logits(ids)]
        )
        sizes = {"teacher_size_mb": _size_mb(Path(one)), "size_mb": _size_mb(Path(other))}
    metrics = quality(teacher, student, texts, labels) | sizes
    metrics |= {"teacher_parameters": _weights(teacher), "parameters": _weights(student)}
    measured = {
        "teacher_torch_latency_ms": torch_ms,
        "teacher_latency_ms": old_ms,
        "latency_ms": new_ms,
        "speedup": old_ms / new_ms,
        "speedup_over_torch": torch_ms / new_ms,
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


def exported(predictor: Predictor, length: int, folder: Path, *, int8: bool) -> LiteRTEngine:
    """The classifier as a LiteRT file in `folder` with one signature, running."""
    engine = predictor.engine
    assert isinstance(engine, TorchEngine)
    to_tflite(engine, (length,), folder / FILE)
    if int8:
        to_int8(folder / FILE, folder / FILE)
    facts = Bundle("tflite", predictor.labels, length, engine.pad_id)
    (folder / BUNDLE).write_bytes(describe(facts))
    return LiteRTEngine(folder)


def _weights(predictor: Predictor) -> int:
    """Parameters of the model."""
    assert isinstance(predictor.engine, TorchEngine)
    return sum(weight.numel() for weight in predictor.engine.model.parameters())


def _size_mb(folder: Path) -> float:
    return (folder / FILE).stat().st_size / 1e6


def _labels(predictor: Predictor, texts: Sequence[str]) -> list[str]:
    logits_NL: Floats = predictor.logits(texts)
    return [predictor.labels[place] for place in logits_NL.argmax(axis=1)]


def _share(one: Sequence[str | None], other: Sequence[str | None]) -> float:
    """Of the rows on which both are equal."""
    return float(np.mean([a == b for a, b in zip(one, other, strict=True)]))
