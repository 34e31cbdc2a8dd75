"""Full rows: every token once, documents whole where they fit, boundaries where documents start."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pipelines.tokenizer.fast import Library, open_encoder
from pipelines.tokens.encode import Encoded
from pipelines.tokens.pack import Flat, best_fit, concat, fit, flat

DOCUMENTS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=30), max_size=25)


def made(documents: list[list[int]]) -> Flat:
    """Documents at the places 0, 10, 20 and so on, each with an end token 0."""
    closed = [[*ids, 0] for ids in documents]
    return Flat(
        np.array([token for ids in closed for token in ids], np.uint16),
        np.cumsum([0, *map(len, closed)]).astype(np.int64),
        np.arange(len(closed), dtype=np.int64) * 10,
    )


def rows(encoded: Encoded) -> list[list[tuple[int, int, list[int]]]]:
    """Each row's pieces: the document's place, the token in it, the tokens."""
    found = []
    records, pieces = encoded.rows.tolist(), encoded.pieces.tolist()
    ends = [piece[0] for piece in pieces[1:]] + [len(encoded.tokens)]
    for (first, head, place), (_, next_head, _) in itertools.pairwise(records):
        row = [
            (pieces[n][1], pieces[n][2], encoded.tokens[pieces[n][0] : ends[n]].tolist())
            for n in range(head, next_head)
        ]
        assert (first, place) == (pieces[head][0], row[0][0])
        found.append(row)
    return found


def test_concat_cuts_wherever_a_row_is_full() -> None:
    found = rows(concat(made([[1, 2], [3], [4, 5, 6, 7]]), 4))
    assert found == [
        [(0, 0, [1, 2, 0]), (10, 0, [3])],
        [(10, 1, [0]), (20, 0, [4, 5, 6])],
        [(20, 3, [7, 0])],
    ]


def test_best_fit_cuts_no_document_that_fits() -> None:
    """The same three: 5 tokens are cut into 4 and a rest, which fits behind the first document."""
    found = rows(best_fit(made([[1, 2], [3], [4, 5, 6, 7]]), 4))
    assert found == [
        [(0, 0, [1, 2, 0]), (20, 4, [0])],
        [(10, 0, [3, 0])],
        [(20, 0, [4, 5, 6, 7])],
    ]


def test_the_fullest_row_with_room_is_taken() -> None:
    """Rows of 10 after 7 and 6 have 3 and 4 left: the 3 goes to the first, the 2 to the other."""
    assert fit([7, 6, 3, 2], 10) == [[0, 2], [1, 3]]
    assert fit([2, 3, 6, 7], 10) == [[0, 2], [1, 3]]
    assert fit([], 10) == []


@given(documents=DOCUMENTS, length=st.integers(1, 12))
def test_both_keep_every_token_of_every_document_in_order(
    documents: list[list[int]], length: int
) -> None:
    for encoded in (concat(made(documents), length), best_fit(made(documents), length)):
        pieces = sorted(piece for row in rows(encoded) for piece in row)
        found: dict[int, list[int]] = {}
        for place, first, ids in pieces:
            assert len(found.setdefault(place, [])) == first
            found[place] += ids
        assert found == {10 * n: [*ids, 0] for n, ids in enumerate(documents)}
        assert encoded.counts["documents"] == len(documents)
        assert encoded.rows[-1].tolist() == [len(encoded.tokens), len(encoded.pieces), -1]


@given(documents=DOCUMENTS, length=st.integers(1, 12))
def test_rows_are_never_longer_and_best_fit_cuts_only_what_must_be(
    documents: list[list[int]], length: int
) -> None:
    full = rows(concat(made(documents), length))
    assert [sum(len(ids) for *_, ids in row) for row in full[:-1]] == [length] * len(full[:-1])
    fitted = rows(best_fit(made(documents), length))
    assert all(sum(len(ids) for *_, ids in row) <= length for row in fitted)
    pieces = [piece for row in fitted for piece in row]
    assert len(pieces) == sum(-(-(len(ids) + 1) // length) for ids in documents)


@given(sizes=st.lists(st.integers(1, 20), max_size=60))
def test_best_fit_needs_few_rows(sizes: list[int]) -> None:
    """Of two rows half empty, either would have gone into the other."""
    found = fit(sizes, 20)
    assert sorted(piece for row in found for piece in row) == list(range(len(sizes)))
    half_empty = [row for row in found if sum(sizes[piece] for piece in row) <= 10]
    assert len(half_empty) <= 1


def test_documents_are_closed_and_empty_ones_left_out(tokenizer: Tokenizer) -> None:
    found = flat([(3, "The fox"), (5, ""), (8, "狐狸")], Library(tokenizer), 2)
    assert found.places.tolist() == [3, 8]
    assert found.tokens[found.starts[1:] - 1].tolist() == [2, 2]
    assert (
        found.tokens[: found.starts[1] - 1].tolist()
        == tokenizer.encode("The fox", add_special_tokens=False).ids
    )


@pytest.mark.parametrize("pack", [concat, best_fit])
def test_no_document_at_all_makes_no_row(pack: object, folders: dict[str, Path]) -> None:
    encoded = pack(flat([], open_encoder(folders["bpe"]), 1), 8)
    assert encoded.counts == {"documents": 0, "pieces": 0, "rows": 0, "tokens": 0}
