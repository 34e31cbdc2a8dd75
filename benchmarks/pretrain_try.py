"""One try of `pretrain.py`, in a process of its own: one side learns for some steps.

python benchmarks/pretrain_try.py --folder DIR --options JSON      prints its figures as JSON
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROWS, LENGTH, WARM = 32, 128, 2
SMALL = {"batch_rows": 16, "steps": 400, "learning_rate": 1e-3}  # of the model whose loss is told
Try = dict[str, Any]


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
    from pipelines.tasks.open import Rows, open_task
    from pipelines.train.config import Optimise
    from pipelines.train.loop import batches_of, fit
    from pipelines.train.throughput import Meter, costs

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
    task, _ = open_task(config, rows, 0)
    batches = batches_of(task, optimise)
    model, clock, seen = model_of(folder / ("clm-config" if causal else "mlm-config")), Clock(), []
    work_of = Meter.work

    def timed(meter: Meter, parts: list[Any]) -> Any:
        """A step's batch is there, and is about to be learnt."""
        seen.append(parts)
        clock.mark()
        return work_of(meter, parts)

    Meter.work = timed  # type: ignore[method-assign]  # to see each batch as it is learnt
    before = peak(bf16)
    fitted = fit(model, batches, optimise, workspace(folder))
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

    from pipelines.tasks.batches import Batches
    from pipelines.tasks.config import MaskedLM
    from pipelines.tasks.open import Rows, open_task
    from pipelines.train.config import Optimise
    from pipelines.train.loop import batches_of, fit

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
        rows = Rows(folder / "small-rows", folder / "small-tokenizer")
        task, _ = open_task(MaskedLM(pair="none"), rows, seed)
        fit(model, batches_of(task, optimise), optimise, workspace(folder))
    seconds = time.process_time() - began
    rows = Rows(folder / "small-held-out", folder / "small-tokenizer")
    judge, _ = open_task(MaskedLM(pair="none"), rows, 0)
    held = Batches(judge, seed=0, batch_rows=64, parts=1)
    total = count = 0.0
    model.eval()
    with torch.no_grad():
        for step in range(held.num_rows // 64):
            batch = held.part(step, 0)
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
    from pipelines.tasks.open import Rows, open_task
    from pipelines.train.config import Optimise
    from pipelines.train.loop import batches_of, fit

    torch.set_num_threads(1)
    size, batch_rows = options["workers"], options["rows"]
    address = f"file://{place}/rendezvous"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=size)
    optimise = Optimise(steps=options["steps"], batch_rows=batch_rows, shards=2)
    rows = Rows(folder / "rows", folder / "tokenizer")
    task, _ = open_task(MaskedLM(pair="none"), rows, 0)
    epoch = (place / "work" / ".epoch").read_text()
    out = Workspace(Store.at(str(place / "work")), epoch)
    fitted = fit(model_of(folder / "mlm-config"), batches_of(task, optimise), optimise, out)
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


def one_try(options: Try, folder: Path) -> Try:
    """What is asked for."""
    import torch

    torch.set_num_threads(1)
    if "workers" in options:
        return workers(options, folder)
    if "quality" in options:
        return quality(options, folder)
    return ours(options, folder) if options["side"] == "ours" else trainer(options, folder)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--options", type=json.loads, required=True)
    options = parser.parse_args()
    print(json.dumps(one_try(options.options, options.folder)))


if __name__ == "__main__":
    main()
