"""How sentences become rows."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pipelines.tokenizer.encode import plain_ids
from pipelines.tokens.encode import BATCH_CHARS, SPECIAL_TOKENS, batches, encode, pack
from pipelines.tokens.sentences import sentences

SENTENCES = st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=12)


def test_neighbouring_sentences_share_a_row_while_they_fit() -> None:
    assert pack([[1, 2], [3, 4], [5], [6, 7, 8]], 5) == [[[1, 2], [3, 4], [5]], [[6, 7, 8]]]


def test_a_sentence_longer_than_a_row_is_cut() -> None:
    assert pack([[1], [2, 3, 4, 5, 6, 7], [8]], 3) == [[[1]], [[2, 3, 4]], [[5, 6, 7]], [[8]]]
    assert pack([[1, 2, 3, 4], [5]], 3) == [[[1, 2, 3]], [[4], [5]]]


def test_a_sentence_with_no_tokens_is_no_sentence() -> None:
    assert pack([[], [1], []], 3) == [[[1]]]
    assert pack([[]], 3) == []


@given(ids=SENTENCES, room=st.integers(1, 8))
def test_packing_keeps_every_token_in_order_and_no_row_overflows(
    ids: list[list[int]], room: int
) -> None:
    rows = pack(ids, room)
    flat = [token for row in rows for sentence in row for token in sentence]
    assert flat == list(itertools.chain.from_iterable(ids))
    assert all(1 <= sum(map(len, row)) <= room for row in rows)
    assert all(sentence for row in rows for sentence in row)


def test_rows_hold_one_document_and_leave_room_for_the_special_tokens(
    tokenizer: Tokenizer,
) -> None:
    documents = [(3, "The fox ran. The dog slept! " * 5), (4, ""), (9, "狐狸跑了。狗睡着了！" * 5)]
    encoded = encode(documents, tokenizer, length=16)
    places = encoded.rows[:-1, 2]
    assert encoded.rows[-1].tolist() == [len(encoded.tokens), len(encoded.sentences), -1]
    assert (encoded.rows[1:, 0] - encoded.rows[:-1, 0]).max() <= 16 - SPECIAL_TOKENS
    for number, text in documents:
        ends = encoded.rows[1:, 0][places == number]
        starts = encoded.rows[:-1, 0][places == number]
        found = encoded.tokens[starts[0] : ends[-1]].tolist() if len(starts) else []
        assert found == [token for ids in plain_ids(tokenizer, sentences(text)) for token in ids]
    assert encoded.counts == {
        "documents": 2,
        "sentences": len(encoded.sentences),
        "rows": len(places),
        "tokens": len(encoded.tokens),
    }


def test_every_row_begins_with_a_sentence(tokenizer: Tokenizer) -> None:
    encoded = encode([(0, "The fox ran. The dog slept! " * 20)], tokenizer, length=48)
    first = encoded.rows[:-1, 1]
    assert (encoded.sentences[first] == 0).all()
    assert len(encoded.sentences) > len(first)  # and has more than one


def test_batches_are_bounded_in_text_too() -> None:
    texts = ["x" * (BATCH_CHARS // 2)] * 5 + ["y"] * 130
    sizes = [len(batch) for batch in batches(enumerate(texts))]
    assert sizes == [3, 3, 64, 64, 1]  # 1,500,000 characters, then 1,000,001


def test_batches_do_not_show_in_the_rows(tokenizer: Tokenizer) -> None:
    """130 documents cross two batches of 64; each alone gives the same tokens."""
    documents = [(number, f"The fox ran {number} times. So!") for number in range(130)]
    together = encode(documents, tokenizer, length=32)
    alone = [encode([document], tokenizer, length=32).tokens.tolist() for document in documents]
    assert together.tokens.tolist() == list(itertools.chain.from_iterable(alone))
    assert together.rows[:-1, 2].tolist() == list(range(130))
