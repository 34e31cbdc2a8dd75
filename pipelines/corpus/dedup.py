"""Texts -> which ones repeat an earlier one, each with the evidence.

Exact: equal after folding case and white space, by a 128-bit hash. Near: MinHash signatures of word
n-grams (Broder 1997) cut into bands propose pairs, and the exact Jaccard similarity of the two
texts' n-grams decides. Texts are visited in order and compared only with texts that stay, so the
first of a group is kept and every removal is verified against the very text that replaces it.
Chains (A like B, B like C, A unlike C) therefore cannot swallow a corpus.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

BUCKET = 64  # retained texts of one bucket that a text is compared with, the earliest first
BLOCK = 2048  # shingles hashed at a time: 112 hashes of them fill 1.8 MB, the size of an L2 cache
_SEED = 20_240_229  # of the hash family; another gives other, equally good signatures
_CJK = re.compile("([\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])")
_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True)
class Merge:
    """Text `removed` repeats text `kept` (positions in corpus order) with this Jaccard."""

    removed: int
    kept: int
    jaccard: float
    exact: bool


def fingerprint(text: str) -> bytes:
    """16 bytes that are equal for texts equal up to case and white space (xxh3-128)."""
    return xxhash.xxh3_128_digest(" ".join(text.casefold().split()).encode())


class Words(dict[str, int]):
    """The 64-bit hash of each word, computed once; a shard's words fit, as Zipf's law has it."""

    def __missing__(self, word: str) -> int:
        value = self[word] = xxhash.xxh3_64_intdigest(word.encode())
        return value


def shingles(text: str, ngram: int, words: Words) -> Hashes:
    """Sorted distinct 64-bit hashes of the word n-grams of a text; a CJK character is a word."""
    folded = text.casefold()
    if not folded.isascii():
        folded = _CJK.sub(r" \1 ", folded)
    hashed = np.array([words[word] for word in folded.split()], np.uint64)
    ngram = min(ngram, len(hashed))  # a shorter text is one shingle
    count = len(hashed) - ngram + 1 if len(hashed) else 0
    keys = np.zeros(count, np.uint64)
    for place in range(ngram):
        keys = (keys ^ hashed[place : place + count]) * _MULTIPLIER
        keys ^= keys >> np.uint64(32)
    return np.unique(keys)


def bands(shingle_hashes: Hashes, bands: int, rows: int) -> Hashes:
    """The `bands` bucket keys of a text.

    Two texts of Jaccard s share one with probability 1 - (1 - s^rows)^bands.

    Source: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.2.
    """
    factors, offsets = _family(bands * rows)
    smallest = np.full(bands * rows, np.iinfo(np.uint64).max, np.uint64)
    for start in range(0, len(shingle_hashes), BLOCK):
        block = shingle_hashes[start : start + BLOCK]
        np.minimum(smallest, (factors * block + offsets).min(axis=1), out=smallest)
    keys = [
        xxhash.xxh3_64_intdigest(band.tobytes(), seed=number)
        for number, band in enumerate(smallest.reshape(bands, rows))
    ]
    return np.array(keys, np.uint64)


def jaccard(first: Hashes, second: Hashes) -> float:
    """Shared shingles / all shingles of two texts."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    union = len(first) + len(second) - shared
    return shared / union if union else 1.0


def exact_merges(fingerprints: list[bytes]) -> list[Merge]:
    """Every text whose fingerprint an earlier one has."""
    first: dict[bytes, int] = {}
    merges = []
    for position, key in enumerate(fingerprints):
        kept = first.setdefault(key, position)
        if kept != position:
            merges.append(Merge(position, kept, 1.0, exact=True))
    return merges


def candidates(buckets: Hashes) -> NDArray[np.bool_]:
    """Which rows of `buckets` (texts, bands) share a bucket with another row."""
    shared = np.zeros(len(buckets), np.bool_)
    for band in buckets.T:
        _, inverse, counts = np.unique(band, return_inverse=True, return_counts=True)
        shared |= counts[inverse] > 1
    return shared


def near_merges(
    buckets: Mapping[int, Hashes], shingle_hashes: Mapping[int, Hashes], threshold: float
) -> list[Merge]:
    """Every text whose Jaccard with an earlier, retained text of one of its buckets is enough.

    Args:
        buckets: band keys by position, in corpus order.
        shingle_hashes: shingles by position, for the same texts.
        threshold: least Jaccard at which the later text goes; the most similar one is its `kept`.
    """
    retained: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    merges = []
    for position, keys in buckets.items():
        places = list(enumerate(keys.tolist()))
        rivals = sorted({rival for place in places for rival in retained.get(place, ())[:BUCKET]})
        scores = [jaccard(shingle_hashes[position], shingle_hashes[rival]) for rival in rivals]
        best = max(scores, default=0.0)
        if scores and best >= threshold:
            kept = rivals[scores.index(best)]
            merges.append(Merge(position, kept, round(best, 6), exact=False))
        else:
            for place in places:
                retained[place].append(position)
    return merges


def _family(size: int) -> tuple[Hashes, Hashes]:
    """Columns a (odd) and b of `size` hashes a*x + b mod 2^64 (Dietzfelbinger et al. 1997)."""
    draws = np.random.Generator(np.random.PCG64(_SEED)).integers(
        0, np.iinfo(np.uint64).max, (2, size, 1), np.uint64, endpoint=True
    )
    return draws[0] | np.uint64(1), draws[1]
