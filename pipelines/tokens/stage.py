"""Corpus + Tokenizer -> Tokens, on Ray Data: one task encodes one corpus part into its shards.

A shard ends after so many characters or documents, so the memory of a task is bounded by those and
by one document, whatever the part holds.
"""

import functools
import itertools
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, assert_never

from pipelines.core.artifact import Artifact, Workspace
from pipelines.core.cluster import spread
from pipelines.core.errors import DataError
from pipelines.core.workflow import Outcome, Step
from pipelines.tokenizer.encode import end_of_text, open_backend
from pipelines.tokenizer.fast import Encoder, Library, disagreement, open_encoder
from pipelines.tokenizer.sample import open_part
from pipelines.tokens import lineage, megatron, shards
from pipelines.tokens.config import TokensConfig
from pipelines.tokens.encode import Encoded, Numbered, encode
from pipelines.tokens.pack import best_fit, concat, flat

log = logging.getLogger(__name__)

SHARD_CHARS = 1 << 25  # of text a shard: 8 million tokens of English, 25 of Chinese
SHARD_DOCUMENTS = 1 << 17
READ = 64  # documents decoded at a time
# Of text on which a fast encoder must agree with the library: half a second of the library.
CHECK_PARTS, CHECK_CHARS = 16, 1_000_000


class Document(NamedTuple):
    """A document of a part: the shard it goes to, its place, its text and where it comes from."""

    shard: tuple[int, int]
    place: int
    text: str
    origin: dict[str, Any]


class Opened(NamedTuple):
    """A tokenizer's encoder, its number of entries, and the id that ends a document."""

    encoder: Encoder
    vocab_size: int
    end: int


def make(config: TokensConfig, step: Step) -> Outcome:
    """Encode the corpus and write its shards and their index.

    Raises:
        DataError: the corpus has no text in the split.
    """
    corpus, tokenizer = step.inputs["corpus"], step.inputs["tokenizer"]
    parts = [name for name in corpus.files(".parquet") if name.startswith("data/")]
    started = time.perf_counter()
    fast = _agrees(open_encoder(tokenizer.local()), config, step, parts)
    counts = _encode_parts(config, step, parts, fast=fast)
    seconds = time.perf_counter() - started
    total = _total(counts)
    if not total.get("rows"):
        raise DataError(
            f"{corpus.uri}: no text in split {config.split!r} of {len(parts)} parts, so there is "
            "nothing to encode; expected at least one document: check tokens.split; "
            "the corpus's report.json says what its rules removed"
        )
    index = shards.index(
        counts,
        length=config.length,
        vocab_size=open_backend(tokenizer.local()).get_vocab_size(),
        tokenizer=tokenizer.digest,
        packing=config.packing,
        end=None if config.packing == "document" else end_of_text(tokenizer.local()),
    )
    step.out.write(shards.INDEX, index)
    measured = {"tokens_per_s": total["tokens"] / seconds, "fast_encoder": float(fast)}
    return Outcome(counts=total, measured=measured)


def _agrees(encoder: Encoder, config: TokensConfig, step: Step, parts: list[str]) -> bool:
    """Whether the fast encoder gives the library's ids on texts from all over the corpus."""
    library = Library(open_backend(step.inputs["tokenizer"].local()))
    texts = _some_texts(step.inputs["corpus"], parts, config.split)
    found = disagreement(encoder, library, texts)
    if found is not None:
        log.warning("%s: encoding by the library instead: %s", step.name, found)
    return found is None and encoder.name != library.name


