"""Which documents go: the first of equals stays, evidence for every removal, no endless chains."""

import gzip
import json
import re
from itertools import combinations

import numpy as np
import pytest

from pipelines.core.artifact import Workspace
from pipelines.core.storage import Store
from pipelines.corpus import dedup, duplicates, shuffle
from pipelines.corpus.duplicates import Merge, Near, decide, find_exact, find_near, proposed
from pipelines.corpus.shuffle import KEYED

NEAR = Near(ngram=5, threshold=0.8, bands=16)
ROWS = 6


def merges_of(texts, folder, each=4, near=NEAR, exact=True, order=list):
    """Merges of texts, by their positions, cut into parts of `each`."""
    out = Workspace.take(Store.at(str(folder)))
    parts = [texts[start : start + each] for start in range(0, len(texts), each)]
    sizes = [len(part) for part in parts]

    def keys(part):
        words = dedup.Words()
        prints = b"".join(dedup.fingerprint(text) for text in parts[part])
        buckets = [
            dedup.bands(dedup.grams(text, near.ngram, words), near.bands, ROWS)
            for text in parts[part]
        ]
        rows = np.arange(len(parts[part]))
        return rows, np.frombuffer(prints, np.uint64).reshape(-1, 2), np.array(buckets)

    def spread(function, items):
        return map(function, order(items))

    if exact:
        find_exact(spread, out, keys, sizes)
    find_near(
        spread, out, keys, lambda part, rows: ((r, parts[part][r]) for r in rows), sizes, near
    )
    place = {shuffle.document(n // each, n % each): n for n in range(len(texts))}
    return [
        Merge(place[m.removed], place[m.kept], m.jaccard, m.shared, m.exact)
        for found in decide(out, sizes)
        for m in found
    ]


def jaccard(first, second, n=5):
    """Jaccard of word n-grams by Python sets, as `planted/truth` measures it."""
    one, two = (
        {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}
        for words in (re.findall(r"\w+", text.casefold()) for text in (first, second))
    )
    return len(one & two) / len(one | two)


def read(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def text(start, count=100):
    return " ".join(f"w{number}" for number in range(start, start + count))


def test_the_first_of_equal_texts_stays_wherever_the_others_are(tmp_path):
    texts = ["a b", "c", "A  B", "d", "e", "a b"]
    assert merges_of(texts, tmp_path, each=2) == [
        Merge(2, 0, 1.0, None, True),
        Merge(5, 0, 1.0, None, True),
    ]


def test_a_chain_keeps_what_is_unlike_the_text_that_stays(tmp_path):
    """A~B and B~C, but not A~C: B goes into A, and C stays."""
    texts = [text(0), text(8), text(16)]
    ab, bc, ac = (jaccard(texts[i], texts[j]) for i, j in ((0, 1), (1, 2), (0, 2)))
    assert ab >= 0.8 <= bc
    assert ac < 0.8
    assert merges_of(texts, tmp_path, each=1) == [Merge(1, 0, round(ab, 6), 88, False)]


def test_an_exact_duplicate_of_a_near_duplicate_names_the_text_that_stays(tmp_path):
    """C equals B, and B goes into A: C's evidence is with A, which stays, and not with B."""
    texts = [text(0), text(4), text(4).upper()]
    found = merges_of(texts, tmp_path, each=1)
    assert found == [
        Merge(1, 0, round(jaccard(texts[0], texts[1]), 6), 92, False),
        Merge(2, 0, round(jaccard(texts[0], texts[2]), 6), 92, False),
    ]


def test_a_text_goes_into_the_most_similar_of_those_that_stay(tmp_path):
    texts = [text(0), text(13), text(8)]
    assert [(m.removed, m.kept) for m in merges_of(texts, tmp_path)] == [(2, 1)]


def test_a_proposal_whose_jaccard_is_too_low_is_refused(tmp_path):
    """Half of the shingles shared: in a bucket with probability 1 - (1 - .5^6)^16 = .22."""
    texts = [text(1000 * n) + " " + text(1000 * n + 500) for n in range(20)]
    texts += [text(1000 * n) + " " + text(1000 * n + 700, 30) for n in range(20)]
    assert merges_of(texts, tmp_path) == []


def test_without_exact_removal_equal_texts_are_near_duplicates(tmp_path):
    assert merges_of([text(0), text(0)], tmp_path, exact=False) == [Merge(1, 0, 1.0, 96, False)]


def test_large_buckets_propose_the_first_and_the_nearest():
    """Fifty documents of one bucket: at most 16 pairs each, and not 1,225 in all."""
    records = np.zeros(50, KEYED)
    records["document"] = np.arange(50)
    pairs = proposed(records)
    last = pairs["earlier"][pairs["later"] == 49].tolist()
    assert last == [*range(8), *range(41, 49)]
    assert (pairs["earlier"] < pairs["later"]).all()
    few = proposed(records[:10])
    assert set(map(tuple, few.tolist())) == {(b, a) for a, b in combinations(range(10), 2)}


@pytest.mark.parametrize(("each", "share"), [(1, 50), (7, 10**6), (30, 64)])
def test_parts_shares_and_the_order_of_tasks_change_nothing(each, share, tmp_path, monkeypatch):
    texts = [text(3 * n % 50, 80 + n % 5) for n in range(30)]
    whole = merges_of(texts, tmp_path / "whole", each=30)
    assert len(whole) > 5
    monkeypatch.setattr(shuffle, "SHARE", share)
    again = merges_of(texts, tmp_path / "cut", each=each, order=lambda items: list(items)[::-1])
    assert again == whole


def test_every_removal_is_true_against_a_text_that_stays(tmp_path):
    generator = np.random.default_rng(3)
    base = [generator.integers(0, 10**6, 120) for _ in range(12)]
    texts = []
    for _ in range(120):
        words = base[generator.integers(12)].copy()
        words[generator.integers(0, 120, generator.integers(0, 4))] = generator.integers(10**6)
        texts.append(" ".join(map(str, words)))
    found = merges_of(texts, tmp_path, each=11)
    gone = {merge.removed for merge in found}
    assert 30 < len(gone) == len(found)
    for merge in found:
        assert merge.kept not in gone
        assert merge.kept < merge.removed
        true = jaccard(texts[merge.removed], texts[merge.kept])
        assert true == pytest.approx(merge.jaccard, abs=1e-6)
        assert true >= NEAR.threshold


def test_powershell_pages_of_two_versions_are_found(shared_data, tmp_path):
    """430 pages in versions 5.1 and 7.4: >= .98 of the pairs at Jaccard .8 or more, none below."""
    rows = read(shared_data / "dedup/powershell_docs_5.1_7.4.jsonl.gz")
    texts = [row["text"] for row in rows]
    found = merges_of(texts, tmp_path, each=300)
    gone = {merge.removed for merge in found}
    assert all(merge.kept not in gone for merge in found)
    assert min(jaccard(texts[m.removed], texts[m.kept]) for m in found) >= 0.8
    clusters = {}
    for number, row in enumerate(rows):
        clusters.setdefault(row["cluster"], []).append(number)
    pairs = [pair for pair in clusters.values() if len(pair) == 2]
    close = [later for first, later in pairs if jaccard(texts[first], texts[later]) >= 0.8]
    assert len(close) > 300
    assert sum(later in gone for later in close) / len(close) >= 0.98


def test_planted_duplicates_are_found_and_nothing_unlike_goes(shared_data, tmp_path):
    """Exact and format-only: all; near at true Jaccard >= .8: >= .98; none goes below .5."""
    rows, truth = (read(shared_data / f"planted/{name}.jsonl.gz") for name in ("corpus", "truth"))
    texts = {row["id"]: row["text"] for row in rows}
    ids = list(texts)
    found = merges_of(list(texts.values()), tmp_path, each=1000)
    gone = {ids[merge.removed]: merge for merge in found}
    assert all(m.exact or jaccard(texts[ids[m.removed]], texts[ids[m.kept]]) >= 0.5 for m in found)

    def one_is_left(row):
        return row["id"] in gone or row["of"] in gone

    doubles = [row for row in truth if row["kind"] in ("exact_dup", "format_dup")]
    assert len(doubles) == 180
    assert all(one_is_left(row) for row in doubles)
    near = [row for row in truth if row["kind"].startswith("near_dup") and row["jaccard5"] >= 0.8]
    assert len(near) > 50
    assert sum(map(one_is_left, near)) / len(near) >= 0.98


def test_half_done_work_is_taken_up(tmp_path, monkeypatch):
    """The run ends while pairs are verified; the next one decides the same."""
    texts = [text(n % 10, 90) for n in range(20)]
    whole = merges_of(texts, tmp_path / "whole")
    real, calls = duplicates._verify, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(duplicates, "_verify", killed)
    with pytest.raises(KeyboardInterrupt):
        merges_of(texts, tmp_path / "cut")
    monkeypatch.setattr(duplicates, "_verify", real)
    assert merges_of(texts, tmp_path / "cut") == whole
