"""Every pretraining objective from scratch on real text: held-out loss, and grammar learnt.

Nano models and a WordPiece vocabulary of 4,096 entries, one thread. A document in 25 is held out by
a hash of its text. Each objective has the same number of optimizer steps; the decoder and the
encoder of the curve have 32 times as many, and are judged on BLiMP on the way. `frequencies` is
the loss of guessing by how often a token was a target in training: what a model without any context
reaches. The pretrained decoder of 260K parameters goes on with its own tokenizer. Run:

    python benchmarks/objectives.py --data DIR [--steps 100]
"""

import argparse
import gzip
import importlib.metadata
import json
import platform
import tempfile
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash

from pipelines.core.artifact import Workspace
from pipelines.core.storage import Store
from pipelines.evaluate.language import judge_language, token_bytes
from pipelines.evaluate.minimal_pairs import Pair, judge_pairs, read_pairs
from pipelines.model.build import Vocabulary, build, start
from pipelines.model.config import ModelConfig
from pipelines.tasks.batches import Batches
from pipelines.tasks.config import CausalLM, Denoise, MaskedLM, SpanCorruption, TaskConfig
from pipelines.tasks.open import Rows, open_task
from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokenizer.encode import end_of_text, open_backend
from pipelines.tokenizer.fast import open_encoder
from pipelines.tokenizer.load import open_tokenizer
from pipelines.tokenizer.train import train
from pipelines.tokens import shards
from pipelines.tokens.config import Packing
from pipelines.tokens.encode import encode
from pipelines.tokens.pack import best_fit, concat, flat
from pipelines.train import validate
from pipelines.train.config import Constant, Optimise
from pipelines.train.loop import fit