def _some_texts(corpus: Artifact, parts: list[str], split: str) -> list[str]:
    """The first texts of parts that lie evenly in the corpus, `CHECK_CHARS` at most."""
    chosen = parts[:: -(-len(parts) // CHECK_PARTS) or 1]
    share = CHECK_CHARS // max(len(chosen), 1)
    texts = []
    for part in chosen:
        left = share
        for document in _documents(corpus, part, split):
            texts.append(document.text[:left])
            left -= len(texts[-1])
            if left <= 0:
                break
    return texts


def _encode_parts(
    config: TokensConfig, step: Step, parts: list[str], *, fast: bool
) -> list[dict[str, int]]:
    """The counts of every shard, in order, when all are written."""
    inputs = (step.inputs["corpus"], step.inputs["tokenizer"])
    task = partial(_encode_part, config, *inputs, step.out, fast)
    done: dict[int, list[dict[str, int]]] = {}
    for number, counts in spread(task, list(enumerate(parts))):
        done[number] = counts
        so_far = _total(list(itertools.chain.from_iterable(done.values())))
        step.report({"step": len(done), "steps": len(parts)} | so_far)
    return [counts for number in range(len(parts)) for counts in done[number]]


def _encode_part(
    config: TokensConfig,
    corpus: Artifact,
    tokenizer: Artifact,
    out: Workspace,
    fast: bool,
    numbered: tuple[int, str],
) -> tuple[int, list[dict[str, int]]]:
    """Write a part's shards, unless an earlier try did; returns their counts. Else pure."""
    number, part = numbered
    finished = f".counts/{number:05d}.json"
    if not out.exists(finished):
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # Ray already has a task on every core
        documents = _documents(corpus, part, config.split)
        groups = itertools.groupby(documents, key=lambda document: document.shard)
        opened = _opened(tokenizer.local(), fast)
        counts = [
            _write_shard(config, opened, out, (number, cut), group)
            for cut, (_, group) in enumerate(groups)
        ]
        out.write(finished, json.dumps(counts).encode())  # last: the shards are whole
    return number, json.loads(out.read(finished))


def _write_shard(
    config: TokensConfig,
    opened: Opened,
    out: Workspace,
    number: tuple[int, int],
    documents: Iterator[Document],
) -> dict[str, int]:
    """Write the shard of a part's cut, given both numbers, and return its counts."""
    origins: list[dict[str, Any]] = []
    encoded = _encoded(config, _noted(documents, origins), opened.encoder, opened.end)
    files = shards.files(number[0], encoded, opened.vocab_size, number[1])
    name = shards.shard(*number)
    files[shards.documents_file(name)] = lineage.parquet(origins)
    if config.megatron:
        kind = shards.dtype(opened.vocab_size)
        files |= megatron.files(f"megatron-{name}", encoded, kind)
    for file, data in files.items():
        out.write(file, data)
    return encoded.counts | {"part": number[0], "cut": number[1]}


@functools.lru_cache(maxsize=1)
def _opened(folder: Path, fast: bool) -> Opened:
    """What `_encode_part` needs of a tokenizer, kept for the next parts of the process.

    They take a second to open, and the encoder knows the words of the parts before; what it gives
    does not depend on them.
    """
    backend = open_backend(folder)
    encoder = open_encoder(folder) if fast else Library(backend)
    return Opened(encoder, backend.get_vocab_size(), end_of_text(folder))


def _encoded(config: TokensConfig, documents: Numbered, encoder: Encoder, end: int) -> Encoded:
    match config.packing:
        case "document":
            return encode(documents, encoder, config.length)
        case "concat":
            return concat(flat(documents, encoder, end), config.length)
        case "best-fit":
            return best_fit(flat(documents, encoder, end), config.length)
        case _:
            assert_never(config.packing)


def _noted(
    documents: Iterator[Document], origins: list[dict[str, Any]]
) -> Iterator[tuple[int, str]]:
    """The documents' places and texts, while their origins are added to `origins`."""
    for document in documents:
        origins.append({"place": document.place} | document.origin)
        yield document.place, document.text


def _documents(corpus: Artifact, part: str, split: str) -> Iterator[Document]:
    """The documents of a part that are in `split`; all of them if it is empty."""
    characters = documents = place = 0
    with open_part(corpus, part) as file:
        known = set(file.schema_arrow.names)
        columns = ["text", "split", *(name for name in lineage.ORIGIN if name in known)]
        for batch in file.iter_batches(READ, columns=columns):
            origins = batch.select(columns[2:]).to_pylist()
            texts, splits = (batch[name].to_pylist() for name in columns[:2])
            for text, found, origin in zip(texts, splits, origins, strict=True):
                if split in ("", found):
                    shard = (characters // SHARD_CHARS, documents // SHARD_DOCUMENTS)
                    yield Document(shard, place, text, origin)
                    characters, documents = characters + len(text), documents + 1
                place += 1


def _total(counts: list[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for shard in counts:
        total.update({name: n for name, n in shard.items() if name not in ("part", "cut")})
    return dict(total)
