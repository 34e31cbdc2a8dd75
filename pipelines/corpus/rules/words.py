"""A text's English words and marks as arrays: numbers for n-grams, sums for the word rules.

A piece of text between white space is cut once, and what the rules ask of it is kept: the cost of
a document is then a look-up a piece (`english.pieces` takes 10 us, the look-up 0.1 us). What is
kept never changes a result, only its speed, and is dropped where it grows past `MAX_KNOWN`.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.corpus.rules.english import pieces
from pipelines.corpus.rules.marks import SENTENCE_ENDS, SYMBOLS

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Rae et al. 2021, A1.1
MAX_KNOWN = 200_000  # pieces of text between white space: 100 MB, at 0.5 kB each

_RUNS = re.compile(r"\S+|\s+")
_FACTS = 6  # first piece, pieces, words, their letters, alphabetic pieces, stop words as bits


@dataclass(frozen=True)
class Sentences:
    """What a piece of text does to a sentence count, unless (0) or if (1) a mark came before."""

    begun: tuple[int, int]
    open: tuple[bool, bool]


class Lexicon(dict[str, int]):
    """Text between white space -> its number; the facts about each in arrays."""

    def __init__(self) -> None:
        super().__init__()
        self._forget()

    def _forget(self) -> None:
        self.clear()
        self._pieces: dict[str, tuple[int, bool, bool, int]] = {}
        self._rows: list[tuple[int, ...]] = []
        self._parts: list[int] = []
        self._lengths: list[int] = []
        self._facts = np.zeros((1024, _FACTS), np.int64)
        self._flat = np.zeros((2, 1024), np.int64)  # number and length of each piece
        self._stored = self._stored_pieces = 0
        self.sentences: dict[str, Sentences] = {}

    def __missing__(self, chunk: str) -> int:
        numbers, sizes = [], []
        words = size = letters = stops = 0
        for piece in pieces(chunk):
            number, is_word, has_letter, stop = self._pieces.get(piece) or self._learn(piece)
            numbers.append(number)
            sizes.append(len(piece))
            words += is_word
            size += is_word * len(piece)
            letters += has_letter
            stops |= stop
        first = self._stored_pieces + len(self._parts)
        self._rows.append((first, len(numbers), words, size, letters, stops))
        self._parts += numbers
        self._lengths += sizes
        number = self[chunk] = len(self)
        return number

    def _learn(self, piece: str) -> tuple[int, bool, bool, int]:
        """Its number, whether it is a word, whether it has a letter, its stop word's bit."""
        is_word = not SYMBOLS.issuperset(piece)
        has_letter = piece.isalpha() or any(map(str.isalpha, piece))
        stop = 1 << STOP_WORDS.index(piece) if piece in STOP_WORDS else 0
        found = self._pieces[piece] = (len(self._pieces), is_word, has_letter, stop)
        return found

    def facts(self, chunks: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The facts of every chunk, a row each, and of all known pieces: number, length."""
        if len(self) > MAX_KNOWN:
            self._forget()
        ids = np.fromiter(map(self.__getitem__, chunks), np.int64, len(chunks))
        self._store()
        return self._facts[ids], self._flat

    def _store(self) -> None:
        if not self._rows:
            return
        rows, parts = len(self._rows), len(self._parts)
        while self._stored + rows > len(self._facts):
            self._facts = np.concatenate([self._facts, np.zeros_like(self._facts)])
        while self._stored_pieces + parts > self._flat.shape[1]:
            self._flat = np.concatenate([self._flat, np.zeros_like(self._flat)], axis=1)
        self._facts[self._stored : self._stored + rows] = self._rows
        self._flat[:, self._stored_pieces : self._stored_pieces + parts] = (
            self._parts,
            self._lengths,
        )
        self._stored += rows
        self._stored_pieces += parts
        self._rows, self._parts, self._lengths = [], [], []

    def sentence_facts(self, chunk: str) -> Sentences:
        """How a chunk goes on with the sentences before it."""
        known = self.sentences.get(chunk)
        if known is None:
            if len(self.sentences) > MAX_KNOWN:
                self.sentences.clear()
            known = self.sentences[chunk] = _sentences(pieces(chunk))
        return known


LEXICON = Lexicon()


class Words:
    """The English words and marks of a text split at white space, cut when first asked for."""

    def __init__(self, chunks: list[str]) -> None:
        self._chunks = chunks

    @cached_property
    def _facts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return LEXICON.facts(self._chunks)

    @cached_property
    def _sums(self) -> list[int]:
        found: list[int] = self._facts[0].sum(axis=0).tolist()
        return found

    @property
    def least(self) -> int:
        """A count that `count` is never below, at no cost."""
        return len(self._chunks)

    @property
    def count(self) -> int:
        """Words and marks."""
        return self._sums[1]

    @property
    def words(self) -> int:
        """Words with anything but marks."""
        return self._sums[2]

    @property
    def letters(self) -> int:
        """Characters in `words`."""
        return self._sums[3]

    @property
    def alphabetic(self) -> int:
        """Words with a letter."""
        return self._sums[4]

    @property
    def stop_words(self) -> int:
        """Distinct stop words."""
        return int(np.bitwise_or.reduce(self._facts[0][:, 5])).bit_count()

    def pieces(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers, equal where words are, and lengths of the words and marks in order."""
        rows, flat = self._facts
        counts = rows[:, 1]
        ends = np.cumsum(counts)
        at = np.arange(ends[-1]) + np.repeat(rows[:, 0] - ends + counts, counts)
        return flat[0, at], flat[1, at]


def sentences(text: str, enough: int) -> int:
    """How many sentences spaCy's sentencizer sees in a text, counted up to `enough`."""
    count, ended = 1, False
    for run in _RUNS.finditer(text):
        chunk = run[0]
        if chunk.isspace():
            if not ended or (chunk == " " and run.start()):
                continue
            count, ended = count + 1, False  # longer white space is a token
        else:
            facts = LEXICON.sentence_facts(chunk)
            count, ended = count + facts.begun[ended], facts.open[ended]
        if count >= enough:
            break
    return count


def _sentences(parts: tuple[str, ...]) -> Sentences:
    counts, states = [], []
    for before in (False, True):
        begun, ended = 0, before
        for part in parts:
            if part in SENTENCE_ENDS:
                ended = True
            elif ended and not all(unicodedata.category(char)[0] == "P" for char in part):
                begun, ended = begun + 1, False
        counts.append(begun)
        states.append(ended)
    return Sentences((counts[0], counts[1]), (states[0], states[1]))
