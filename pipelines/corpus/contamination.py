"""Evaluation items + text -> the items that the text repeats, and how much of each.

Case, punctuation and white space are folded away and only letters and digits compared, as in
OpenAI's check (GPT-4 Technical Report, arXiv 2303.08774, appendix C: 50 characters), so a
reformatted item is still found and Chinese needs no words. Lengths are in UTF-8 bytes: a Chinese
character has three, and says about as much as three Latin letters.

Seeds propose and the characters dispose: an index holds the hash of every 27th stretch of 24 bytes
of every item; whatever stretch of 50 bytes is shared contains one whole. Where a text has a seed's
hash, the text and the item are compared byte by byte and the run they share is measured, so that
no hash collision is ever reported. The index is a few arrays: one file, no pickle of its own.
"""

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from pipelines.core.errors import DataError

SEED = 24  # bytes hashed: about five English words or eight Chinese characters
RUN = 50  # bytes that must be shared in one piece; a shorter item must be found whole
STRIDE = RUN - SEED + 1
PLACES = 64  # items that may hold one seed; what more of them share is a template, not evidence
REPEATS = 16  # places of a text at which one seed is looked into: a phrase said a million times
BLOCK = 1 << 20  # bytes hashed at once, 8 bytes of hash each
MIN_SHARE = 0.5  # of an item; below it a text quotes the same source, as a news item or a law
VERSION = "1"

