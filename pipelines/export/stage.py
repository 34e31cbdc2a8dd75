"""Model -> Bundle: one deployable file and its tokenizer, proven equal to the model or refused.

A Ray worker converts: the converters are noisy, take gigabytes and may crash, and none of that
should meet the driver. What it wrote in an earlier, killed try is proven again, not converted again.
"""

import json
from pathlib import Path
from typing import assert_never

import ray

from pipelines.core.artifact import Artifact, Workspace
from pipelines.core.config import Json
from pipelines.core.storage import scratch
from pipelines.core.workflow import Outcome, Step
from pipelines.engines import litert, onnx
from pipelines.engines.convert import Precision, to_onnx, to_tflite
from pipelines.engines.predictor import BUNDLE, Predictor, load
from pipelines.engines.timing import median_ms
from pipelines.engines.torch_engine import TorchEngine
from pipelines.export.config import ExportConfig, LiteRT, Onnx
from pipelines.export.parity import Parity, compare, require
from pipelines.model.checkpoint import TOKENIZER_FILES
from pipelines.tasks.classify import select


def make(config: ExportConfig, step: Step) -> Outcome:
    """Convert, prove, describe.

    Raises:
        ArtifactError: the exported file and the model disagree by more than the tolerance.
    """
    task = ray.remote(num_cpus=1)(_convert).remote(config, step.inputs, step.out)
    parity, description, latency_ms = ray.get(task)
    require(parity, f"{step.name}: {file_name(config)}")
    step.out.write(BUNDLE, _text(description | {"parity": parity.facts()}))
    size = step.out.store.size(file_name(config))
    return Outcome(
        counts={"rows": parity.texts},
        metrics={
            "max_logit_difference": parity.max_logit_difference,
            "agreement": parity.agreement,
            "size_mb": size / 1e6,
        },
        measured={"latency_ms": latency_ms},
    )


def file_name(config: ExportConfig) -> str:
    """The exported file's name."""
    match config.format:
        case LiteRT():
            return litert.FILE
        case Onnx():
            return onnx.FILE
        case other:
            assert_never(other)


def _convert(
    config: ExportConfig, inputs: dict[str, Artifact], out: Workspace
) -> tuple[Parity, Json, float]:
    """Write the file and the tokenizer; the parity, the description, and milliseconds a text."""
    source = inputs["model"].local()
    reference = load(source)
    assert isinstance(reference.engine, TorchEngine)
    probe = select(inputs["probe"].local(), "", config.probe_rows)
    texts = list(zip(probe["id"].to_pylist(), probe["text"].to_pylist(), strict=True))
    description = _description(config, reference, reference.engine)
    reference.max_length = description[
        "max_length"
    ]  # longer texts are cut where the file cuts them
    with scratch() as name:
        folder = Path(name)
        _assemble(config, reference.engine, source, folder, out)
        (folder / BUNDLE).write_bytes(_text(description))
        exported = load(folder)
        parity = compare(reference, exported, texts, config.format.tolerance)
        latency_ms = median_ms(lambda text: exported.predict([text]), [text for _, text in texts])
    return parity, description, latency_ms


def _assemble(
    config: ExportConfig, engine: TorchEngine, source: Path, folder: Path, out: Workspace
) -> None:
    """The Bundle's files in `folder` and in `out`; a file that `out` has is taken from there."""
    target = folder / file_name(config)
    if out.exists(target.name):
        target.write_bytes(out.read(target.name))
    else:
        _export(config, engine, target)
        out.put(target)
    for tokenizer_file in TOKENIZER_FILES:
        if (source / tokenizer_file).exists():
            (folder / tokenizer_file).write_bytes((source / tokenizer_file).read_bytes())
            out.put(folder / tokenizer_file)


def _export(config: ExportConfig, engine: TorchEngine, target: Path) -> None:
    match config.format:
        case LiteRT():
            to_tflite(engine, _lengths(config.format, engine), _precision(config.format), target)
        case Onnx():
            to_onnx(engine, config.format.opset, target)
        case other:
            assert_never(other)


def _lengths(chosen: LiteRT, engine: TorchEngine) -> tuple[int, ...]:
    """Those that a text can reach: up to the first that holds the model's longest text."""
    lengths = sorted(set(chosen.lengths))
    last = next((length for length in lengths if length >= engine.max_length), lengths[-1])
    return tuple(length for length in lengths if length <= last)


def _precision(chosen: LiteRT) -> Precision:
    if chosen.compute == "int8":
        return "int8-dynamic"
    return "int8" if chosen.int8 else "float32"


def _description(config: ExportConfig, reference: Predictor, engine: TorchEngine) -> Json:
    chosen = config.format
    lengths = _lengths(chosen, engine) if isinstance(chosen, LiteRT) else ()
    return {
        "format": chosen.kind,
        "int8": isinstance(chosen, LiteRT) and chosen.int8,
        "compute": chosen.compute if isinstance(chosen, LiteRT) else "float32",
        "lengths": list(lengths),
        "labels": list(reference.labels),
        "max_length": min((reference.max_length, *lengths[-1:])),
        "pad_id": engine.pad_id,
        "tolerance": chosen.tolerance,
    }


def _text(facts: Json) -> bytes:
    return json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False).encode()
