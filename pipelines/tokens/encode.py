"""Documents -> token rows: split into sentences, encoded, packed into rows of one document each.

A row is a run of whole sentences of one document that leaves room for `[CLS] A [SEP] B [SEP]`. Rows
never cross documents, so attention never sees two of them (Ding et al. 2024, arXiv:2404.10830);
they end at sentences, so a next-sentence pair can be cut out of any row.
"""

import itertools
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pipelines.tokenizer.encode import plain_ids
from pipelines.tokens.sentences import sentences

SPECIAL_TOKENS = 3  # [CLS] A [SEP] B [SEP]
BATCH = 64  # documents encoded in one call: the library's encodings take 100 bytes a token


@dataclass(frozen=True)
class Encoded:
    """The rows of one shard; the arrays are laid out as `shards.py` says."""

    tokens: NDArray[np.uint32]
    rows: NDArray[np.int64]
    sentences: NDArray[np.uint32]

    @property
    def counts(self) -> dict[str, int]:
        """How many documents, sentences, rows and tokens there are."""
        return {
            "documents": len(np.unique(self.rows[:-1, 2])),
            "sentences": len(self.sentences),
            "rows": len(self.rows) - 1,
            "tokens": len(self.tokens),
        }


def encode(documents: Iterable[tuple[int, str]], tokenizer: Tokenizer, length: int) -> Encoded:
    """Rows of at most `length` tokens, special tokens among them, of numbered documents."""
    tokens, rows, starts = array("I"), array("q"), array("I")
    for number, ids in _encoded_sentences(documents, tokenizer):
        for row in pack(ids, length - SPECIAL_TOKENS):
            rows.extend((len(tokens), len(starts), number))
            first = len(tokens)
            for sentence in row:
                starts.append(len(tokens) - first)
                tokens.extend(sentence)
    rows.extend((len(tokens), len(starts), -1))
    return Encoded(
        tokens=np.asarray(tokens, dtype=np.uint32),
        rows=np.asarray(rows, dtype=np.int64).reshape(-1, 3),
        sentences=np.asarray(starts, dtype=np.uint32),
    )


def pack(ids: list[list[int]], room: int) -> list[list[list[int]]]:
    """Rows of whole sentences, each of at most `room` tokens; a longer sentence is cut.

    Greedy, in order: a row takes the next sentence while it fits.
    """
    rows: list[list[list[int]]] = []
    left = 0
    for sentence in ids:
        for start in range(0, len(sentence), room):
            piece = sentence[start : start + room]
            if len(piece) > left:
                rows.append([])
                left = room
            rows[-1].append(piece)
            left -= len(piece)
    return rows


def _encoded_sentences(
    documents: Iterable[tuple[int, str]], tokenizer: Tokenizer
) -> Iterator[tuple[int, list[list[int]]]]:
    """Each document's number and its sentences' ids."""
    documents = iter(documents)
    while batch := list(itertools.islice(documents, BATCH)):
        split = [sentences(text) for _, text in batch]
        ids = iter(plain_ids(tokenizer, list(itertools.chain.from_iterable(split))))
        for (number, _), pieces in zip(batch, split, strict=True):
            yield number, list(itertools.islice(ids, len(pieces)))
