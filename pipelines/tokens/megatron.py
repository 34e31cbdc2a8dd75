"""Tokens of a shard -> the `.bin` and `.idx` files of Megatron-LM's IndexedDataset.

Source: Megatron-LM, megatron/core/datasets/indexed_dataset.py (`_IndexWriter`, version 1). The
`.bin` is the tokens of all sequences, end to end. The `.idx`, all little-endian:

    9 bytes    MMIDIDX, NUL, NUL
    uint64     1, the version
    uint8      the type of a token: 8 is uint16, 4 is int32
    uint64     sequences
    uint64     documents + 1
    int32 []   tokens of each sequence
    int64 []   the byte in .bin where each sequence starts
    int64 []   the first sequence of each document, then the number of sequences

A sequence is a document with its end token, as GPT datasets want it; of rows of whole sentences it
is a sentence, as BERT and T5 datasets want it.
"""

import struct

import numpy as np
from numpy.typing import NDArray

from pipelines.tokens.encode import Encoded

HEADER = b"MMIDIDX\x00\x00"
VERSION = 1
TYPES = {"<u2": 8, "<u4": 4}  # an id that needs 32 bits fits 31, so it reads the same as int32


def files(prefix: str, encoded: Encoded, dtype: str) -> dict[str, bytes]:
    """`{prefix}.bin` and `{prefix}.idx` of a shard, whose tokens take the type `dtype`."""
    if encoded.pieces is None:
        tokens, starts, documents = _sentences(encoded)
    else:
        tokens, starts, documents = _documents(encoded, encoded.pieces)
    data = tokens.astype(dtype)
    lengths = np.diff(np.append(starts, len(data)))
    index = b"".join(
        (
            HEADER,
            struct.pack("<QBQQ", VERSION, TYPES[dtype], len(starts), len(documents)),
            lengths.astype("<i4").tobytes(),
            (starts * data.itemsize).astype("<i8").tobytes(),
            documents.astype("<i8").tobytes(),
        )
    )
    return {f"{prefix}.bin": data.tobytes(), f"{prefix}.idx": index}


Sequences = tuple[NDArray[np.unsignedinteger], NDArray[np.int64], NDArray[np.int64]]
"""Tokens, the first token of each sequence, and the first sequence of each document."""


def _sentences(encoded: Encoded) -> Sequences:
    """Sentences as sequences; of one that was cut, each part."""
    rows = encoded.rows
    firsts = np.repeat(rows[:-1, 0], np.diff(rows[:, 1]))
    begins = np.flatnonzero(np.diff(rows[:-1, 2], prepend=-1))
    documents = np.append(rows[begins, 1], len(encoded.sentences))
    return encoded.tokens, firsts + encoded.sentences, documents


def _documents(encoded: Encoded, pieces: NDArray[np.int64]) -> Sequences:
    """Documents as sequences, put together again where packing took them apart."""
    sizes = np.diff(np.append(pieces[:, 0], len(encoded.tokens)))
    order = np.lexsort((pieces[:, 2], pieces[:, 1]))
    ends = np.cumsum(sizes[order])
    taken = zip(pieces[order, 0].tolist(), sizes[order].tolist(), strict=True)
    tokens = np.concatenate(
        [encoded.tokens[:0], *(encoded.tokens[start : start + size] for start, size in taken)]
    )
    starts = (ends - sizes[order])[pieces[order, 2] == 0]
    return tokens, starts, np.arange(len(starts) + 1)
