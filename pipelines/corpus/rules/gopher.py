"""The Gopher rules (Rae et al. 2021, arXiv 2112.11446, section A1.1) in two readings.

`gopher@paper`: words are split at white space, as there. Counting punctuation marks as words makes
the 80 % alphabetic rule reject 20 % of clean novels. Three readings of the paper are ours: an
n-gram's share of characters is of those in words; an n-gram that occurs once is not repeated;
duplicate n-grams are all occurrences but the first.

`gopher@fineweb`: as datatrove 0.10 and so FineWeb has it (gopher_quality_filter.py,
gopher_repetition_filter.py): marks are words except where words are counted or measured, shares are
of the text's length, a repeated n-gram is skipped as a whole when it is found again.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from pipelines.corpus.rules.measure import Measure, duplicates
from pipelines.corpus.rules.ngrams import Ints, Repeats, covered, repeats
from pipelines.corpus.rules.words import STOP_WORDS, Words

MAX_WORDS = 100_000
WORD_LENGTH = (3.0, 10.0)
MAX_HASHES, MAX_ELLIPSES = 0.1, 0.1  # a word
MAX_BULLET_LINES, MAX_ELLIPSIS_LINES = 0.9, 0.3
MIN_ALPHABETIC = 0.8
MIN_STOP_WORDS = 2
MAX_DUPLICATE_LINES, MAX_DUPLICATE_LINE_CHARS = 0.3, 0.2
MAX_DUPLICATE_PARAGRAPHS, MAX_DUPLICATE_PARAGRAPH_CHARS = 0.3, 0.2
MAX_TOP_NGRAM = {2: 0.20, 3: 0.18, 4: 0.16}
MAX_DUPLICATE_NGRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

_LETTER = re.compile(r"[^\W\d_]")


def paper(text: str, words: list[str], min_words: int) -> Iterator[Measure]:
    """The measures of `gopher@paper`, lazily, so that a text that fails early costs little."""
    count = len(words)
    yield "words", count, max(1, min_words), MAX_WORDS
    yield "word_length", sum(map(len, words)) / count, *WORD_LENGTH
    yield from _marks(text, count)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    yield from _line_shapes(lines)
    times = Counter(words)
    alphabetic = sum(number for word, number in times.items() if _LETTER.search(word))
    yield "alphabetic_words", alphabetic / count, MIN_ALPHABETIC, 1
    stop_words = len({*STOP_WORDS}.intersection(map(str.lower, times)))
    yield "stop_words", stop_words, MIN_STOP_WORDS, math.inf
    paragraphs = [part.strip() for part in _paragraphs(text) if part.strip()]
    yield from _repetition(lines, sum(map(len, lines)), "line")
    yield from _repetition(paragraphs, sum(map(len, paragraphs)), "paragraph")
    yield from paper_ngrams(words)


def paper_ngrams(words: list[str]) -> Iterator[Measure]:
    """The n-gram rules of `gopher@paper`."""
    numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
    ids = np.fromiter(map(numbers.__getitem__, words), np.int64, len(words))
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    for found in repeats(ids):
        if found.n in MAX_TOP_NGRAM:
            share = covered(found.most_frequent(), found.n, lengths)
            yield f"top_{found.n}gram_chars", share, 0, MAX_TOP_NGRAM[found.n]
        else:
            share = covered(found.starts[~found.fresh], found.n, lengths)
            yield f"duplicate_{found.n}gram_chars", share, 0, MAX_DUPLICATE_NGRAMS[found.n]


def fineweb(text: str, words: Words, min_words: int) -> Iterator[Measure]:
    """The measures of `gopher@fineweb`, lazily: lines, then words, then n-grams."""
    yield from fineweb_lines(text)
    yield "words", words.words, max(1, min_words), MAX_WORDS
    yield "word_length", words.letters / words.words, *WORD_LENGTH
    yield from _marks(text, words.count)
    yield "alphabetic_words", words.alphabetic / words.count, MIN_ALPHABETIC, 1
    yield "stop_words", words.stop_words, MIN_STOP_WORDS, math.inf
    yield from fineweb_ngrams(text, words)


def fineweb_lines(text: str) -> Iterator[Measure]:
    """The line rules of `gopher@fineweb`."""
    yield "words", int(bool(text.strip())), 1, math.inf  # an empty text has no shares
    yield from _repetition(_lines(text), len(text), "line")
    yield from _repetition(_paragraphs(text.strip()), len(text), "paragraph")
    yield from _line_shapes([line.strip() for line in text.splitlines()])


def fineweb_ngrams(text: str, words: Words) -> Iterator[Measure]:
    """The n-gram rules of `gopher@fineweb`."""
    ids, lengths = words.pieces()
    ends = np.concatenate([[0], np.cumsum(lengths)])
    found = {repeated.n: repeated for repeated in repeats(ids)}
    for n, most in MAX_TOP_NGRAM.items():
        if n <= len(ids):
            starts = found[n].most_frequent() if n in found else np.zeros(1, np.int64)
            chars = (int(ends[starts[0] + n] - ends[starts[0]]) + n - 1) * len(starts)
            yield f"top_{n}gram_chars", chars / len(text), 0, most
    for n, most in MAX_DUPLICATE_NGRAMS.items():
        if n in found:
            chars = _skipped(found[n], ends, most * len(text))
            yield f"duplicate_{n}gram_chars", chars / len(text), 0, most


def _lines(text: str) -> list[str]:
    """A text split at runs of line ends, as a regular expression would in ten times the time."""
    lines = text.split("\n")
    return [*lines[:1], *filter(None, lines[1:-1]), *lines[1:][-1:]]


def _paragraphs(text: str) -> list[str]:
    """A text split at runs of two line ends or more; no empty parts."""
    parts = (part.lstrip("\n") for part in text.split("\n\n"))
    return [part for part in parts if part]


def _marks(text: str, count: int) -> Iterator[Measure]:
    yield "hashes", text.count("#") / count, 0, MAX_HASHES
    yield "ellipses", (text.count("...") + text.count("…")) / count, 0, MAX_ELLIPSES


def _line_shapes(lines: list[str]) -> Iterator[Measure]:
    bullets = sum(line.startswith(("•", "-")) for line in lines)
    yield "bullet_lines", bullets / len(lines), 0, MAX_BULLET_LINES
    ellipses = sum(line.endswith(("...", "…")) for line in lines)
    yield "ellipsis_lines", ellipses / len(lines), 0, MAX_ELLIPSIS_LINES


def _repetition(parts: list[str], chars: int, name: str) -> Iterator[Measure]:
    """Shares of lines or paragraphs, and of a number of characters, that repeat an earlier part."""
    number, repeated = duplicates(parts)
    yield f"duplicate_{name}s", number / len(parts), 0, _MAX_PARTS[name][0]
    yield f"duplicate_{name}_chars", repeated / chars, 0, _MAX_PARTS[name][1]


_MAX_PARTS = {
    "line": (MAX_DUPLICATE_LINES, MAX_DUPLICATE_LINE_CHARS),
    "paragraph": (MAX_DUPLICATE_PARAGRAPHS, MAX_DUPLICATE_PARAGRAPH_CHARS),
}


def _skipped(found: Repeats, ends: Ints, enough: float) -> int:
    """Characters of n-grams read before, where each one found is skipped whole.

    Counted exactly only where all occurrences but the first together have more than `enough`:
    otherwise their sum, which is more than the exact count, is returned.
    """
    again = found.starts[~found.fresh]
    total = int((ends[again + found.n] - ends[again]).sum())
    if total <= enough:
        return total
    order = np.argsort(found.starts)
    starts, groups = found.starts[order].tolist(), found.groups()[order].tolist()
    read: set[int] = set()
    chars = after = 0
    for start, group in zip(starts, groups, strict=True):
        if start < after:
            continue
        if group in read:
            chars += int(ends[start + found.n] - ends[start])
            after = start + found.n
        else:
            read.add(group)
    return chars
