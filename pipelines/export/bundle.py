"""A Model folder in; a Bundle folder out: the exported file, its tokenizer, and the proof."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from pipelines.core.config import Json
from pipelines.core.errors import ArtifactError
from pipelines.engines import litert, onnx
from pipelines.engines.convert import to_int8, to_onnx, to_tflite
from pipelines.engines.predictor import BUNDLE, Bundle, Predictor, describe, load
from pipelines.engines.torch_engine import TorchEngine
from pipelines.export.config import LiteRT, Onnx
from pipelines.export.parity import Parity, compare
from pipelines.model.layout import TOKENIZER_FILES

Format = LiteRT | Onnx


def file_name(chosen: Format) -> str:
    """The exported file's name."""
    match chosen:
        case LiteRT():
            return litert.FILE
        case Onnx():
            return onnx.FILE
        case other:
            assert_never(other)


def build(
    chosen: Format, source: Path, probe: Sequence[tuple[str, str]], folder: Path
) -> tuple[Parity, Predictor]:
    """Fill `folder`, then run it against the model on `probe`, pairs of id and text.

    An exported file that is in `folder` already is proven, not made again.

    Returns:
        The parity, which `bundle.json` holds too, and the Bundle's predictor.

    Raises:
        ArtifactError: the model is no classifier, or is broken.
    """
    reference = load(source)
    engine = reference.engine
    if not isinstance(engine, TorchEngine):
        raise ArtifactError(f"{source}: is a Bundle, expected a Model: it is exported already")
    target = folder / file_name(chosen)
    if not target.exists():
        _convert(chosen, engine, target)
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)
    facts = Bundle(chosen.kind, reference.labels, reference.max_length, engine.pad_id)
    (folder / BUNDLE).write_bytes(describe(facts))
    exported = load(folder)
    parity = compare(reference, exported, probe, chosen.tolerance)
    (folder / BUNDLE).write_bytes(describe(facts, **_details(chosen, engine, parity)))
    return parity, exported


def lengths(chosen: Format, engine: TorchEngine) -> tuple[int, ...]:
    """A `.tflite`'s signatures: those asked for, and the longest text that the model reads.

    A longer one would only compute padding; without the last, texts would be cut, unnoticed.
    """
    if not isinstance(chosen, LiteRT):
        return ()
    shorter = {length for length in chosen.lengths if length < engine.max_length}
    return (*sorted(shorter), engine.max_length)


def _convert(chosen: Format, engine: TorchEngine, target: Path) -> None:
    match chosen:
        case LiteRT():
            to_tflite(engine, lengths(chosen, engine), target)
            if chosen.int8:
                to_int8(target, target, compute=chosen.compute == "int8")
        case Onnx():
            to_onnx(engine, chosen.opset, target)
        case other:
            assert_never(other)


def _details(chosen: Format, engine: TorchEngine, parity: Parity) -> Json:
    """What `bundle.json` tells people beside what the runtime needs."""
    return {
        "compute": chosen.compute if isinstance(chosen, LiteRT) else "float32",
        "int8": isinstance(chosen, LiteRT) and chosen.int8,
        "lengths": list(lengths(chosen, engine)),
        "parity": parity.facts(),
        "tolerance": chosen.tolerance,
    }
