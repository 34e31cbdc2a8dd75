"""Repeated n-grams against brute force."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.corpus.rules.ngrams import MAX_TOKENS, covered, repeats


def grams(words, n):
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]


@given(st.lists(st.integers(0, 3), max_size=60))
def test_repeats_are_all_that_occur_twice_and_no_other(words):
    found = {repeated.n: repeated for repeated in repeats(np.array(words, np.int64))}
    for n in range(2, 11):
        counts = Counter(grams(words, n))
        expected = [at for at, gram in enumerate(grams(words, n)) if counts[gram] > 1]
        if not expected:
            assert n not in found
            continue
        starts = found[n].starts.tolist()
        assert sorted(starts) == expected
        named = {tuple(words[at : at + n]) for at in found[n].starts[found[n].fresh]}
        assert len(named) == found[n].fresh.sum()
        assert found[n].most_frequent().tolist() == [
            at for at, gram in enumerate(grams(words, n)) if gram == counts.most_common(1)[0][0]
        ]


def test_large_numbers_are_told_apart():
    words = np.array([MAX_TOKENS + 7, 2**40, MAX_TOKENS + 7, 2**40])
    assert next(repeats(words)).starts.tolist() == [0, 2]


def test_no_words_have_no_repeats():
    assert list(repeats(np.array([], np.int64))) == []


def test_overlaps_are_covered_once():
    assert covered(np.array([0, 1]), 2, np.array([1, 2, 3, 4])) == 6 / 10