_DELETED = bytes(code for code in range(128) if not chr(code).isalnum())
_LOWER = bytes(ord(chr(code).lower()) if code < 128 else code for code in range(256))
_SIGNS = re.compile(r"[^\w\x00-\x7f]+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_TURN = np.uint64(29)
_CROWD = 64  # cells of the first look for each seed: 1 place in 64 passes by chance
_MOST_CELLS = 2**26


@dataclass(frozen=True)
class Match:
    """A text repeats `share` of the letters and digits of an item of an evaluation set."""

    set: str
    item: str
    share: float


@dataclass(frozen=True)
class Index:
    """The items of evaluation sets, to be looked for in texts.

    Attributes:
        hashes: of seeds, sorted.
        items: the item of each seed.
        offsets: the byte of the item at which its seed begins.
        starts: the first byte of each item in `letters`, and the end of the last.
        letters: the folded items, end to end.
        names: evaluation set and id of each item.
        short: how many items of each set have fewer than `SEED` bytes, so cannot be looked for.
    """

    hashes: NDArray[np.uint64]
    items: NDArray[np.int32]
    offsets: NDArray[np.int32]
    starts: NDArray[np.int64]
    letters: NDArray[np.uint8]
    names: tuple[tuple[str, str], ...]
    short: Mapping[str, int]

    @cached_property
    def cells(self) -> NDArray[np.bool_]:
        """Which high bits of a hash any seed has: one small table answers for most places."""
        bits = min(len(self.hashes) * _CROWD, _MOST_CELLS).bit_length()
        cells = np.zeros(1 << bits, np.bool_)
        cells[self.hashes >> np.uint64(64 - bits)] = True
        return cells

    def to_bytes(self) -> bytes:
        """One safetensors file, the same bytes for the same items."""
        facts = {"version": VERSION, "names": self.names, "short": dict(self.short)}
        arrays = ("hashes", "items", "offsets", "starts", "letters")
        tensors = {name: getattr(self, name) for name in arrays}
        return bytes(save(tensors, {"facts": json.dumps(facts, sort_keys=True)}))


def load(path: str) -> Index:
    """The index in a local file written from `to_bytes`.

    Raises:
        DataError: the file is of another version of this module.
    """
    with safe_open(path, framework="numpy") as file:
        facts = json.loads(file.metadata()["facts"])
        if facts["version"] != VERSION:
            raise DataError(
                f"{path}: a contamination index of version {facts['version']}, expected {VERSION}; "
                "delete it and run again"
            )
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    return Index(**arrays, names=tuple(map(tuple, facts["names"])), short=facts["short"])


def build(sets: Mapping[str, Iterable[tuple[str, str]]]) -> Index:
    """The index of evaluation sets.

    Args:
        sets: (id, text) of the items of each set, by the set's name. Give a question and its
            passage as two items: a text that holds only the question repeats little of both.
    """
    names: list[tuple[str, str]] = []
    parts: list[bytes] = []
    short: dict[str, int] = {}
    for name in sorted(sets):
        short[name] = 0
        for item, text in sets[name]:
            folded = fold(text)
            if len(folded) < SEED:
                short[name] += 1
            else:
                names.append((name, item))
                parts.append(folded)
    hashes, items, offsets = _seeds(parts)
    starts = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    letters = np.frombuffer(b"".join(parts), np.uint8)
    return Index(hashes, items, offsets, starts, letters, tuple(names), short)


def matches(index: Index, text: str, min_share: float = MIN_SHARE) -> list[Match]:
    """The items of which a text repeats at least `min_share`, in the index's order."""
    if not len(index.hashes):
        return []
    folded = np.frombuffer(fold(text), np.uint8)
    runs: defaultdict[int, dict[tuple[int, int], None]] = defaultdict(dict)
    reached: dict[tuple[int, int], int] = {}  # of an item laid at a place: how far it is compared
    for place, seed in _hits(index, folded):
        item, offset = int(index.items[seed]), int(index.offsets[seed])
        if reached.get((item, place - offset), -1) <= offset:
            run = _run(index, folded, item, offset, place)
            runs[item][run] = None
            reached[item, place - offset] = run[1]
    found = []
    for item in sorted(runs):
        share = _share(runs[item], int(index.starts[item + 1] - index.starts[item]))
        if share >= min_share:
            found.append(Match(*index.names[item], round(share, 4)))
    return found


def sizes(index: Index) -> dict[str, dict[str, int]]:
    """Of each evaluation set: its items, and how many are too short to be looked for."""
    long = Counter(name for name, _ in index.names)
    return {
        name: {"items": long[name] + short, "too_short": short}
        for name, short in sorted(index.short.items())
    }


def fold(text: str) -> bytes:
    """The letters and digits of a text, without case and compatibility forms, as UTF-8."""
    if not text.isascii():
        text = _SIGNS.sub("", text)  # first: most of what NFKC would change is punctuation
        if not unicodedata.is_normalized("NFKC", text):
            text = _SIGNS.sub("", unicodedata.normalize("NFKC", text))
        text = text.casefold()
    return text.encode("utf-8", "replace").translate(_LOWER, _DELETED)


def _hashed(folded: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A 64-bit hash of the `SEED` bytes that begin at each place."""
    count = len(folded) - SEED + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    words = np.ndarray((len(folded) - 7,), "<u8", np.ascontiguousarray(folded), 0, (1,))
    keys = np.zeros(count, np.uint64)
    for place in range(0, SEED, 8):
        keys ^= words[place : place + count]
        keys *= _FACTOR
        keys ^= keys >> _TURN
    keys *= _FACTOR  # into the high bits, which the first look reads
    return keys


def _seeds(
    parts: Sequence[bytes],
) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]]:
    """Hash, item and offset of every seed, sorted by these; of a crowded hash the first ones."""
    places = [_places(len(part)) for part in parts]
    empty = [np.zeros(0, np.uint64)]
    arrays = (np.frombuffer(part, np.uint8) for part in parts)
    taken = [_hashed(part)[at] for part, at in zip(arrays, places, strict=True)]
    hashes = np.concatenate(empty + taken)
    items = np.repeat(np.arange(len(parts), dtype=np.int32), [len(at) for at in places])
    offsets = np.concatenate([np.zeros(0, np.int32), *places]).astype(np.int32)
    order = np.lexsort((offsets, items, hashes))
    hashes = hashes[order]
    rank = np.arange(len(hashes)) - np.searchsorted(hashes, hashes)
    kept = rank < PLACES
    return hashes[kept], items[order][kept], offsets[order][kept]


def _places(size: int) -> NDArray[np.int32]:
    """Where the seeds of an item begin: every `STRIDE` bytes, and one at its end."""
    return np.unique(np.append(np.arange(0, size - SEED + 1, STRIDE), size - SEED)).astype(np.int32)


def _hits(index: Index, folded: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """(place in a text, seed of the index) for each seed that occurs at a place."""
    bits = np.uint64(64 - (len(index.cells).bit_length() - 1))
    times: Counter[int] = Counter()
    for begin in range(0, max(0, len(folded) - SEED + 1), BLOCK):
        keys = _hashed(folded[begin : begin + BLOCK + SEED - 1])
        places = np.flatnonzero(index.cells[keys >> bits])
        first = np.searchsorted(index.hashes, keys[places], "left").tolist()
        last = np.searchsorted(index.hashes, keys[places], "right").tolist()
        for place, start, end in zip(places.tolist(), first, last, strict=True):
            for seed in range(start, end):
                times[seed] += 1
                if times[seed] <= REPEATS:
                    yield begin + place, seed


def _run(
    index: Index, folded: NDArray[np.uint8], item: int, offset: int, place: int
) -> tuple[int, int]:
    """The bytes [start, end) of an item that a text repeats in one piece around a seed."""
    letters = index.letters[index.starts[item] : index.starts[item + 1]]
    after = _equal(letters[offset:], folded[place:])
    before = _equal(letters[:offset][::-1], folded[:place][::-1])
    return offset - before, offset + after


def _equal(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> int:
    """How many bytes two arrays begin with alike."""
    size = min(len(first), len(second))
    unequal = np.flatnonzero(first[:size] != second[:size])
    return int(unequal[0]) if len(unequal) else size


def _share(runs: Iterable[tuple[int, int]], size: int) -> float:
    """The part of an item of `size` bytes that runs of enough bytes cover."""
    covered, reached = 0, 0
    for start, end in sorted(runs):
        if end - start >= min(RUN, size):
            covered += max(0, end - max(start, reached))
            reached = max(reached, end)
    return covered / size