RESULTS = Path(__file__).with_suffix(".md")
SOURCES = ("en_books", "en_web_ewt", "en_wikitext2_valid")
BOOKS, HELD_OUT = 4, 25  # every fourth chapter; one document in so many is kept apart
HELD_OUT_ROWS, RESAMPLES, BATCH_ROWS = 256, 1000, 16
LENGTH = 64
POINTS, CURVE = 4, 32  # times a curve is judged, and its steps as a multiple of the others'
ENCODER_SHARE = 2  # an encoder reads a sentence once for each token, so it is asked fewer pairs
RATE = 2e-3
COUNTED = 200  # steps whose targets make the frequencies
BERT, LLAMA = "bert-nano", ModelConfig(
    architecture="llama", layers=2, width=128, heads=4, feedforward=344
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """An objective, the model that learns it, how rows are packed, and whether BLiMP is asked."""

    name: str
    task: TaskConfig
    model: Any
    packing: Packing
    curve: bool = False


RUNS = (
    Run("next token (Llama), packed end to end", CausalLM(), LLAMA, "concat", curve=True),
    Run("masked words (BERT)", MaskedLM(pair="none"), BERT, "document", curve=True),
    Run("masked words and next sentence (BERT)", MaskedLM(), BERT, "document"),
    Run("masked words and order (BERT)", MaskedLM(pair="sentence-order"), BERT, "document"),
    Run("masked words (ModernBERT), best fit", MaskedLM(pair="none"), "modernbert-nano",
        "best-fit"),
    Run("span corruption (T5)", SpanCorruption(), "t5-nano", "document"),
    Run("denoising (BART)", Denoise(), "bart-nano", "document"),
)  # fmt: skip


def main() -> None:
    """Run all and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=4020, help="of BLiMP, for a decoder")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    texts = {held: list(documents(asked.data, held)) for held in (False, True)}
    pairs = read_pairs(asked.data / "lm_eval/blimp_a.jsonl.gz")
    pairs = pairs[:: max(1, len(pairs) // asked.pairs)]
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = Path(scratch, "tokenizer")
        config = TokenizerConfig(corpus="-", vocab_size=4096, sentinels=8)
        train(config, texts[False][::8]).save_pretrained(tokenizer)
        learn = partial(learnt, texts=texts, pairs=pairs, scratch=Path(scratch))
        found = [learn(run, tokenizer=tokenizer, steps=asked.steps) for run in RUNS]
        found.append(gone_on(learn, asked.data, asked.steps))
    facts = {"steps": asked.steps, "minutes": (time.process_time() - began) / 60}
    asked.results.write_text(report(found, texts, pairs, facts), encoding="utf-8")


def documents(data: Path, held_out: bool) -> Iterator[str]:
    """The texts learnt from, or those kept apart."""
    for name in SOURCES:
        with gzip.open(data / f"pretrain/{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                text = json.loads(line)["text"]
                if name == "en_books" and number % BOOKS:
                    continue
                if (xxhash.xxh64_intdigest(text.encode()) % HELD_OUT == 0) == held_out:
                    yield text


def gone_on(learn: Any, data: Path, steps: int) -> dict[str, Any]:
    """The pretrained decoder goes on with its own tokenizer, which begins texts with `<s>`."""
    folder = data / "models/stories260K-hf"
    run = Run("next token, pretrained 260K Llama", CausalLM(), folder, "best-fit", curve=True)
    begin = open_tokenizer(folder).bos_token_id
    found: dict[str, Any] = learn(run, tokenizer=folder, steps=steps // CURVE, begin=begin)
    return found


def learnt(
    run: Run,
    *,
    tokenizer: Path,
    steps: int,
    texts: dict[bool, list[str]],
    pairs: list[Pair],
    scratch: Path,
    begin: int | None = None,
) -> dict[str, Any]:
    """Learn a run's objective; its figures before, on the way and after."""
    steps *= CURVE if run.curve else 1
    folder = Path(tempfile.mkdtemp(dir=scratch))
    learning, judged_on = (opened(run, texts[held], tokenizer, scratch) for held in (False, True))
    model = begun(run.model, tokenizer)
    judge = partial(judged, run, judged_on, tokenizer, pairs, begin)
    before = judge(model)
    out = Workspace.take(Store.at(str(folder / "work")))
    out.write(validate.END, b"")  # `keep_judging` returns as soon as all that is there is judged
    optimise = Optimise(
        steps=steps, batch_rows=BATCH_ROWS, learning_rate=RATE, shards=1, schedule=Constant(),
        checkpoint_steps=steps,
    )  # fmt: skip
    shadow, points = deepcopy(model), []

    def figures(weights: dict[str, torch.Tensor]) -> validate.Score:
        validate.put(shadow, weights)
        points.append(judge(shadow))
        return {"loss": points[-1]["loss"]}

    def score(batch: int, wait_s: float) -> validate.Score | None:
        validate.keep_judging(out, figures)
        return validate.score_of(out, batch, wait_s)

    every = steps // POINTS if run.curve else steps
    fitted = fit(model, learning, optimise, out, validate.Judging(every, None, score))
    for point in (before, *points):
        blimp = point.get("blimp", {}).get("accuracy", float("nan"))
        print(f"{run.name}: loss {point['loss']:.3f}, BLiMP {blimp:.3f}", flush=True)
    return {
        "run": run,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "frequencies": frequencies(learning, judged_on, model.config.vocab_size),
        "points": [before, *points],
        "tokens": [round(fitted.tokens * place / len(points)) for place in range(len(points) + 1)],
    }


def opened(run: Run, texts: list[str], tokenizer: Path, scratch: Path) -> Batches:
    """The task's batches on the rows of some texts, which are encoded once for each packing."""
    folder = scratch / f"{tokenizer.name}-{run.packing}-{len(texts)}"
    if not folder.exists():
        folder.mkdir()
        write(run.packing, texts, tokenizer, folder)
    task, _ = open_task(run.task, Rows(folder, tokenizer), 0)
    return Batches(task, seed=0, batch_rows=BATCH_ROWS, parts=1)


def write(packing: Packing, texts: list[str], tokenizer: Path, folder: Path) -> None:
    """The files of Tokens."""
    encoder, size = open_encoder(tokenizer), open_backend(tokenizer).get_vocab_size()
    end = None if packing == "document" else end_of_text(tokenizer)
    if end is None:
        encoded = encode(enumerate(texts), encoder, LENGTH)
    else:
        pack = concat if packing == "concat" else best_fit
        encoded = pack(flat(enumerate(texts), encoder, end), LENGTH)
    facts = {"length": LENGTH, "vocab_size": size, "tokenizer": "0" * 64}
    index = shards.index([encoded.counts], packing=packing, end=end, **facts)
    for name, data in (shards.files(0, encoded, size) | {shards.INDEX: index}).items():
        (folder / name).write_bytes(data)


def begun(model: Any, tokenizer: Path) -> Any:
    """A model of a shape or a named size from scratch, or that of a folder."""
    if isinstance(model, Path):
        return start(model, None, 0)
    shape = ModelConfig.model_validate(model)
    return build(shape, Vocabulary.of(open_tokenizer(tokenizer)), None, 0)


def judged(
    run: Run, held: Batches, tokenizer: Path, pairs: list[Pair], begin: int | None, model: Any
) -> dict[str, Any]:
    """Held-out figures of a model, and BLiMP's where it is asked."""
    encoder = open_tokenizer(tokenizer)
    causal = isinstance(run.task, CausalLM)
    steps = min(HELD_OUT_ROWS, held.num_rows) // BATCH_ROWS
    sizes = token_bytes(encoder) if causal else None
    found = judge_language(model, held, sizes, steps=steps, resamples=RESAMPLES, seed=0)
    if run.curve:
        asked = pairs[:: ENCODER_SHARE if run.task.family == "encoder" else 1]
        found["blimp"] = judge_pairs(model, encoder, asked, begin)
    return found


def frequencies(learning: Batches, judged_on: Batches, size: int) -> float:
    """Held-out loss, in nats a target, of the frequency that each had in training, plus one."""
    counts = np.ones(size)

    def targets(batches: Batches, steps: int) -> Iterator[np.ndarray]:
        for step in range(steps):
            yield from (part.tensors["targets"].numpy() for part in batches.whole(step))

    for found in targets(learning, COUNTED):
        np.add.at(counts, found, 1)
    held = np.concatenate(list(targets(judged_on, HELD_OUT_ROWS // BATCH_ROWS)))
    return float(-np.log(counts / counts.sum())[held].mean())


def report(
    found: list[dict[str, Any]],
    texts: dict[bool, list[str]],
    pairs: list[Pair],
    facts: dict[str, Any],
) -> str:
    """The results file."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    characters = sum(map(len, texts[False])) / 1e6
    return f"""# Every objective from scratch

Written by `python benchmarks/objectives.py --steps {facts["steps"]}`:
{len(texts[False]):,} documents ({characters:.1f} million characters) of
{", ".join(SOURCES)} of `pretrain`, {len(texts[True])} held out;
{BATCH_ROWS} rows of 64 tokens a step, AdamW at {RATE} after a warm-up, fp32, one thread,
{facts["minutes"]:.0f} minutes of CPU in all. {platform.machine()}, Python
{platform.python_version()}, {told}. One seed; intervals are of
95 %, by bootstrap over the held-out batches.

## Held-out loss

In nats a predicted token, of the words alone where a pair is predicted too. Objectives predict
different tokens, so rows compare before with after and with `frequencies`, not with each other.

{losses(found)}
Share of right answers, of held-out rows, in predicting the pair:
{pair_accuracies(found)}.

## BLiMP

Share of {len(pairs):,} pairs (decoders) and {len(pairs[::ENCODER_SHARE]):,} (encoders) of the
20,100 whose acceptable sentence is the likelier one, with its standard error; chance is .500.
Warstadt et al. 2020, whole sentences.

{curves(found)}
{phenomena(found)}
## The pretrained decoder goes on

{perplexities(found[-1])}"""


def losses(found: list[dict[str, Any]]) -> str:
    """The table of all objectives."""
    lines = ["| objective | parameters | tokens seen | frequencies | before | after |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for one in found:
        first, last = one["points"][0], one["points"][-1]
        low, high = last["interval"]
        lines.append(
            f"| {one['run'].name} | {one['parameters']:,} | {one['tokens'][-1]:,} | "
            f"{one['frequencies']:.3f} | {first['loss']:.3f} | "
            f"**{last['loss']:.3f}** ({low:.3f} to {high:.3f}) |"
        )
    return "\n".join(lines) + "\n"


def pair_accuracies(found: list[dict[str, Any]]) -> str:
    """How often the pair's label was right."""
    told = []
    for one in found:
        first, last = one["points"][0], one["points"][-1]
        told += [
            f"{one['run'].name} {first[name]:.3f} before, {last[name]:.3f} after"
            for name in ("next_accuracy", "order_accuracy")
            if name in last
        ]
    return "; ".join(told)


def curves(found: list[dict[str, Any]]) -> str:
    """BLiMP accuracy by tokens seen."""
    lines = []
    for one in (one for one in found if one["run"].curve):
        lines += [f"**{one['run'].name}**", "", "| tokens seen | held-out loss | BLiMP |"]
        lines.append("|---:|---:|---:|")
        for tokens, point in zip(one["tokens"], one["points"], strict=True):
            blimp = point["blimp"]
            score = f"{blimp['accuracy']:.3f} ± {blimp['standard_error']:.3f}"
            lines.append(f"| {tokens:,} | {point['loss']:.3f} | {score} |")
        lines.append("")
    return "\n".join(lines)


def phenomena(found: list[dict[str, Any]]) -> str:
    """BLiMP accuracy by phenomenon, at the end of each curve."""
    ends = [one["points"][-1]["blimp"]["by_phenomenon"] for one in found if one["run"].curve]
    names = [one["run"].name for one in found if one["run"].curve]
    lines = [f"| phenomenon | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for name in sorted(ends[-1]):
        shares = [f"{end[name]:.3f}" if name in end else "" for end in ends]
        lines.append(f"| {name} | {' | '.join(shares)} |")
    return "\n".join(lines) + "\n"


def perplexities(one: dict[str, Any]) -> str:
    """Held-out perplexity and bits per byte by tokens seen."""
    lines = ["| tokens seen | held-out perplexity | bits per byte |", "|---:|---:|---:|"]
    lines += [
        f"| {tokens:,} | {point['perplexity']:.2f} | {point['bits_per_byte']:.3f} |"
        for tokens, point in zip(one["tokens"], one["points"], strict=True)
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
