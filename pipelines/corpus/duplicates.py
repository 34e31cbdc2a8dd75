"""Fingerprints, bucket keys and texts of all parts -> which documents repeat which, with evidence.

Exact duplicates go first: every document with the fingerprint of an earlier one. Among the others,
those that share an LSH bucket are pairs; the exact Jaccard of the two texts' word n-grams decides.
In corpus order, a document goes if it is enough like an earlier one that stays, into the most
similar of these. So each removal was verified against the very text that stays for it, and chains
(A like B, B like C, A unlike C) cannot swallow a corpus. An exact duplicate of a document that goes
itself takes over its evidence, which is its own: equal fingerprints have equal n-grams.

A task holds one run, one range (see `shuffle`) or the shingles of one part; the decision holds one
byte a document and the edges of one part.
"""

import io
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipelines.core.artifact import Workspace
from pipelines.corpus import dedup, shuffle
from pipelines.corpus.shuffle import KEYED, Documents, Records, Spread

FIRST, BEFORE = 8, 8  # of a bucket, that a document is paired with: the earliest, the nearest
EXACT, NEAR = ".work/exact", ".work/near"
PAIR = np.dtype([("later", "i8"), ("earlier", "i8")])
EDGE = np.dtype([*PAIR.descr, ("jaccard", "f8"), ("shared", "i8")])

Keys = Callable[[int], tuple[Documents, NDArray[np.uint64], NDArray[np.uint64]]]
"""Of a part: rows of its candidates, their fingerprints (rows, 2), bucket keys (rows, bands)."""
Texts = Callable[[int, list[int]], Iterator[tuple[int, str]]]
"""The texts of some rows of a part, with their rows."""


@dataclass(frozen=True)
class Merge:
    """Document `removed` repeats `kept`, which stays; `shared` n-grams are in both."""

    removed: int
    kept: int
    jaccard: float
    shared: int | None
    exact: bool


@dataclass(frozen=True)
class Near:
    """What near-duplicates are: `ngram` words a shingle, `threshold` the least Jaccard."""

    ngram: int
    threshold: float
    bands: int


def find_exact(spread: Spread, out: Workspace, keys: Keys, sizes: list[int]) -> None:
    """Write, a part, the pairs of each document whose fingerprint an earlier one has."""
    _exchange(spread, out, EXACT, partial(_fingerprints, keys), sizes, repeated)


def find_near(
    spread: Spread, out: Workspace, keys: Keys, texts: Texts, sizes: list[int], near: Near
) -> None:
    """Write, a part, the verified edges of its documents; run `find_exact` first, or not at all."""
    records = partial(_buckets, keys, out)
    _exchange(spread, out, NEAR, records, [size * near.bands for size in sizes], proposed)
    parts = range(len(sizes))
    list(spread(partial(_lend, out, texts, near.ngram), parts))
    list(spread(partial(_verify, out, texts, near), parts))


def decide(out: Workspace, sizes: list[int]) -> Iterator[list[Merge]]:
    """The merges of each part, in order."""
    gone = [np.zeros(size, np.bool_) for size in sizes]
    moved: dict[int, Merge] = {}  # documents with exact duplicates that are near-duplicates
    for part in range(len(sizes)):
        near = list(_near_merges(_edges(out, part), gone))
        heads = set(_pairs(out, EXACT, "lent", part)["earlier"].tolist())
        moved |= {merge.removed: merge for merge in near if merge.removed in heads}
        exact = [
            _moved(later, moved[earlier]) if earlier in moved else _equal(later, earlier)
            for later, earlier in _pairs(out, EXACT, "own", part).tolist()
        ]
        yield sorted([*near, *exact], key=lambda merge: merge.removed)


def repeated(records: Records) -> Records:
    """Each document of a key with the earliest of that key."""
    starts = shuffle.starts(records)
    later = np.flatnonzero(starts != np.arange(len(records)))
    return _paired(records, later, starts[later])


def proposed(records: Records) -> Records:
    """Each document of a bucket with its `FIRST` earliest and the `BEFORE` just before it.

    Buckets of many are common in templated text, and all their pairs would be quadratic.
    """
    starts, here = shuffle.starts(records), np.arange(len(records))
    found = [np.empty(0, PAIR)]
    for offset in range(FIRST):
        later = np.flatnonzero(starts + offset < here)
        found.append(_paired(records, later, starts[later] + offset))
    for back in range(1, BEFORE + 1):
        later = np.flatnonzero(here - back >= starts + FIRST)
        found.append(_paired(records, later, later - back))
    return shuffle.once(np.concatenate(found))


