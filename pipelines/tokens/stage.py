"""Corpus + Tokenizer -> Tokens, on Ray Data: one task encodes one corpus part into one shard."""

import io
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pyarrow.parquet as pq

from pipelines.core.artifact import Artifact, Workspace
from pipelines.core.cluster import spread
from pipelines.core.errors import DataError
from pipelines.core.workflow import Outcome, Step
from pipelines.tokenizer.encode import open_backend
from pipelines.tokens import shards
from pipelines.tokens.config import TokensConfig
from pipelines.tokens.encode import encode


def make(config: TokensConfig, step: Step) -> Outcome:
    """Encode the corpus and write its shards and their index.

    Raises:
        DataError: the corpus has no text in the split.
    """
    corpus, tokenizer = step.inputs["corpus"], step.inputs["tokenizer"]
    parts = [name for name in corpus.files(".parquet") if name.startswith("data/")]
    started = time.perf_counter()
    counts = _encode_parts(config, step, parts) if parts else []
    seconds = time.perf_counter() - started
    total = _total(counts)
    if not total["rows"]:
        raise DataError(
            f"{corpus.uri}: no text in split {config.split!r} of {len(parts)} parts, so there is "
            "nothing to encode; expected at least one document: check tokens.split; "
            "the corpus's report.json says what its rules removed"
        )
    vocab_size = open_backend(tokenizer.local()).get_vocab_size()
    index = shards.index(
        counts, length=config.length, vocab_size=vocab_size, tokenizer=tokenizer.digest
    )
    step.out.write(shards.INDEX, index)
    return Outcome(counts=total, measured={"tokens_per_s": total["tokens"] / seconds})


def _encode_parts(config: TokensConfig, step: Step, parts: list[str]) -> list[dict[str, int]]:
    """The counts of every shard, in order, when all are written."""
    task = partial(_encode_part, config, step.inputs["corpus"], step.inputs["tokenizer"], step.out)
    counts: dict[int, dict[str, int]] = {}
    for number, done in spread(task, list(enumerate(parts))):
        counts[number] = done
        step.report({"step": len(counts), "steps": len(parts)} | _total(list(counts.values())))
    return [counts[number] for number in range(len(parts))]


def _encode_part(
    config: TokensConfig,
    corpus: Artifact,
    tokenizer: Artifact,
    out: Workspace,
    numbered: tuple[int, str],
) -> tuple[int, dict[str, int]]:
    """Write one shard, unless an earlier try did; returns its counts. Pure but for that."""
    number, part = numbered
    finished = f".counts/{number:05d}.json"
    if not out.exists(finished):
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # Ray already has a task on every core
        model = open_backend(tokenizer.local())
        documents = _documents(corpus.read(part), config.split)
        encoded = encode(documents, model, config.length)
        for name, data in shards.files(number, encoded, model.get_vocab_size()).items():
            out.write(name, data)
        out.write(finished, json.dumps(encoded.counts).encode())  # last: the shard is whole
    return number, json.loads(out.read(finished))


def _documents(part: bytes, split: str) -> Iterator[tuple[int, str]]:
    """Place in the part and text of the documents in `split`; all of them if it is empty."""
    number = 0
    for batch in pq.ParquetFile(io.BytesIO(part)).iter_batches(columns=["text", "split"]):
        for text, found in zip(batch["text"].to_pylist(), batch["split"].to_pylist(), strict=True):
            if split in ("", found):
                yield number, text
            number += 1


def _total(counts: list[dict[str, int]]) -> dict[str, int]:
    total = Counter({"documents": 0, "sentences": 0, "rows": 0, "tokens": 0})
    for shard in counts:
        total.update(shard)
    return dict(total)
