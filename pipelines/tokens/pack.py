"""Documents -> full rows for causal training: end to end (`concat`) or fitted (`best-fit`).

Each document ends with the end-of-text token. Every row keeps where its pieces of documents start,
so attention can be held within documents; what text holds can move no boundary, for the boundaries
are not read off the tokens.

`concat` cuts at every `length` tokens, wherever that falls. `best-fit` (Ding et al. 2024,
arXiv:2404.10830, section 3) cuts only documents longer than a row, into rows and a rest, and then
places the longest piece first into the fullest row that still has room for it.
"""

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.tokenizer.fast import Encoder
from pipelines.tokens.encode import Encoded, Numbered, batches

Offsets = NDArray[np.int64]


@dataclass(frozen=True)
class Flat:
    """Documents end to end: tokens (T,); each one's first token, then T (N + 1); places (N,)."""

    tokens: NDArray[np.unsignedinteger[Any]]
    starts: Offsets
    places: Offsets


def flat(documents: Numbered, encoder: Encoder, end: int) -> Flat:
    """All documents with any token, each closed by the token `end`."""
    tokens, starts, places = bytearray(), array("q", [0]), array("q")
    code = np.dtype(np.uint16)
    for batch in batches(documents):
        for (place, _), ids in zip(batch, encoder.ids([text for _, text in batch]), strict=True):
            if len(ids):
                code = ids.dtype
                tokens += ids.tobytes() + np.array([end], code).tobytes()
                starts.append(len(tokens) // code.itemsize)
                places.append(place)
    return Flat(
        np.frombuffer(tokens, code),
        np.frombuffer(starts, np.int64),
        np.frombuffer(places, np.int64) if len(places) else np.empty(0, np.int64),
    )


def concat(found: Flat, length: int) -> Encoded:
    """Rows of exactly `length` tokens, the last one of what is left."""
    total = len(found.tokens)
    firsts = np.arange(0, total, length, dtype=np.int64)
    starts = np.union1d(firsts, found.starts[:-1])
    pieces = _pieces(found, starts)
    return Encoded(found.tokens, _rows(firsts, pieces, total), _NONE, pieces)


def best_fit(found: Flat, length: int) -> Encoded:
    """Rows of at most `length` tokens in which no document is cut that fits one."""
    starts = np.concatenate(
        [np.arange(a, b, length) for a, b in zip(found.starts, found.starts[1:], strict=False)]
        or [np.empty(0, np.int64)]
    ).astype(np.int64)
    lengths = np.diff(np.append(starts, len(found.tokens)))
    rows = fit(lengths.tolist(), length)
    order = np.array([piece for row in rows for piece in row], np.int64)
    sizes = lengths[order]
    ends = np.cumsum(sizes)
    pieces = _pieces(found, starts)[order]
    pieces[:, 0] = ends - sizes
    heads = np.cumsum([0, *(len(row) for row in rows)])[:-1]
    firsts = pieces[heads, 0]
    taken = zip(starts[order].tolist(), sizes.tolist(), strict=True)
    tokens = np.concatenate(
        [found.tokens[:0], *(found.tokens[start : start + size] for start, size in taken)]
    )
    return Encoded(tokens, _rows(firsts, pieces, len(tokens)), _NONE, pieces)


def fit(lengths: list[int], room: int) -> list[list[int]]:
    """Best-fit decreasing: which pieces, by number, share a row of `room` tokens.

    Pieces of a row, and rows by their first piece, are in the order of the pieces. The fullest row
    that fits is found by the lowest set bit of a number whose bit n says that a row has n left.
    """
    rows: list[list[int]] = []
    open_rows: list[list[int]] = [[] for _ in range(room + 1)]  # rows by what they have left
    left = 0
    for piece in sorted(range(len(lengths)), key=lambda piece: -lengths[piece]):
        size = lengths[piece]
        fitting = left >> size
        if fitting:
            space = size + (fitting & -fitting).bit_length() - 1
            row = open_rows[space].pop()
            if not open_rows[space]:
                left ^= 1 << space
        else:
            space, row = room, len(rows)
            rows.append([])
        rows[row].append(piece)
        if space > size:
            open_rows[space - size].append(row)
            left |= 1 << (space - size)
    return sorted(sorted(row) for row in rows)


_NONE = np.empty(0, np.uint32)


def _pieces(found: Flat, starts: Offsets) -> Offsets:
    """For pieces that start at `starts`: that token, the document's place, the token in it."""
    document = np.searchsorted(found.starts, starts, side="right") - 1
    return np.stack([starts, found.places[document], starts - found.starts[document]], axis=1)


def _rows(firsts: Offsets, pieces: Offsets, total: int) -> Offsets:
    """The row records of rows that start at the tokens `firsts`."""
    heads = np.searchsorted(pieces[:, 0], firsts)
    records = np.stack([firsts, heads, pieces[heads, 1]], axis=1)
    return np.concatenate([records, [[total, len(pieces), -1]]]).astype(np.int64)
