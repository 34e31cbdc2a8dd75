"""The files of Tokens: what was written is what is read, across shards and processes."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from pipelines.core.errors import ArtifactError
from pipelines.tokens import shards
from pipelines.tokens.encode import Encoded
from pipelines.tokens.shards import Tokens


def encoded(*rows: tuple[int, list[list[int]]]) -> Encoded:
    """A shard of rows given as (document, sentences)."""
    tokens: list[int] = []
    starts: list[int] = []
    records = []
    for document, sentences in rows:
        records.append((len(tokens), len(starts), document))
        lengths = [0, *(len(sentence) for sentence in sentences[:-1])]
        starts.extend(np.cumsum(lengths).tolist())
        tokens.extend(token for sentence in sentences for token in sentence)
    records.append((len(tokens), len(starts), -1))
    return Encoded(
        np.array(tokens, np.uint32), np.array(records, np.int64), np.array(starts, np.uint32)
    )


FIRST = encoded((0, [[1, 2], [3]]), (0, [[4]]), (2, [[5, 6], [7], [8]]))
EMPTY = encoded()
LAST = encoded((0, [[9, 10]]))


def write(folder: Path, *parts: Encoded, vocab_size: int = 100) -> Path:
    for number, part in enumerate(parts):
        for name, data in shards.files(number, part, vocab_size).items():
            (folder / name).write_bytes(data)
    counts = [part.counts for part in parts]
    index = shards.index(counts, length=8, vocab_size=vocab_size, tokenizer="digest")
    (folder / shards.INDEX).write_bytes(index)
    return folder


def test_rows_are_numbered_through_all_shards_empty_ones_too(tmp_path: Path) -> None:
    tokens = Tokens(write(tmp_path, FIRST, EMPTY, LAST))
    rows = [tokens.row(number) for number in range(tokens.num_rows)]
    assert [row.ids.tolist() for row in rows] == [[1, 2, 3], [4], [5, 6, 7, 8], [9, 10]]
    assert [row.sentences.tolist() for row in rows] == [[0, 2], [0], [0, 2, 3], [0]]
    assert tokens.lengths.tolist() == [3, 1, 4, 2]


def test_rows_of_one_document_share_its_number(tmp_path: Path) -> None:
    a, b, c, d = Tokens(write(tmp_path, FIRST, EMPTY, LAST)).documents.tolist()
    assert a == b
    assert len({a, c, d}) == 3


@pytest.mark.parametrize("number", [-1, 4])
def test_a_row_that_is_not_there_is_an_error(number: int, tmp_path: Path) -> None:
    with pytest.raises(IndexError, match="rows 0 to 3"):
        Tokens(write(tmp_path, FIRST, LAST)).row(number)


def test_ids_take_two_bytes_while_the_vocabulary_allows(tmp_path: Path) -> None:
    """The largest id of 65,536 entries is 65,535, which is all that 16 bits hold."""
    assert shards.dtype(65_536) == "<u2"
    assert shards.dtype(65_537) == "<u4"
    big = encoded((0, [[65_536]]))
    assert Tokens(write(tmp_path, big, vocab_size=65_537)).row(0).ids.tolist() == [65_536]


def test_it_pickles_by_its_folder_and_not_its_data(tmp_path: Path) -> None:
    tokens = Tokens(write(tmp_path, FIRST, LAST))
    tokens.row(0)
    pickled = pickle.dumps(tokens)
    assert len(pickled) < 1000
    assert pickle.loads(pickled).row(3).ids.tolist() == [9, 10]


def test_what_it_returns_cannot_alter_the_files(tmp_path: Path) -> None:
    row = Tokens(write(tmp_path, FIRST)).row(0)
    with pytest.raises(ValueError, match="read-only"):
        row.ids[0] = 0


def test_the_layout_is_the_documented_one(tmp_path: Path) -> None:
    """Read with NumPy alone, as the module's docstring says."""
    write(tmp_path, FIRST)
    tokens, rows, sentences = (
        np.load(tmp_path / f"{name}-00000.npy") for name in ("tokens", "rows", "sentences")
    )
    assert (tokens.dtype, rows.dtype, sentences.dtype) == ("<u2", "<i8", "<u4")
    assert tokens[rows[2, 0] : rows[3, 0]].tolist() == [5, 6, 7, 8]
    assert sentences[rows[2, 1] : rows[3, 1]].tolist() == [0, 2, 3]


@pytest.mark.parametrize("text", [None, "{", '{"format": 0}'])
def test_a_folder_without_a_sound_index_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / shards.INDEX).write_text(text)
    with pytest.raises(ArtifactError, match=r"index\.json|format"):
        Tokens(tmp_path)


PACKED = Encoded(
    tokens=np.array([1, 2, 0, 3, 4, 5, 0], np.uint16),
    rows=np.array([[0, 0, 0], [4, 2, 3], [7, 3, -1]], np.int64),
    sentences=np.empty(0, np.uint32),
    pieces=np.array([[0, 0, 0], [3, 3, 0], [4, 3, 1]], np.int64),
)


def packed(folder: Path) -> Tokens:
    for cut in (0, 1):
        for name, data in shards.files(5, PACKED, 100, cut).items():
            (folder / name).write_bytes(data)
    counts = [PACKED.counts | {"part": 5, "cut": cut} for cut in (0, 1)]
    facts = {"length": 4, "vocab_size": 100, "tokenizer": "digest", "end": 0}
    (folder / shards.INDEX).write_bytes(shards.index(counts, packing="concat", **facts))
    return Tokens(folder)


def test_packed_rows_say_where_each_document_starts(tmp_path: Path) -> None:
    tokens = packed(tmp_path)
    assert (tokens.packing, tokens.end, tokens.num_rows) == ("concat", 0, 4)
    assert tokens.row(0).ids.tolist() == [1, 2, 0, 3]
    assert tokens.row(0).sentences.tolist() == [0, 3]
    assert tokens.boundaries(0).tolist() == [0, 3, 4]
    assert tokens.pieces(0) == [(0, 3, 0, 0), (3, 4, 3, 0)]
    assert tokens.pieces(3) == [(0, 3, 3, 1)]
    assert tokens.boundaries(3).tolist() == [0, 3]


def test_a_part_may_have_several_shards(tmp_path: Path) -> None:
    tokens = packed(tmp_path)
    assert [tokens.shard_of(row) for row in range(4)] == ["00005", "00005", "00005-1", "00005-1"]
    assert (tmp_path / "pieces-00005-1.npy").exists()
    assert tokens.lengths.tolist() == [4, 3, 4, 3]


def test_a_row_of_one_document_is_one_piece_of_it(tmp_path: Path) -> None:
    tokens = Tokens(write(tmp_path, FIRST, EMPTY, LAST))
    assert [tokens.pieces(row) for row in range(4)] == [
        [(0, 3, 0, 0)],
        [(0, 1, 0, 3)],
        [(0, 4, 2, 0)],
        [(0, 2, 0, 0)],
    ]
    assert tokens.boundaries(2).tolist() == [0, 4]
