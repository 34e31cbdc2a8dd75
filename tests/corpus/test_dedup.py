"""Deduplication: estimates against brute force, evidence for every removal, no endless chains."""

import gzip
import json
from collections import Counter

import numpy as np
import pytest

from pipelines.corpus.dedup import (
    Merge,
    Words,
    bands,
    candidates,
    exact_merges,
    fingerprint,
    jaccard,
    near_merges,
    shingles,
)


def brute(first, second, n):
    """Jaccard of word n-grams by Python sets."""
    one, two = (
        {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
        for words in (first.casefold().split(), second.casefold().split())
    )
    return len(one & two) / len(one | two)


def merged(texts, threshold=0.8, n=5):
    words = Words()
    grams = {number: shingles(text, n, words) for number, text in enumerate(texts)}
    keys = {number: bands(found, 14, 8) for number, found in grams.items()}
    return near_merges(keys, grams, threshold)


def test_case_and_white_space_do_not_make_a_text_new():
    assert fingerprint("Hello  World\n") == fingerprint("hello world")
    assert fingerprint("hello world") != fingerprint("hello worlds")


def test_the_first_of_equal_texts_stays():
    prints = [fingerprint(text) for text in ("a b", "c", "A  B", "a b")]
    assert exact_merges(prints) == [Merge(2, 0, 1.0, True), Merge(3, 0, 1.0, True)]


def test_jaccard_of_shingles_is_that_of_the_word_ngrams():
    first = "one two three four five six seven eight nine ten"
    second = "one two three four five six seven eight nine eleven"
    found = jaccard(shingles(first, 3, Words()), shingles(second, 3, Words()))
    assert found == pytest.approx(7 / 9) == pytest.approx(brute(first, second, 3))


def test_a_short_text_is_one_shingle_and_a_chinese_character_is_a_word():
    assert len(shingles("two words", 5, Words())) == 1
    assert len(shingles("", 5, Words())) == 0
    assert len(shingles("今天天气很好", 2, Words())) == 5


def test_texts_share_a_band_as_often_as_the_formula_says():
    """At s = 0.8, P = 1 - (1 - 0.8^8)^14 = 0.924; 400 pairs give a standard error of 0.013."""
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        pool = generator.integers(0, 2**63, 1000, np.uint64)
        first, second = np.unique(pool[:900]), np.unique(pool[100:])
        assert jaccard(first, second) == 0.8
        hits += bool((bands(first, 14, 8) == bands(second, 14, 8)).any())
    assert hits / 400 == pytest.approx(0.924, abs=0.04)


def test_candidates_are_the_texts_that_share_a_bucket():
    buckets = np.array([[1, 2], [3, 4], [1, 5], [6, 4]], np.uint64)
    assert candidates(buckets).tolist() == [True, True, True, True]
    assert candidates(buckets[:2]).tolist() == [False, False]


def test_a_proposal_whose_jaccard_is_too_low_is_refused():
    keys = {0: np.array([7], np.uint64), 1: np.array([7], np.uint64)}
    grams = {0: np.array([1, 2, 3], np.uint64), 1: np.array([1, 2, 9], np.uint64)}
    assert near_merges(keys, grams, 0.8) == []
    assert near_merges(keys, grams, 0.5) == [Merge(1, 0, 0.5, False)]


def test_a_chain_keeps_what_is_unlike_the_text_that_stays():
    """A~B and B~C, but not A~C: B goes into A, and C stays."""
    words = [f"w{number}" for number in range(140)]
    texts = [" ".join(words[start : start + 100]) for start in (0, 8, 16)]
    ab, bc, ac = (brute(texts[i], texts[j], 5) for i, j in ((0, 1), (1, 2), (0, 2)))
    assert ab >= 0.8 <= bc
    assert ac < 0.8
    keys = dict.fromkeys(range(3), np.array([1], np.uint64))  # all proposed to one another
    grams = {number: shingles(text, 5, Words()) for number, text in enumerate(texts)}
    assert near_merges(keys, grams, 0.8) == [Merge(1, 0, round(ab, 6), False)]


def test_real_near_duplicates_are_found_and_every_removal_is_true(shared_data):
    """PowerShell's docs for 5.1 and 7.4: pairs at Jaccard .8 or more, by brute force."""
    with gzip.open(shared_data / "dedup/powershell_docs_5.1_7.4.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    sizes = Counter(row["cluster"] for row in rows)
    pairs = {cluster for cluster, size in sizes.items() if size == 2}
    rows = [row for row in rows if row["cluster"] in set(sorted(pairs)[:150])]
    texts = [row["text"] for row in rows]
    merges = merged(texts)
    assert all(
        brute(texts[merge.removed], texts[merge.kept], 5) == pytest.approx(merge.jaccard, abs=1e-6)
        and merge.jaccard >= 0.8
        and merge.kept < merge.removed
        for merge in merges
    )
    clusters = {}
    for number, row in enumerate(rows):
        clusters.setdefault(row["cluster"], []).append(number)
    close = [
        pair[1] for pair in clusters.values() if brute(texts[pair[0]], texts[pair[1]], 5) >= 0.8
    ]
    found = {merge.removed for merge in merges}
    assert len(close) > 50
    # 14 bands of 8 miss 7.6 % of pairs at exactly .8 and fewer above it.
    assert sum(number in found for number in close) / len(close) >= 0.95
