"""Texts -> predictions, whatever runs the model: torch, LiteRT or ONNX Runtime.

`load(folder)` opens a Model or a Bundle. An `Engine` maps token ids to logits; the `Predictor`
around it encodes texts as training did ([CLS] text [SEP]), puts texts of like length together, so
that little padding is computed, and gives the results back in input order.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipelines.core.errors import ArtifactError
from pipelines.tokenizer.encode import boundaries, open_backend, plain_ids

BUNDLE = "bundle.json"
BATCH = 32  # rows of one forward pass where an engine takes batches
MULTIPLE = 8  # padded lengths are multiples of the widest float32 vector
Floats = npt.NDArray[np.float32]
Ids = Sequence[Sequence[int]]


class Engine(Protocol):
    """Runs one model. Not thread-safe: one call at a time."""

    def logits(self, ids: Ids) -> Floats:
        """Logits (N, L) of N sequences that hold their special tokens; little padding if sorted."""


@dataclass(frozen=True)
class Prediction:
    """The likeliest label of a text, its probability, and every label's."""

    label: str
    score: float
    scores: dict[str, float]


@dataclass(frozen=True)
class Bundle:
    """What a runtime must know of an exported file; `bundle.json` holds it beside the proof."""

    format: str
    labels: Sequence[str]
    max_length: int
    pad_id: int


class Predictor:
    """A classifier behind one engine.

    Args:
        engine: runs the model.
        folder: holds the tokenizer that the model was trained with.
        labels: names of the logits, in their order.
        max_length: tokens kept of a text, special tokens among them.
    """

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        labels: Sequence[str],
        max_length: int,
    ) -> None:
        self.engine = engine
        self._backend, self._boundaries = open_backend(folder), boundaries(folder)
        self.labels = tuple(labels)
        self.max_length = max_length

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """[CLS] text [SEP] of each text, cut to `max_length`; no text can forge a special token."""
        first, last = self._boundaries
        inner = plain_ids(self._backend, list(texts), self.max_length - 2)
        return [[first, *ids, last] for ids in inner]

    def logits(self, texts: Sequence[str]) -> Floats:
        """Logits (N, L) of N texts, in input order."""
        ids = self.encode(texts)
        order = sorted(range(len(ids)), key=lambda row: (len(ids[row]), row))
        result = np.empty((len(ids), len(self.labels)), dtype=np.float32)
        if order:
            result[order] = self.engine.logits([ids[row] for row in order])
        return result

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """The prediction for each text, in input order."""
        return [self._prediction(row) for row in softmax(self.logits(texts)).tolist()]

    def _prediction(self, scores: list[float]) -> Prediction:
        best = max(range(len(scores)), key=scores.__getitem__)
        return Prediction(
            self.labels[best], scores[best], dict(zip(self.labels, scores, strict=True))
        )


def softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Probabilities (N, L) of logits (N, L), along the last axis."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def padded(ids: Ids, pad_id: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ids (B, T) and mask (B, T) of 1s at tokens, T the longest rounded up to a multiple of 8."""
    longest = -(-max(len(row) for row in ids) // MULTIPLE) * MULTIPLE
    ids_BT = np.full((len(ids), longest), pad_id, dtype=np.int64)
    mask_BT = np.zeros_like(ids_BT)
    for number, row in enumerate(ids):
        ids_BT[number, : len(row)] = row
        mask_BT[number, : len(row)] = 1
    return ids_BT, mask_BT


def load(folder: Path, threads: int = 1) -> Predictor:
    """The predictor in a Model or Bundle folder.

    Args:
        folder: has `bundle.json` (a Bundle) or `config.json` (a Model).
        threads: compute threads. Two slow each other down as soon as another process needs a core.

    Raises:
        ArtifactError: the folder is neither, is broken, or holds no classifier.
    """
    return _bundle(folder, threads) if (folder / BUNDLE).is_file() else _model(folder, threads)


@lru_cache(maxsize=1)  # a worker outlives a step; a model takes 0.4 GB
def loaded(folder: Path) -> Predictor:
    """The predictor in a folder, loaded once a process."""
    return load(folder)


def describe(facts: Bundle, **more: object) -> bytes:
    """The bytes of `bundle.json`: what a runtime needs, and `more` for people."""
    described = asdict(facts) | more
    return json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False).encode()


def read_bundle(folder: Path) -> Bundle:
    """What `bundle.json` says.

    Raises:
        ArtifactError: it is missing, torn or lacks a fact.
    """
    try:
        facts = json.loads((folder / BUNDLE).read_text(encoding="utf-8"))
        return Bundle(**{field.name: facts[field.name] for field in fields(Bundle)})
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"{folder}/{BUNDLE}: not a readable description of a Bundle: {error!r}; export it anew"
        ) from None


def _model(folder: Path, threads: int) -> Predictor:
    from pipelines.engines.torch_engine import TorchEngine

    engine = TorchEngine(folder, threads)
    return Predictor(engine, folder, engine.labels, engine.max_length)


def _bundle(folder: Path, threads: int) -> Predictor:
    from pipelines.engines.litert import LiteRTEngine
    from pipelines.engines.onnx import OnnxEngine

    facts = read_bundle(folder)
    engine: Engine
    match facts.format:
        case "tflite":
            engine = LiteRTEngine(folder, threads)
        case "onnx":
            engine = OnnxEngine(folder, threads)
        case other:
            raise ArtifactError(f"{folder}/{BUNDLE}: format={other!r}, expected tflite or onnx")
    return Predictor(engine, folder, facts.labels, facts.max_length)
