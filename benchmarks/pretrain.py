"""Pretraining beside transformers.Trainer: tokens/s, useful tokens/s, MFU, and the loss reached.

All sides learn the same shapes (BERT and Llama of 4 layers, width 256, 4 heads, MLP 1024) from the
same rows of `pretrain`, 32 x 128 tokens a step, on one thread, each try in a process of its own,
in turns. Tokens a second are of CPU time, which what else runs on the machine does not enter; the
first steps of a try do not count. Parts, each of which adds its tries to RAW, so that a long
measurement can be taken in pieces:

    python benchmarks/pretrain.py prepare --data DIR          # rows, tokenizers, model configs
    python benchmarks/pretrain.py speed --rounds 3            # masked words, next token, padding
    python benchmarks/pretrain.py quality --seeds 3           # a small model's held-out loss
    python benchmarks/pretrain.py workers --rounds 3          # 2 processes, 1: keep quiet
    python benchmarks/pretrain.py report                      # writes pretrain.md

--folder holds all of it. RAYLINE_ACCELERATE_PYTHON is the interpreter of an environment with our
torch and transformers, and accelerate 1.15, which transformers.Trainer needs. On a CPU with bf16
(avx512_bf16 or amx) further variants run; on one without they are left out, and the results say so.
"""

import argparse
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pretrain_try import LENGTH, SMALL, Try

ROOT = Path(__file__).parent.parent
RESULTS, TRY = Path(__file__).with_suffix(".md"), Path(__file__).with_name("pretrain_try.py")
HELD_OUT = 40  # every so many documents one is kept apart
NO_BF16 = """
This CPU has no bf16, so the variants with it, where matrices are four times as fast and compiling
pays most, could not be measured here; the same command measures them where there is.
"""

# name -> side, task, and what is set. The order is that of the table.
SPEED: dict[str, Try] = {
    "mlm: Trainer, its dropout of .1": {"side": "trainer", "task": "mlm", "dropout": 0.1},
    "mlm: Trainer, dropout 0": {"side": "trainer", "task": "mlm"},
    "mlm: Trainer, dropout 0, bf16": {"side": "trainer", "task": "mlm", "bf16": True},
    "mlm: ours (head on masked tokens)": {"side": "ours", "task": "mlm"},
    "mlm: ours, eager attention": {"side": "ours", "task": "mlm", "attention": "eager"},
    "mlm: ours, compiled": {"side": "ours", "task": "mlm", "compile": "on"},
    "mlm: ours, bf16": {"side": "ours", "task": "mlm", "bf16": True},
    "mlm: ours, bf16, eager attention": {
        "side": "ours", "task": "mlm", "bf16": True, "attention": "eager",
    },
    "mlm: ours, bf16, eager attention, compiled": {
        "side": "ours", "task": "mlm", "bf16": True, "attention": "eager", "compile": "on",
    },
    "clm: Trainer": {"side": "trainer", "task": "clm"},
    "clm: Trainer, bf16": {"side": "trainer", "task": "clm", "bf16": True},
    "clm: ours": {"side": "ours", "task": "clm"},
    "clm: ours, compiled": {"side": "ours", "task": "clm", "compile": "on"},
    "clm: ours, bf16": {"side": "ours", "task": "clm", "bf16": True},
    "clm: ours, bf16, compiled": {"side": "ours", "task": "clm", "bf16": True, "compile": "on"},
    "padding: Trainer, a paragraph a row": {"side": "trainer", "task": "padded"},
    "padding: ours, paragraphs packed": {"side": "ours", "task": "packed"},
}  # fmt: skip
BASES = {"mlm": "mlm: Trainer, its dropout of .1", "clm": "clm: Trainer",
         "padding": "padding: Trainer, a paragraph a row"}  # fmt: skip


def has_bf16() -> bool:
    """Whether this CPU multiplies in bf16."""
    import torch

    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


# ------------------------------------------------------------------ rows, tokenizers, configs


