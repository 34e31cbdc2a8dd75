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
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).with_suffix(".md")
ROWS, LENGTH, WARM = 32, 128, 2
HELD_OUT = 40  # every so many documents one is kept apart
SMALL = {"batch_rows": 16, "steps": 400, "learning_rate": 1e-3}
NO_BF16 = """
This CPU has no bf16, so the variants with it, where matrices are four times as fast and compiling
pays most, could not be measured here; the same command measures them where there is.
"""
Try = dict[str, Any]

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


# ------------------------------------------------------------------ one side, in its own process


class Clock:
    """CPU and wall seconds of the steps after the first `WARM`, given the work of each."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []

    def mark(self) -> None:
        """A step begins, or the last one has ended."""
        self.marks.append((time.process_time(), time.perf_counter()))

    def result(self, places: float, useful: float, flops: float, peak: float) -> Try:
        """Rates of the steps that count, whose mean work is given; MFU against `peak`."""
        counted = self.marks[WARM:]
        steps = len(counted) - 1
        cpu, wall = ((counted[-1][k] - counted[0][k]) / steps for k in (0, 1))
        return {
            "tokens_per_s": places / cpu,
            "wall_tokens_per_s": places / wall,
            "useful_tokens_per_s": useful / cpu,
            "mfu": flops / cpu / peak,
            "flops": flops / useful,
        }


def peak(bf16: bool) -> float:
    """FLOP/s of a large matrix product, by CPU time."""
    import torch

    kind = torch.bfloat16 if bf16 else torch.float32
    left, right = (torch.ones(1024, 1024, dtype=kind) for _ in range(2))
    best = math.inf
    for _ in range(12):
        began = time.process_time()
        torch.mm(left, right)
        best = min(best, time.process_time() - began)
    return 2 * 1024**3 / best


def ours(options: Try, folder: Path) -> Try:
    """Our loop on our rows."""
    from pipelines.tasks.config import CausalLM, MaskedLM
    from pipelines.tasks.open import Batching, Rows, open_task
    from pipelines.train.config import Optimise
    from pipelines.train.loop import fit
    from pipelines.train.throughput import costs

    bf16 = bool(options.get("bf16"))
    optimise = Optimise(
        steps=WARM + options["steps"],
        batch_rows=ROWS,
        precision="bf16" if bf16 else "fp32",
        attention=options.get("attention", "sdpa"),
        compile=options.get("compile", "off"),
    )
    causal = options["task"] == "clm"
    config = CausalLM() if causal else MaskedLM(pair="none")
    rows = Rows(
        folder / ("fitted" if options["task"] == "packed" else "rows"), folder / "tokenizer"
    )
    task, _ = open_task(config, rows, Batching(0, ROWS, optimise.shards))
    model, clock, seen = model_of(folder / ("clm-config" if causal else "mlm-config")), Clock(), []
    batches = task.batches

    def timed(step: int) -> Any:
        found = batches(step)
        seen.append(found)
        clock.mark()
        return found

    task.batches = timed  # type: ignore[method-assign]  # to see each batch as it is taken
    before = peak(bf16)
    fitted = fit(model, task, optimise, workspace(folder))
    if options.get("compile"):  # the survey of shapes is no training
        taken = WARM + options["steps"]
        clock.marks, seen = clock.marks[-taken:], seen[-taken:]
    parts = [part for step in seen[WARM:-1] for part in step]
    steps = len(seen[WARM:-1])
    work = costs(model)
    return clock.result(
        sum(part.tensors["input_ids"].numel() for part in parts) / steps,
        sum(part.tokens for part in parts) / steps,
        sum(map(work.flops, parts)) / steps,
        max(before, peak(bf16)),
    ) | {"memory_mb": fitted.measured["memory_mb"]}


def trainer(options: Try, folder: Path) -> Try:
    """transformers.Trainer on the same rows, or on padded paragraphs."""
    import torch
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback

    from pipelines.tasks.protocol import Batch
    from pipelines.tokenizer.load import open_tokenizer
    from pipelines.train.throughput import costs

    tokenizer, causal = open_tokenizer(folder / "tokenizer"), options["task"] == "clm"
    seen: list[Any] = []
    clock = Clock()
    collate = DataCollatorForLanguageModeling(tokenizer, mlm=not causal, mlm_probability=0.15)

    def collated(rows: list[Any]) -> Any:
        batch = collate(rows)
        seen.append(batch)
        return batch

    class Marks(TrainerCallback):
        """Marks each step."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            """Before the forward pass; its batch is made."""
            clock.mark()

    steps = WARM + options["steps"]
    count = ROWS * steps
    if options["task"] == "padded":
        texts = json.loads((folder / "paragraphs.json").read_text())
        order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0)).tolist()
        chosen = [texts[at] for at in order[:count]]
        cut = tokenizer(chosen, truncation=True, max_length=LENGTH)
        rows = [
            {name: cut[name][at] for name in ("input_ids", "attention_mask")} for at in range(count)
        ]
    else:
        rows = [{"input_ids": row} for row in rows_of(folder / "rows", count)]
    model = model_of(
        folder / ("clm-config" if causal else "mlm-config"), options.get("dropout", 0.0), full=True
    )
    bf16 = bool(options.get("bf16"))
    before = peak(bf16)
    learner = Trainer(
        model, arguments(steps, ROWS, 5e-4, bf16=bf16), collated, rows, callbacks=[Marks()]
    )
    learner.train()
    work, steps = costs(model), len(clock.marks) - 1 - WARM
    counted = seen[WARM : WARM + steps]
    masks = [batch.get("attention_mask", torch.ones_like(batch["input_ids"])) for batch in counted]
    useful = sum(int(mask.sum()) for mask in masks)
    flops = sum(
        work.flops(Batch({"input_ids": mask, "attention_mask": mask}, {}, (0,), 0, int(mask.sum())))
        for mask in masks
    )
    places = sum(mask.numel() for mask in masks)
    return clock.result(places / steps, useful / steps, flops / steps, max(before, peak(bf16)))


def arguments(steps: int, rows: int, rate: float, *, bf16: bool = False, seed: int = 0) -> Any:
    """Trainer's, alike to ours: fused AdamW, warm-up, linear decay, clipping at 1."""
    from transformers import TrainingArguments

    return TrainingArguments(
        tempfile.mkdtemp(), max_steps=steps, per_device_train_batch_size=rows, learning_rate=rate,
        warmup_steps=round(0.1 * steps), weight_decay=0.01, max_grad_norm=1.0, bf16=bf16,
        optim="adamw_torch_fused", use_cpu=True, report_to=[], save_strategy="no", seed=seed,
        logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip


def model_of(config: Path, dropout: float = 0.0, *, full: bool = False, seed: int = 0) -> Any:
    """A model of that config with fresh weights; `full` is the class Trainer would be given."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, BertForMaskedLM, BertForPreTraining

    found = AutoConfig.from_pretrained(config)
    found._attn_implementation = "sdpa"
    torch.manual_seed(seed)
    if found.model_type != "bert":
        return AutoModelForCausalLM.from_config(found)
    found.hidden_dropout_prob = found.attention_probs_dropout_prob = dropout
    return (BertForMaskedLM if full else BertForPreTraining)(found)


def rows_of(folder: Path, count: int) -> Iterator[list[int]]:
    """Whole rows of a Tokens folder, drawn evenly."""
    from pipelines.tokens.shards import Tokens

    tokens = Tokens(folder)
    for at in range(count):
        yield tokens.row(at * (tokens.num_rows - 1) // count).ids.tolist()


def workspace(folder: Path) -> Any:
    """A fresh one."""
    from pipelines.core.artifact import Workspace
    from pipelines.core.storage import Store

    return Workspace.take(Store.at(tempfile.mkdtemp(dir=folder)))


# ------------------------------------------------------------------ quality: a small model's loss


def quality(options: Try, folder: Path) -> Try:
    """Held-out loss of masked words after the same tokens, of either side."""
    import torch

    from pipelines.tasks.config import MaskedLM
    from pipelines.tasks.open import Batching, Rows, open_task
    from pipelines.train.config import Optimise
    from pipelines.train.loop import fit

    seed, theirs = options["seed"], options["side"] == "trainer"
    model = model_of(folder / "small-config", full=theirs, seed=seed)
    began = time.process_time()
    if theirs:
        from transformers import DataCollatorForLanguageModeling, Trainer

        from pipelines.tokenizer.load import open_tokenizer

        collate = DataCollatorForLanguageModeling(open_tokenizer(folder / "small-tokenizer"))
        count = SMALL["steps"] * SMALL["batch_rows"]
        rows = [{"input_ids": row} for row in rows_of(folder / "small-rows", count)]
        wanted = arguments(SMALL["steps"], SMALL["batch_rows"], SMALL["learning_rate"], seed=seed)
        Trainer(model, wanted, collate, rows).train()
    else:
        optimise = Optimise(seed=seed, precision="fp32", checkpoint_steps=10_000, **SMALL)
        order = Batching(seed, optimise.batch_rows, optimise.shards)
        rows = Rows(folder / "small-rows", folder / "small-tokenizer")
        task, _ = open_task(MaskedLM(pair="none"), rows, order)
        fit(model, task, optimise, workspace(folder))
    seconds = time.process_time() - began
    rows = Rows(folder / "small-held-out", folder / "small-tokenizer")
    judge, _ = open_task(MaskedLM(pair="none"), rows, Batching(0, 64, 1))
    total = count = 0.0
    model.eval()
    with torch.no_grad():
        for step in range(judge.num_rows // 64):
            (batch,) = judge.batches(step)
            total += float(judge.sums(model, batch)["masked_loss"])
            count += batch.predicted
    return {"loss": total / count, "predicted": count, "cpu_s": seconds}


# ------------------------------------------------------------------ workers: gloo, a thread each


def worker(rank: int, options: Try, folder: Path, place: Path) -> None:
    """One of the processes that learn together; process 0 leaves the figures."""
    import torch
    from torch import distributed

    from pipelines.core.artifact import Workspace
    from pipelines.core.storage import Store
    from pipelines.tasks.config import MaskedLM
    from pipelines.tasks.open import Batching, Rows, open_task
    from pipelines.train.config import Optimise
    from pipelines.train.loop import fit

    torch.set_num_threads(1)
    size, batch_rows = options["workers"], options["rows"]
    address = f"file://{place}/rendezvous"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=size)
    optimise = Optimise(steps=options["steps"], batch_rows=batch_rows, shards=2)
    rows = Rows(folder / "rows", folder / "tokenizer")
    task, _ = open_task(MaskedLM(pair="none"), rows, Batching(0, batch_rows, 2))
    epoch = (place / "work" / ".epoch").read_text()
    out = Workspace(Store.at(str(place / "work")), epoch)
    fitted = fit(model_of(folder / "mlm-config"), task, optimise, out)
    if not rank:
        (place / "measured.json").write_text(json.dumps(fitted.measured))
    distributed.destroy_process_group()


def workers(options: Try, folder: Path) -> Try:
    """The same steps by so many processes."""
    from torch import multiprocessing

    from pipelines.core.artifact import Workspace
    from pipelines.core.storage import Store

    place = Path(tempfile.mkdtemp(dir=folder))
    Workspace.take(Store.at(str(place / "work")))
    multiprocessing.spawn(worker, (options, folder, place), nprocs=options["workers"])
    found: Try = json.loads((place / "measured.json").read_text())
    return found


# ------------------------------------------------------------------ tries in turns, and the report


def attempt(name: str, options: Try, folder: Path) -> None:
    """One try in a process of its own; its figures are added to the raw file."""
    python = os.environ["RAYLINE_ACCELERATE_PYTHON"] if "side" in options else sys.executable
    command = [python, __file__, "try", "--folder", str(folder), "--options", json.dumps(options)]
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


def one_try(options: Try, folder: Path) -> Try:
    """What `attempt` starts."""
    import torch

    torch.set_num_threads(1)
    if "workers" in options:
        return workers(options, folder)
    if "quality" in options:
        return quality(options, folder)
    return ours(options, folder) if options["side"] == "ours" else trainer(options, folder)


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
    parts = ("prepare", "speed", "quality", "workers", "report", "try")
    parser.add_argument("part", choices=parts)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "pretrain")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="steps of a try of `speed`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", default="", help="tries whose name holds this")
    parser.add_argument("--options", type=json.loads)
    options = parser.parse_args()
    folder = options.folder
    if options.part == "prepare":
        prepare(options.data, folder)
    elif options.part == "try":
        print(json.dumps(one_try(options.options, folder)))
    elif options.part == "report":
        RESULTS.write_text(report(folder))
        print(RESULTS.read_text())
    else:
        if "RAYLINE_ACCELERATE_PYTHON" not in os.environ and options.part != "workers":
            parser.error("set RAYLINE_ACCELERATE_PYTHON (see the head of this file)")
        take(options, folder)


if __name__ == "__main__":
    main()
