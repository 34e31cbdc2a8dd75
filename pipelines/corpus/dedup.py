"""A text -> what finds its duplicates: a fingerprint, its word n-grams, its LSH bucket keys.

Exact: equal after folding case and white space, by a 128-bit hash. Near: MinHash signatures of word
n-grams (Broder 1997) cut into bands propose pairs, and the exact Jaccard similarity of the two
texts' n-grams decides. The signatures are rensa's R-MinHash, some 30 times as fast as the same in
numpy; a test pins its values, because another version may hash otherwise.
"""

import re

import numpy as np
import rensa
import xxhash
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

WORDS = 2_000_000  # whose hashes are kept at once: some 300 MB, against a text of new words only
_SEED = 20_240_229  # of the hash family; another gives other, equally good signatures
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(f"[{_CJK}]|[^\\W{_CJK}]+")
_BLANKS = {code: " " for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")}
_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)


def fingerprint(text: str) -> bytes:
    """16 bytes that are equal for texts equal up to case and white space (xxh3-128)."""
    return xxhash.xxh3_128_digest(" ".join(text.casefold().split()).encode())


class Words(dict[str, int]):
    """The 64-bit hash of each word, computed once; a shard's words fit, as Zipf's law has it."""

    def __missing__(self, word: str) -> int:
        if len(self) >= WORDS:
            self.clear()
        value = self[word] = xxhash.xxh3_64_intdigest(word.encode())
        return value


def grams(text: str, ngram: int, words: Words) -> Hashes:
    """64-bit hashes of the word n-grams of a text, in its order; a CJK character is a word.

    Case and punctuation do not count, unless there is nothing else.
    """
    folded = text.casefold()
    # `translate` of ASCII is three times as fast as the regular expression, and finds the same.
    plain = folded.isascii()
    tokens = folded.translate(_BLANKS).split() if plain else _WORD.findall(folded)
    tokens = tokens or folded.split()
    hashed = np.fromiter(map(words.__getitem__, tokens), np.uint64, len(tokens))
    ngram = min(ngram, len(hashed))  # a shorter text is one shingle
    count = len(hashed) - ngram + 1 if len(hashed) else 0
    keys = np.zeros(count, np.uint64)
    for place in range(ngram):
        keys ^= hashed[place : place + count]
        keys *= _MULTIPLIER
        keys ^= keys >> _HALF
    return keys


def shingles(text: str, ngram: int, words: Words) -> Hashes:
    """Sorted distinct `grams`."""
    keys = np.sort(grams(text, ngram, words))
    # numpy's own `unique` of integers hashes them: 7 times as slow.
    return keys[np.concatenate(([True], keys[1:] != keys[:-1]))] if len(keys) else keys


def bands(keys: Hashes, bands: int, rows: int) -> Hashes:
    """The `bands` bucket keys of a text with these n-grams, repeated ones or not.

    Two texts of Jaccard s share one with probability 1 - (1 - s^rows)^bands.

    Source: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.2.
    """
    size = bands * rows
    found = rensa.RMinHash.digest_matrix_from_flat_token_hashes(keys, [0, len(keys)], size, _SEED)
    signature = np.array(found.to_rows()[0], np.uint32).reshape(bands, rows)
    return np.array(
        [
            xxhash.xxh3_64_intdigest(band.tobytes(), seed=number)
            for number, band in enumerate(signature)
        ],
        np.uint64,
    )


def overlap(first: Hashes, second: Hashes) -> tuple[float, int]:
    """Jaccard of two texts' shingles, shared / all, and how many they share."""
    both = np.sort(np.concatenate((first, second)))
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    union = len(both) - shared
    return (shared / union if union else 1.0), shared