def _exchange(
    spread: Spread,
    out: Workspace,
    folder: str,
    records: Callable[[int], Records],
    sizes: list[int],
    pairs: Callable[[Records], Records],
) -> None:
    """Pairs of documents with equal keys: of later ones in `own`, of earlier ones in `lent`."""
    parts = shuffle.runs(sizes, shuffle.SHARE)
    ranges = -(-sum(sizes) // shuffle.SHARE) or 1
    runs = list(enumerate(parts))
    list(spread(partial(shuffle.scatter, out, folder, records, ranges), runs))
    list(spread(partial(_pair, out, folder, pairs, parts), range(ranges)))
    for side, field in (("own", "later"), ("lent", "earlier")):
        receive = partial(shuffle.receive, out, f"{folder}/{side}", PAIR, field, ranges)
        list(spread(receive, runs))


def _pair(
    out: Workspace,
    folder: str,
    pairs: Callable[[Records], Records],
    parts: list[range],
    at: int,
) -> None:
    found = pairs(shuffle.gather(out, folder, at, len(parts)))
    shuffle.send(out, f"{folder}/own", found, "later", at, parts)
    shuffle.send(out, f"{folder}/lent", found, "earlier", at, parts)


def _fingerprints(keys: Keys, part: int) -> Records:
    rows, prints, _ = keys(part)
    return _keyed(part, rows, prints[:, 0], prints[:, 1])


def _buckets(keys: Keys, out: Workspace, part: int) -> Records:
    """Bucket keys of the documents that are no exact duplicates, by band."""
    rows, _, buckets = keys(part)
    gone = _pairs(out, EXACT, "own", part)["later"] & 0xFFFFFFFF
    left = ~np.isin(rows, gone)
    rows, buckets = rows[left], buckets[left]
    width = buckets.shape[1]
    number = np.tile(np.arange(width, dtype=np.uint64), len(rows))
    return _keyed(part, np.repeat(rows, width), buckets.ravel(), number)


def _keyed(part: int, rows: Documents, key: dedup.Hashes, low: dedup.Hashes) -> Records:
    found = np.zeros(len(rows), KEYED)
    found["key"], found["low"], found["document"] = key, low, rows + (part << 32)
    return found


def _paired(records: Records, later: Documents, earlier: Documents) -> Records:
    found = np.empty(len(later), PAIR)
    found["later"], found["earlier"] = records["document"][later], records["document"][earlier]
    return found


def _pairs(out: Workspace, folder: str, side: str, part: int) -> Records:
    name = shuffle.by_part(f"{folder}/{side}", part)
    return shuffle.load(out, name) if out.exists(name) else np.empty(0, PAIR)


def _edges(out: Workspace, part: int) -> Records:
    name = shuffle.by_part(f"{NEAR}/edges", part)
    return shuffle.load(out, name) if out.exists(name) else np.empty(0, EDGE)


def _lend(out: Workspace, texts: Texts, ngram: int, part: int) -> None:
    """Write the shingles of a part's documents for each later part with documents like them."""
    pairs = _pairs(out, NEAR, "lent", part)
    to = pairs["later"] >> 32
    wanted = np.unique(pairs["earlier"][to != part])
    grams = _shingles(texts, ngram, part, wanted)
    for other in np.unique(to[to != part]).tolist():
        documents = np.unique(pairs["earlier"][to == other])
        arrays = [grams[number] for number in documents.tolist()]
        sink = io.BytesIO()
        ends = np.cumsum([len(array) for array in arrays])
        np.savez(sink, documents=documents, ends=ends, grams=np.concatenate(arrays))
        out.write(_lent(other, part), sink.getvalue())


def _verify(out: Workspace, texts: Texts, near: Near, part: int) -> None:
    """Write the edges of a part's documents: pairs whose Jaccard is at least the threshold."""
    name = shuffle.by_part(f"{NEAR}/edges", part)
    if out.exists(name):
        return
    pairs = _pairs(out, NEAR, "own", part)
    home = pairs["earlier"] >> 32
    own = np.unique(np.concatenate((pairs["later"], pairs["earlier"][home == part])))
    grams = _shingles(texts, near.ngram, part, own)
    edges: list[tuple[int, int, float, int]] = []
    for other in np.unique(home).tolist():
        theirs = grams if other == part else _borrowed(out, part, other)
        for later, earlier in pairs[home == other].tolist():
            jaccard, shared = _similarity(grams[later], theirs[earlier], near.threshold)
            if jaccard >= near.threshold:
                edges.append((later, earlier, jaccard, shared))
    shuffle.save(out, name, np.array(sorted(edges), EDGE))


def _similarity(first: dedup.Hashes, second: dedup.Hashes, threshold: float) -> tuple[float, int]:
    """Jaccard and shared shingles; 0 where the lengths alone say that it is too little."""
    if min(len(first), len(second)) < threshold * max(len(first), len(second)):
        return 0.0, 0
    return dedup.overlap(first, second)


def _shingles(texts: Texts, ngram: int, part: int, documents: Documents) -> dict[int, dedup.Hashes]:
    rows, words = (documents & 0xFFFFFFFF).tolist(), dedup.Words()
    return {
        shuffle.document(part, row): dedup.shingles(text, ngram, words)
        for row, text in (texts(part, rows) if rows else ())
    }


def _lent(to: int, part: int) -> str:
    return f"{NEAR}/shingles/part-{to:05d}/from-{part:05d}.npz"


def _borrowed(out: Workspace, part: int, other: int) -> dict[int, dedup.Hashes]:
    held = np.load(io.BytesIO(out.read(_lent(part, other))), allow_pickle=False)
    return dict(
        zip(held["documents"].tolist(), np.split(held["grams"], held["ends"][:-1]), strict=True)
    )


def _near_merges(edges: Records, gone: list[NDArray[np.bool_]]) -> Iterator[Merge]:
    """The documents that go into an earlier one that stays; marks them in `gone`."""
    rivals: defaultdict[int, list[tuple[float, int, int]]] = defaultdict(list)
    for later, earlier, jaccard, shared in edges.tolist():
        rivals[later].append((-jaccard, earlier, shared))
    for later in sorted(rivals):
        stay = [rival for rival in rivals[later] if not gone[rival[1] >> 32][rival[1] & 0xFFFFFFFF]]
        if stay:
            jaccard, kept, shared = min(stay)
            gone[later >> 32][later & 0xFFFFFFFF] = True
            yield Merge(later, kept, round(-jaccard, 6), shared, exact=False)


def _equal(later: int, earlier: int) -> Merge:
    return Merge(later, earlier, 1.0, None, exact=True)


def _moved(later: int, merge: Merge) -> Merge:
    return Merge(later, merge.kept, merge.jaccard, merge.shared, exact=False)
