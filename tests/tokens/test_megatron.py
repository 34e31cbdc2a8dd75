"""Megatron's files, read as its documentation says and by none of our code."""

import struct
from pathlib import Path

import numpy as np
import pytest

from pipelines.tokens import megatron
from pipelines.tokens.encode import Encoded
from pipelines.tokens.pack import Flat, best_fit, concat

DOCUMENTS = [[5, 6, 7, 8, 9, 0], [1, 0], [2, 3, 4, 0], [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]]


TYPES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 8: np.uint16}


class IndexedDataset:
    """What Megatron-LM's `_IndexReader` and `_MMapBinReader` read, and nothing else."""

    def __init__(self, prefix: Path) -> None:
        data = Path(f"{prefix}.idx").read_bytes()
        assert data[:9] == b"MMIDIDX\x00\x00"
        version, code, sequences, documents = struct.unpack("<QBQQ", data[9:34])
        assert version == 1
        self.dtype = TYPES[code]
        self.lengths = np.frombuffer(data, np.int32, sequences, 34)
        at = 34 + self.lengths.nbytes
        self.pointers = np.frombuffer(data, np.int64, sequences, at)
        at += self.pointers.nbytes
        self.documents = np.frombuffer(data, np.int64, documents, at)
        assert at + self.documents.nbytes == len(data)
        self.data = Path(f"{prefix}.bin").read_bytes()

    def __getitem__(self, number: int) -> list[int]:
        place = int(self.pointers[number])
        return np.frombuffer(self.data, self.dtype, int(self.lengths[number]), place).tolist()


def opened(folder: Path, encoded: Encoded, dtype: str = "<u2") -> IndexedDataset:
    for name, data in megatron.files("shard", encoded, dtype).items():
        (folder / name).write_bytes(data)
    return IndexedDataset(folder / "shard")


def documents() -> Flat:
    return Flat(
        np.array([token for ids in DOCUMENTS for token in ids], np.uint16),
        np.cumsum([0, *map(len, DOCUMENTS)]).astype(np.int64),
        np.array([0, 3, 4, 9], np.int64),
    )


@pytest.mark.parametrize("pack", [concat, best_fit])
@pytest.mark.parametrize("length", [4, 8, 100])
def test_a_sequence_is_a_document_whatever_packing_did_to_it(
    pack: object, length: int, tmp_path: Path
) -> None:
    found = opened(tmp_path, pack(documents(), length))
    assert [found[n] for n in range(len(found.lengths))] == DOCUMENTS
    assert found.documents.tolist() == [0, 1, 2, 3, 4]


def test_of_rows_of_sentences_a_sequence_is_a_sentence(tmp_path: Path) -> None:
    """Document 0 has [1, 2] and [3] in one row and [4] in the next; document 7 has [5]."""
    encoded = Encoded(
        np.array([1, 2, 3, 4, 5], np.uint32),
        np.array([[0, 0, 0], [3, 2, 0], [4, 3, 7], [5, 4, -1]], np.int64),
        np.array([0, 2, 0, 0], np.uint32),
    )
    found = opened(tmp_path, encoded)
    assert [found[n] for n in range(4)] == [[1, 2], [3], [4], [5]]
    assert found.documents.tolist() == [0, 3, 4]


def test_large_ids_are_int32(tmp_path: Path) -> None:
    encoded = concat(Flat(np.array([70_000, 0], np.uint32), np.array([0, 2]), np.array([0])), 8)
    found = opened(tmp_path, encoded, "<u4")
    assert found.dtype is np.int32
    assert found[0] == [70_000, 0]


def test_a_shard_without_rows_has_no_sequence(tmp_path: Path) -> None:
    empty = Flat(np.empty(0, np.uint16), np.zeros(1, np.int64), np.empty(0, np.int64))
    found = opened(tmp_path, concat(empty, 8))
    assert (len(found.lengths), found.documents.tolist()) == (0, [0])
