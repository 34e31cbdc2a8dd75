"""Documents -> token rows: split into sentences, encoded, packed into rows of one document each.

A row is a run of whole sentences of one document that leaves room for `[CLS] A [SEP] B [SEP]`. Rows
never cross documents, so attention never sees two of them (Ding et al. 2024, arXiv:2404.10830);
they end at sentences, so a next-sentence pair can be cut out of any row. `pack.py` packs rows for
causal training.
"""

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pipelines.tokenizer.fast import Encoder, Ids, Library
from pipelines.tokens.sentences import sentences

SPECIAL_TOKENS = 3  # [CLS] A [SEP] B [SEP]
BATCH = 64  # documents encoded in one call: the library's encodings take 100 bytes a token
BATCH_CHARS = 1_000_000  # and no more text than this, but for one longer document

Numbered = Iterable[tuple[int, str]]
"""Texts, each with the place of its document in the corpus part."""


@dataclass(frozen=True)
class Encoded:
    """The rows of one shard; the arrays are laid out as `shards.py` says."""

    tokens: NDArray[np.unsignedinteger[Any]]
    rows: NDArray[np.int64]
    sentences: NDArray[np.uint32]
    pieces: NDArray[np.int64] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many documents, sentences (or pieces of documents), rows and tokens there are."""
        places = self.rows[:-1, 2] if self.pieces is None else self.pieces[:, 1]
        inner = {"sentences": len(self.sentences)}
        return {
            "documents": len(np.unique(places)),
            **(inner if self.pieces is None else {"pieces": len(self.pieces)}),
            "rows": len(self.rows) - 1,
            "tokens": len(self.tokens),
        }


def encode(documents: Numbered, encoder: Encoder | Tokenizer, length: int) -> Encoded:
    """Rows of at most `length` tokens, special tokens among them, of numbered documents."""
    if isinstance(encoder, Tokenizer):
        encoder = Library(encoder)
    tokens, rows, starts = array("I"), array("q"), array("I")
    for number, ids in _encoded_sentences(documents, encoder):
        for row in pack(ids, length - SPECIAL_TOKENS):
            rows.extend((len(tokens), len(starts), number))
            first = len(tokens)
            for sentence in row:
                starts.append(len(tokens) - first)
                tokens.frombytes(sentence.astype(np.uint32).tobytes())
    rows.extend((len(tokens), len(starts), -1))
    return Encoded(
        tokens=np.frombuffer(tokens, dtype=np.uint32),
        rows=np.frombuffer(rows, dtype=np.int64).reshape(-1, 3),
        sentences=np.frombuffer(starts, dtype=np.uint32),
    )


def pack(ids: Sequence[Any], room: int) -> list[list[Any]]:
    """Rows of whole sentences, each of at most `room` tokens; a longer sentence is cut.

    Greedy, in order: a row takes the next sentence while it fits.
    """
    rows: list[list[Any]] = []
    left = 0
    for sentence in ids:
        for start in range(0, len(sentence), room):
            piece = sentence if len(sentence) <= room else sentence[start : start + room]
            if len(piece) > left:
                rows.append([])
                left = room
            rows[-1].append(piece)
            left -= len(piece)
    return rows


def batches(documents: Numbered) -> Iterator[list[tuple[int, str]]]:
    """The documents in runs of `BATCH`, shorter where they hold more than `BATCH_CHARS`."""
    held: list[tuple[int, str]] = []
    size = 0
    for document in documents:
        held.append(document)
        size += len(document[1])
        if len(held) == BATCH or size > BATCH_CHARS:
            yield held
            held, size = [], 0
    if held:
        yield held


def _encoded_sentences(documents: Numbered, encoder: Encoder) -> Iterator[tuple[int, list[Ids]]]:
    """Each document's number and its sentences' ids."""
    for batch in batches(documents):
        split = [sentences(text) for _, text in batch]
        ids = iter(encoder.ids(list(itertools.chain.from_iterable(split))))
        for (number, _), pieces in zip(batch, split, strict=True):
            yield number, list(itertools.islice(ids, len(pieces)))
