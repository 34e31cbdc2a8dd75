"""What finds duplicates, text by text: against brute force, and the values that files rely on."""

import numpy as np
import pytest

from pipelines.corpus import dedup
from pipelines.corpus.dedup import Words, bands, fingerprint, grams, overlap, shingles


def brute(first, second, n):
    """Jaccard of word n-grams by Python sets."""
    one, two = (
        {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
        for words in (first.casefold().split(), second.casefold().split())
    )
    return len(one & two) / len(one | two)


def test_case_and_white_space_do_not_make_a_text_new():
    assert fingerprint("Hello  World\n") == fingerprint("hello world")
    assert fingerprint("hello world") != fingerprint("hello worlds")


def test_jaccard_of_shingles_is_that_of_the_word_ngrams():
    first = "one two three four five six seven eight nine ten"
    second = "one two three four five six seven eight nine eleven"
    found, shared = overlap(shingles(first, 3, Words()), shingles(second, 3, Words()))
    assert found == pytest.approx(7 / 9) == pytest.approx(brute(first, second, 3))
    assert shared == 7


def test_two_texts_without_words_are_equal():
    assert overlap(np.empty(0, np.uint64), np.empty(0, np.uint64)) == (1.0, 0)


def test_a_short_text_is_one_shingle_and_a_chinese_character_is_a_word():
    assert len(shingles("two words", 5, Words())) == 1
    assert len(shingles("", 5, Words())) == 0
    assert len(shingles("今天天气很好", 2, Words())) == 5
    assert len(shingles("今天 is 好 day", 1, Words())) == 5
    assert len(shingles("caf\u00e9\u3000au lait", 1, Words())) == 3


def test_punctuation_counts_only_where_there_is_nothing_else():
    words = Words()
    plain = grams("it s all so_called 2 caf\u00e9", 1, words).tolist()
    assert grams("It's (all) so_called, 2: caf\u00e9!", 1, words).tolist() == plain
    ascii_only = "It's (all) so_called, 2: cafe!"
    assert grams(ascii_only, 1, words).tolist() == grams(ascii_only + " \u201c", 1, words).tolist()
    assert len(grams("*** --- +++", 1, words)) == 3


def test_shingles_are_the_distinct_grams_in_order_of_hash():
    text = "a b c a b c a b"
    assert len(grams(text, 2, Words())) == 7
    assert shingles(text, 2, Words()).tolist() == sorted(set(grams(text, 2, Words()).tolist()))


def test_words_are_forgotten_at_a_limit_and_hashed_the_same_again(monkeypatch):
    monkeypatch.setattr(dedup, "WORDS", 3)
    words = Words()
    first = grams("a b c d e f a b", 1, words)
    assert len(words) <= 3
    assert first.tolist() == grams("a b c d e f a b", 1, Words()).tolist()


def test_texts_share_a_band_as_often_as_the_formula_says():
    """At s = 0.8, P = 1 - (1 - 0.8^8)^14 = 0.924; 400 pairs give a standard error of 0.013."""
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        pool = generator.integers(0, 2**63, 1000, np.uint64)
        first, second = np.unique(pool[:900]), np.unique(pool[100:])
        assert overlap(first, second) == (0.8, 800)
        hits += bool((bands(first, 14, 8) == bands(second, 14, 8)).any())
    assert hits / 400 == pytest.approx(0.924, abs=0.04)


def test_bucket_keys_need_no_distinct_grams_and_are_those_of_this_version():
    """Pinned: a library that hashed otherwise would split duplicates over an upgrade."""
    keys = grams("the cat sat on the mat and the cat sat on the mat", 3, Words())
    assert len(keys) > len(np.unique(keys))
    assert bands(keys, 4, 2).tolist() == bands(np.unique(keys), 4, 2).tolist()
    assert bands(keys, 2, 2).tolist() == [10018981521036187479, 11396359863898291733]
