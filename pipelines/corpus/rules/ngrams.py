"""Which n-grams of a text repeat, for n from 2 to 10, with exact comparison and no strings.

An n-gram repeats only if the two (n-1)-grams in it do, so each n looks only at what the last one
left: of 700 words of prose about 250 pairs, 40 triples and no longer n-gram are left.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_TOKENS = 1 << 21  # three of these numbers fit 63 bits; the rest of a longer text is not seen

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Repeats:
    """The n-grams that occur twice or more: where, and which are the same.

    Attributes:
        n: words in each.
        starts: first word of each occurrence, by n-gram, then ascending.
        fresh: whether the occurrence is its n-gram's first.
    """

    n: int
    starts: Ints
    fresh: NDArray[np.bool_]

    def groups(self) -> Ints:
        """A number for each occurrence, the same for the same n-gram."""
        return np.cumsum(self.fresh)

    def most_frequent(self) -> Ints:
        """The occurrences of the n-gram with the most of them; the first to occur wins a tie."""
        begins = np.flatnonzero(self.fresh)
        counts = np.diff(begins, append=len(self.starts))
        ties = begins[counts == counts.max()]
        begin = ties[np.argmin(self.starts[ties])]
        return self.starts[begin : begin + counts.max()]


def repeats(words: Ints, longest: int = 10) -> Iterator[Repeats]:
    """Repeated n-grams for n = 2, 3, ... `longest`, while there are any.

    Args:
        words: numbers from 0, equal where words are.
        longest: the last n.
    """
    words = words[:MAX_TOKENS]
    if words.max(initial=0) >= MAX_TOKENS:
        words = np.unique(words, return_inverse=True)[1]
    starts = np.arange(len(words), dtype=np.int64)
    prefix = words  # a number for the first n-1 words of the n-gram at each of `starts`
    for n in range(2, longest + 1):
        fits = starts <= len(words) - n
        starts, prefix = starts[fits], prefix[fits]
        packed = np.sort((prefix << 42) | (words[starts + n - 1] << 21) | starts)
        same = packed[1:] >> 21 == packed[:-1] >> 21
        if not same.any():
            return
        repeated = np.zeros(len(packed), np.bool_)
        repeated[1:] = same
        fresh = ~repeated
        repeated[:-1] |= same
        found = Repeats(n, packed[repeated] & (MAX_TOKENS - 1), fresh[repeated])
        yield found
        starts, prefix = found.starts, found.groups()


def covered(starts: Ints, n: int, lengths: Ints) -> float:
    """Share of all lengths that the n-grams at `starts` (each once) cover, each word once."""
    edges: Ints = np.zeros(len(lengths) + 1, np.int64)
    edges[starts] += 1
    edges[starts + n] -= 1
    return float(lengths[np.cumsum(edges)[:-1] > 0].sum() / lengths.sum())
