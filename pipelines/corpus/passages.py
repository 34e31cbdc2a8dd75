"""Paragraphs or lines of all documents -> which ones an earlier document has, to be dropped.

Off unless asked for: it leaves gaps in texts, so it suits boilerplate-ridden web pages, not books.
A passage goes if an earlier document of those that passed the rules and deduplication has it, equal
up to case and white space by a 128-bit hash. That document may itself be left with too little and
go, so a passage of only such documents is lost. What a document repeats of itself stays.

Source: RefinedWeb (Penedo et al. 2023, 2306.01116), section 3.3, and C4 (Raffel et al. 2020,
section 2.2) remove spans that occur elsewhere in the corpus.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from pipelines.core.artifact import Workspace
from pipelines.corpus import shuffle
from pipelines.corpus.config import Passages
from pipelines.corpus.dedup import fingerprint
from pipelines.corpus.shuffle import KEYED, Records, Spread

FOLDER = ".work/passages"
DROPPED = np.dtype([("document", "i8"), ("place", "i8")])
_BREAKS = {"paragraphs": re.compile(r"(\n[^\S\n]*\n\s*)"), "lines": re.compile(r"(\n)")}

Staying = Callable[[int], Iterator[tuple[int, str]]]
"""Row and text of the documents of a part that stay."""


def find(spread: Spread, out: Workspace, staying: Staying, units: list[int], how: Passages) -> None:
    """Write, a part, the places of its documents that an earlier document has.

    Args:
        spread: calls a function with each item, in any order or process.
        out: where the files go.
        staying: the texts of a part.
        units: an upper bound of the passages of each part.
        how: what a passage is.
    """
    parts = shuffle.runs(units, shuffle.SHARE)
    ranges = -(-sum(units) // shuffle.SHARE) or 1
    runs = list(enumerate(parts))
    list(
        spread(partial(shuffle.scatter, out, FOLDER, partial(_records, staying, how), ranges), runs)
    )
    list(spread(partial(_search, out, parts), range(ranges)))
    list(spread(partial(shuffle.receive, out, FOLDER, DROPPED, "document", ranges), runs))


def dropped(out: Workspace, part: int) -> dict[int, set[int]]:
    """Places to drop, by row of a part; empty where nothing was searched."""
    name = shuffle.by_part(FOLDER, part)
    found: dict[int, set[int]] = {}
    for document, place in shuffle.load(out, name).tolist() if out.exists(name) else ():
        found.setdefault(document & 0xFFFFFFFF, set()).add(place)
    return found


def without(text: str, places: set[int], how: Passages) -> str:
    """The text less the passages at some places, and less the breaks before them."""
    pieces = _BREAKS[how.unit].split(text)  # passage, break, passage, ...
    left: list[str] = []
    for place, passage in enumerate(pieces[::2]):
        if place not in places:
            left += [pieces[2 * place - 1], passage] if left else [passage]
    return "".join(left).strip("\n")


def count(text: str, how: Passages) -> int:
    """How many passages a text has."""
    return len(_BREAKS[how.unit].findall(text)) + 1


def later(records: Records) -> Records:
    """The passages, of records in order of key and document, that an earlier document has."""
    earliest = records["document"][shuffle.starts(records)]
    repeats = records[records["document"] != earliest]
    found = np.empty(len(repeats), DROPPED)
    found["document"], found["place"] = repeats["document"], repeats["place"]
    return found


def _records(staying: Staying, how: Passages, part: int) -> Records:
    rows, places, prints = [], [], []
    for row, text in staying(part):
        for place, passage in enumerate(_BREAKS[how.unit].split(text)[::2]):
            if len(passage.strip()) >= how.min_chars:
                rows.append(shuffle.document(part, row))
                places.append(place)
                prints.append(fingerprint(passage))
    keys = np.frombuffer(b"".join(prints), np.uint64).reshape(-1, 2)
    found = np.zeros(len(rows), KEYED)
    found["key"], found["low"], found["document"], found["place"] = *keys.T, rows, places
    return found


def _search(out: Workspace, parts: list[range], at: int) -> None:
    found = later(shuffle.gather(out, FOLDER, at, len(parts)))
    shuffle.send(out, FOLDER, found, "document", at, parts)
