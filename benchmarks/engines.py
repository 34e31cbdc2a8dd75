"""A classifier's latency by engine, side by side in one run: torch, ONNX Runtime, LiteRT.

    python benchmarks/engines.py            writes benchmarks/engines.md

Random weights: latency does not depend on them. One thread, one text at a time; the engines take
turns call by call, so that whatever else the machine does meets all of them alike. Three such races
one after the other show how far the medians repeat.
"""

import platform
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from pipelines.core.storage import scratch
from pipelines.engines.convert import to_int8, to_onnx, to_tflite
from pipelines.engines.litert import FILE, LiteRTEngine
from pipelines.engines.onnx import FILE as ONNX_FILE
from pipelines.engines.onnx import OnnxEngine
from pipelines.engines.predictor import BUNDLE, Bundle, Engine, describe
from pipelines.engines.timing import race_ms
from pipelines.engines.torch_engine import TorchEngine
from pipelines.model.build import Labels, Vocabulary, build
from pipelines.model.checkpoint import save_model
from pipelines.model.config import MINI, NANO, ModelConfig

VOCABULARY, LABELS, ROUNDS, RACES = 8192, ("no", "yes"), 60, 3
LENGTHS = (32, 128)
PACKAGES = ("torch", "ai-edge-litert", "onnxruntime")


def engines(shape: ModelConfig, length: int, root: Path) -> dict[str, tuple[Engine, float]]:
    """Each engine by name, with the megabytes of its file."""
    model = root / "model"
    save(shape, model)
    torch_engine = TorchEngine(model)
    found: dict[str, tuple[Engine, float]] = {}
    found["torch float32"] = (torch_engine, megabytes(model / "model.safetensors"))
    for name, int8, compute in (
        ("LiteRT float32", False, False),
        ("LiteRT 8-bit weights", True, False),
        ("LiteRT 8-bit arithmetic", True, True),
    ):
        folder = root / name.replace(" ", "-")
        folder.mkdir()
        to_tflite(torch_engine, (length,), folder / FILE)
        if int8:
            to_int8(folder / FILE, folder / FILE, compute=compute)
        (folder / BUNDLE).write_bytes(describe(Bundle("tflite", LABELS, length, 0)))
        found[name] = (LiteRTEngine(folder), megabytes(folder / FILE))
    folder = root / "onnx"
    folder.mkdir()
    to_onnx(torch_engine, 20, folder / ONNX_FILE)
    (folder / BUNDLE).write_bytes(describe(Bundle("onnx", LABELS, length, 0)))
    found["ONNX Runtime float32"] = (OnnxEngine(folder), megabytes(folder / ONNX_FILE))
    return found


def save(shape: ModelConfig, folder: Path) -> None:
    """A Model folder of random weights."""
    words = {f"w{number}": number for number in range(VOCABULARY)}
    words |= {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="[UNK]")),
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
    )
    words_folder = folder.with_name("tokenizer")
    tokenizer.save_pretrained(words_folder)
    model = build(shape, Vocabulary(VOCABULARY, 0), Labels(LABELS), seed=0)
    save_model(model, words_folder, {"kind": "classify"}, max(LENGTHS), folder)


def megabytes(path: Path) -> float:
    """Size of a file."""
    return path.stat().st_size / 1e6


def race(title: str, shape: ModelConfig, length: int) -> list[str]:
    """The table's lines for one shape and length."""
    with scratch() as root:
        found = engines(shape, length, Path(root))
        ids = [[5 + place % 7 for place in range(length)]]
        calls = [partial(engine.logits, ids) for engine, _ in found.values()]
        races = [race_ms(calls, rounds=ROUNDS) for _ in range(RACES)]
        torch_ms = median(race[0] for race in races)
        return [
            f"| {title} | {length} | {name} | {times(taken, torch_ms)} | {size:.2f} |"
            for (name, (_, size)), *taken in zip(found.items(), *races, strict=True)
        ]


def times(taken: list[float], torch_ms: float) -> str:
    """The cells of one engine's medians: their median, their span, and how much faster it is."""
    middle = median(taken)
    return f"{middle:.2f} | {min(taken):.2f}-{max(taken):.2f} | {torch_ms / middle:.1f}"


def main() -> None:
    """Race the engines of each shape at each length, and write the table."""
    shapes = {"NANO (2 x 128)": NANO, "MINI (4 x 256)": MINI}
    rows = [
        row
        for title, shape in shapes.items()
        for length in LENGTHS
        for row in race(title, shape, length)
    ]
    flags = Path("/proc/cpuinfo").read_text()
    wide = [name for name in ("avx2", "avx512f", "avx512_vnni") if f" {name}" in flags]
    versions = [f"{name} {version(name)}" for name in PACKAGES]
    how = f"median of {RACES} races' medians of {ROUNDS} rounds, 1 thread, batch 1"
    machine = f"{platform.machine()} with {', '.join(wide)}"
    head = f"`python benchmarks/engines.py`: {how}; {machine}; {', '.join(versions)}."
    columns = [
        "| shape | tokens | engine | ms a text | lowest-highest | speed over torch | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    text = "\n".join(["# Engines", "", head, "", *columns, *rows, ""])
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
