"""Text -> the first quality rule it fails, with the value and the threshold, or None.

`gopher@paper` is the rule set of Rae et al. 2021 (Gopher, arXiv 2112.11446, section A1.1); words
are split at white space, as there. Counting punctuation marks as words, as some pipelines do,
makes the 80 % alphabetic rule reject 20 % of clean novels. Three readings of the paper are ours:
an n-gram's share of characters is of those in words; an n-gram that occurs once is not repeated;
duplicate n-grams are all occurrences but the first.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_WORDS = 100_000
WORD_LENGTH = (3.0, 10.0)
MAX_HASHES, MAX_ELLIPSES = 0.1, 0.1  # a word
MAX_BULLET_LINES, MAX_ELLIPSIS_LINES = 0.9, 0.3
MIN_ALPHABETIC = 0.8
MIN_STOP_WORDS = 2
STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
MAX_DUPLICATE_LINES, MAX_DUPLICATE_LINE_CHARS = 0.3, 0.2
MAX_DUPLICATE_PARAGRAPHS, MAX_DUPLICATE_PARAGRAPH_CHARS = 0.3, 0.2
MAX_TOP_NGRAM = {2: 0.20, 3: 0.18, 4: 0.16}
MAX_DUPLICATE_NGRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

_LETTER = re.compile(r"[^\W\d_]")
_PARAGRAPHS = re.compile(r"\n{2,}")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, from the golden ratio: spreads small ids


@dataclass(frozen=True)
class Failure:
    """The rule a text fails, the value it has and the threshold it crosses."""

    rule: str
    value: float
    threshold: float


def gopher(text: str, min_words: int = 50) -> Failure | None:
    """The first rule of `gopher@paper` that a text fails, cheap rules first.

    Args:
        text: cleaned.
        min_words: 50 in the paper.
    """
    for rule, value, low, high in _measures(text, text.split(), min_words):
        if not low <= value <= high:
            return Failure(rule, round(value, 4), low if value < low else high)
    return None


Measure = tuple[str, float, float, float]  # rule, value, least, most


def _measures(text: str, words: list[str], min_words: int) -> Iterator[Measure]:
    """Lazily, so that a text that fails early costs little."""
    yield "words", len(words), max(1, min_words), MAX_WORDS
    yield from _quality(text, words)
    yield from _line_repetition(text)
    yield from _ngram_repetition(words)


def _quality(text: str, words: list[str]) -> Iterator[Measure]:
    count = len(words)
    yield "word_length", sum(map(len, words)) / count, *WORD_LENGTH
    yield "hashes", text.count("#") / count, 0, MAX_HASHES
    yield "ellipses", (text.count("...") + text.count("…")) / count, 0, MAX_ELLIPSES
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    bullets = sum(line.startswith(("•", "-")) for line in lines)
    yield "bullet_lines", bullets / len(lines), 0, MAX_BULLET_LINES
    ellipses = sum(line.endswith(("...", "…")) for line in lines)
    yield "ellipsis_lines", ellipses / len(lines), 0, MAX_ELLIPSIS_LINES
    times = Counter(words)
    alphabetic = sum(number for word, number in times.items() if _LETTER.search(word))
    yield "alphabetic_words", alphabetic / count, MIN_ALPHABETIC, 1
    present = STOP_WORDS.intersection(map(str.lower, times))
    yield "stop_words", len(present), MIN_STOP_WORDS, math.inf


def _line_repetition(text: str) -> Iterator[Measure]:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    share, chars = _duplicates(lines)
    yield "duplicate_lines", share, 0, MAX_DUPLICATE_LINES
    yield "duplicate_line_chars", chars, 0, MAX_DUPLICATE_LINE_CHARS
    paragraphs = [part.strip() for part in _PARAGRAPHS.split(text) if part.strip()]
    share, chars = _duplicates(paragraphs)
    yield "duplicate_paragraphs", share, 0, MAX_DUPLICATE_PARAGRAPHS
    yield "duplicate_paragraph_chars", chars, 0, MAX_DUPLICATE_PARAGRAPH_CHARS


def _duplicates(parts: list[str]) -> tuple[float, float]:
    """Shares of parts, and of their characters, that repeat an earlier part."""
    unique = dict.fromkeys(parts)
    if len(unique) == len(parts):
        return 0.0, 0.0
    chars = sum(map(len, parts))
    return 1 - len(unique) / len(parts), 1 - sum(map(len, unique)) / chars


def _ngram_repetition(words: list[str]) -> Iterator[Measure]:
    numbers = {word: number for number, word in enumerate(dict.fromkeys(words), 1)}
    ids = np.fromiter(map(numbers.__getitem__, words), np.uint64, len(words))
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    for n in range(2, 11):
        keys = _ngrams(ids, n)
        order = np.argsort(keys, kind="stable")
        fresh = np.ones(len(keys), np.bool_)  # where, in sorted order, another n-gram begins
        np.not_equal(keys[order[1:]], keys[order[:-1]], out=fresh[1:])
        if fresh.all():
            return  # a longer n-gram repeats only if its parts do
        if n in MAX_TOP_NGRAM:
            share = _covered(_most_frequent(order, fresh), n, lengths)
            yield f"top_{n}gram_chars", share, 0, MAX_TOP_NGRAM[n]
        else:
            share = _covered(order[~fresh], n, lengths)
            yield f"duplicate_{n}gram_chars", share, 0, MAX_DUPLICATE_NGRAMS[n]


def _ngrams(ids: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """A 64-bit key of every n-gram of words."""
    count = max(0, len(ids) - n + 1)
    keys = np.zeros(count, np.uint64)
    for place in range(n):
        keys = (keys ^ ids[place : place + count]) * _MULTIPLIER
        keys ^= keys >> np.uint64(29)
    return keys


def _most_frequent(order: NDArray[np.intp], fresh: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Where the n-gram with the most occurrences starts; the first to occur wins a tie."""
    begins = np.flatnonzero(fresh)
    counts = np.diff(begins, append=len(order))
    ties = np.flatnonzero(counts == counts.max())
    chosen = ties[np.argmin(order[begins[ties]])]
    return order[begins[chosen] : begins[chosen] + counts[chosen]]


def _covered(starts: NDArray[np.intp], n: int, lengths: NDArray[np.int64]) -> float:
    """Share of characters in words that the n-grams at `starts` cover, each counted once."""
    edges = np.zeros(len(lengths) + 1, np.int64)
    edges[starts] += 1
    edges[starts + n] -= 1
    return float(lengths[np.cumsum(edges)[:-1] > 0].sum() / lengths.sum())