def prepare(data: Path, folder: Path) -> None:
    """Write both tokenizers, the Tokens of every kind, and the models' configs."""
    import gzip

    from transformers import BertTokenizerFast

    from pipelines.model.build import Vocabulary, build
    from pipelines.model.config import ModelConfig
    from pipelines.tokenizer.config import TokenizerConfig
    from pipelines.tokenizer.load import open_tokenizer
    from pipelines.tokenizer.train import train

    texts: list[str] = []
    for path in sorted(data.glob("pretrain/en_*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            found = [json.loads(line)["text"] for line in lines]
        texts += found[:: max(1, len(found) // 300)]  # about 300 documents of each file
    vocabulary = data / "models" / "bert-base-uncased-vocab.txt"
    words = [line.rstrip("\n") for line in vocabulary.open(encoding="utf-8")]
    large = BertTokenizerFast(vocab={word: at for at, word in enumerate(words)})
    large.save_pretrained(folder / "tokenizer")
    small = train(TokenizerConfig(corpus="@none", vocab_size=4096), texts)
    small.save_pretrained(folder / "small-tokenizer")
    learnt = [text for at, text in enumerate(texts) if at % HELD_OUT]
    paragraphs = [part for text in learnt[::4] for part in text.split("\n\n") if part.strip()]
    write(folder / "rows", learnt, folder / "tokenizer", "concat", LENGTH)
    write(folder / "fitted", paragraphs, folder / "tokenizer", "best-fit", LENGTH)
    write(folder / "small-rows", learnt, folder / "small-tokenizer", "concat", 64)
    write(folder / "small-held-out", texts[::HELD_OUT], folder / "small-tokenizer", "concat", 64)
    (folder / "paragraphs.json").write_text(json.dumps(paragraphs))
    shapes = {
        "mlm": ({"architecture": "bert", "layers": 4, "heads": 4, "width": 256}, "tokenizer"),
        "clm": ({"architecture": "llama", "layers": 4, "heads": 4, "width": 256}, "tokenizer"),
        "small": (
            {"architecture": "bert", "layers": 2, "heads": 2, "width": 128},
            "small-tokenizer",
        ),
    }
    for name, (shape, tokenizer) in shapes.items():
        config = ModelConfig(**shape, feedforward=4 * shape["width"], max_length=512)
        entries = Vocabulary.of(open_tokenizer(folder / tokenizer))
        build(config, entries, None, 0).config.save_pretrained(folder / f"{name}-config")


def write(folder: Path, texts: list[str], tokenizer: Path, packing: str, length: int) -> None:
    """A Tokens folder of the texts."""
    from pipelines.tokenizer.encode import end_of_text, open_backend
    from pipelines.tokenizer.fast import Library
    from pipelines.tokens import shards
    from pipelines.tokens.pack import best_fit, concat, flat

    encoder, end = Library(open_backend(tokenizer)), end_of_text(tokenizer)
    pack = concat if packing == "concat" else best_fit
    encoded = pack(flat(enumerate(texts), encoder, end), length)
    size = open_backend(tokenizer).get_vocab_size()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in shards.files(0, encoded, size).items():
        (folder / name).write_bytes(content)
    index = shards.index(
        [encoded.counts], length=length, vocab_size=size, tokenizer="0" * 64, packing=packing,
        end=end,
    )  # fmt: skip
    (folder / shards.INDEX).write_bytes(index)


# ------------------------------------------------------------------ tries in turns, and the report


def attempt(name: str, options: Try, folder: Path) -> None:
    """One try in a process of its own; its figures are added to the raw file."""
    python = os.environ["RAYLINE_ACCELERATE_PYTHON"] if "side" in options else sys.executable
    command = [python, str(TRY), "--folder", str(folder), "--options", json.dumps(options)]
    quiet = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=os.environ | quiet, stdout=subprocess.PIPE, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    load = round(os.getloadavg()[0], 1)
    with (folder / "raw.jsonl").open("a") as file:
        file.write(json.dumps({"name": name, "load": load} | result) + "\n")
    print(name, {key: figure(value) for key, value in result.items()}, f"load {load}", flush=True)


def figure(value: Any) -> Any:
    """Four digits of it."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def take(options: argparse.Namespace, folder: Path) -> None:
    """The tries of a part, in turns."""
    match options.part:
        case "speed":
            for _ in range(options.rounds):
                for name, one in SPEED.items():
                    if options.only in name and (not one.get("bf16") or has_bf16()):
                        attempt(name, one | {"steps": options.steps}, folder)
        case "quality":
            for seed in range(options.first, options.first + options.seeds):
                for side in ("trainer", "ours"):
                    attempt(f"quality: {side}", {"quality": 1, "side": side, "seed": seed}, folder)
        case "workers":
            for _ in range(options.rounds):
                for size in (1, 2):
                    settings = {"workers": size, "rows": 64, "steps": 2 * options.steps}
                    attempt(f"workers: {size}", settings, folder)


def spread(values: list[float], form: str) -> str:
    """Median, least and most."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def report(folder: Path) -> str:
    """The results file."""
    tries: dict[str, list[Try]] = {}
    for line in (folder / "raw.jsonl").read_text().splitlines():
        tries.setdefault(json.loads(line)["name"], []).append(json.loads(line))
    lines = []
    for name in filter(tries.get, SPEED):
        base = [one["useful_tokens_per_s"] for one in tries[BASES[name.partition(":")[0]]]]
        rate = [one["useful_tokens_per_s"] for one in tries[name]]
        ratio = statistics.median(rate) / statistics.median(base)
        mfu = [100 * one["mfu"] for one in tries[name]]
        fill = statistics.median(o["useful_tokens_per_s"] / o["tokens_per_s"] for o in tries[name])
        cells = (
            name,
            spread(rate, ",.0f"),
            f"{ratio:.2f}",
            spread(mfu, ".0f"),
            f"{fill:.2f}",
            len(rate),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    speed = "\n".join(lines)
    parts = [f"""## Speed

Useful tokens (no padding) a CPU-second, median (least to most); MFU counts what the mathematics
asks of that variant (masked head: 15 % of the head), in % of the measured peak of its precision.

| | useful tokens/s | x | MFU % | fill | n |
|---|---:|---:|---:|---:|---:|
{speed}
"""]  # fmt: skip
    if "quality: ours" in tries:
        rows = []
        for side in ("trainer", "ours"):
            losses = [one["loss"] for one in tries[f"quality: {side}"]]
            deviation = statistics.stdev(losses) if len(losses) > 1 else math.nan
            cpu = statistics.median(one["cpu_s"] for one in tries[f"quality: {side}"])
            mean = statistics.mean(losses)
            rows.append(f"| {side} | {mean:.4f} | {deviation:.4f} | {cpu:.0f} | {len(losses)} |")
        parts.append(f"""## Loss at equal tokens

BERT of 2 layers and width 128, 4,096 entries, {SMALL["steps"]} steps of {SMALL["batch_rows"]} x 64
tokens, rate {SMALL["learning_rate"]}, other seeds of weights, order and masks each time; the loss
on masked words at {tries["quality: ours"][0]["predicted"]:.0f} held-out places, the same for all.

| | mean loss | sd over seeds | CPU-s | n |
|---|---:|---:|---:|---:|
{chr(10).join(rows)}
""")  # fmt: skip
    if "workers: 2" in tries:
        one, two = ([o["tokens_per_s"] for o in tries[f"workers: {k}"]] for k in (1, 2))
        gain = statistics.median(two) / statistics.median(one)
        loads = [o["load"] for k in (1, 2) for o in tries[f"workers: {k}"]]
        parts.append(f"""## Two workers

64 x 128 tokens a step, gloo, a thread each, tokens a second of wall-clock time: 1 process
{spread(one, ",.0f")}, 2 processes {spread(two, ",.0f")}: {gain:.2f} times (n = {len(one)}; load
{min(loads)} to {max(loads)} on {os.cpu_count()} cores).
""")  # fmt: skip
    missing = "" if has_bf16() else NO_BF16
    loads = [one["load"] for found in tries.values() for one in found]
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("torch", "transformers"))
    return f"""# Pretraining, ours and transformers.Trainer's

Written by `python benchmarks/pretrain.py report` after `speed`, `quality` and `workers`.
{platform.machine()}, {os.cpu_count()} cores, load {min(loads)} to {max(loads)} while measuring,
Python {platform.python_version()}, {versions}, accelerate 1.15. Shapes, rows, batch and threads:
see the head of `pretrain.py`. Trainer learns the rows as one text; ours lets no token see another
document's. Ours computes the head on masked positions alone, which is the same loss.
{missing}
{chr(10).join(parts)}"""


def main() -> None:
    """Measure a part, or write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("prepare", "speed", "quality", "workers", "report")
    parser.add_argument("part", choices=parts)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "pretrain")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="steps of a try of `speed`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", default="", help="tries whose name holds this")
    options = parser.parse_args()
    folder = options.folder
    if options.part == "prepare":
        prepare(options.data, folder)
    elif options.part == "report":
        RESULTS.write_text(report(folder))
        print(RESULTS.read_text())
    else:
        if "RAYLINE_ACCELERATE_PYTHON" not in os.environ and options.part != "workers":
            parser.error("set RAYLINE_ACCELERATE_PYTHON (see the head of this file)")
        take(options, folder)


if __name__ == "__main__":
    main()
