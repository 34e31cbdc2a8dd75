"""Records of all parts -> the same records brought together by key, through files.

A document's number is its place: part << 32 | row in the part, the same in every run. Consecutive
parts form a run and keys form ranges, each of about `SHARE` records, so a task holds the records of
one run or one range. What moves is keys and numbers, never text. Every function writes files that
follow from its arguments alone, the last one last, so Ray may call it twice.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.core.artifact import Workspace

Records = NDArray[np.void]
Documents = NDArray[np.int64]
Spread = Callable[[Callable[..., Any], Sequence[Any]], Iterator[Any]]

SHARE = 4_000_000  # records of a run or a range: 128 MB, some 400 MB while they are sorted
KEYED = np.dtype([("key", "u8"), ("low", "u8"), ("document", "i8"), ("place", "i8")])
"""A record to bring together: 128 bits of key, the document and a place in it."""


def document(part: int, row: int) -> int:
    """The number of a document."""
    return part << 32 | row


def runs(sizes: Sequence[int], share: int) -> list[range]:
    """Consecutive parts with about `share` records together."""
    found, start, filled = [], 0, 0
    for part, size in enumerate(sizes):
        if filled and filled + size > share:
            found.append(range(start, part))
            start, filled = part, 0
        filled += size
    return [*found, range(start, len(sizes))] if sizes else []


def starts(records: Records) -> Documents:
    """For each of sorted records, where its key begins."""
    new = np.ones(len(records), np.bool_)
    new[1:] = (records["key"][1:] != records["key"][:-1]) | (
        records["low"][1:] != records["low"][:-1]
    )
    return np.maximum.accumulate(np.where(new, np.arange(len(records)), 0))


def save(out: Workspace, name: str, records: Records) -> None:
    """Write records as a `.npy` file."""
    sink = io.BytesIO()
    np.save(sink, records, allow_pickle=False)
    out.write(name, sink.getvalue())


def load(out: Workspace, name: str) -> Records:
    """Records of one file."""
    return np.asarray(np.load(io.BytesIO(out.read(name)), allow_pickle=False))


def load_all(out: Workspace, names: Sequence[str], kind: np.dtype[np.void]) -> Records:
    """Records of several files, one after another."""
    return np.concatenate([np.empty(0, kind), *(load(out, name) for name in names)])


def scatter(
    out: Workspace,
    folder: str,
    records: Callable[[int], Records],
    ranges: int,
    run: tuple[int, range],
) -> None:
    """Write the records of a run's parts as one file a range of keys."""
    number, parts = run
    if out.exists(_keyed(folder, ranges - 1, number)):
        return
    found = np.concatenate([np.empty(0, KEYED), *(records(part) for part in parts)])
    home = found["key"] % np.uint64(ranges)
    for at in range(ranges):
        save(out, _keyed(folder, at, number), found[home == at])


def gather(out: Workspace, folder: str, at: int, run_count: int) -> Records:
    """All records of a range, by key and, in one key, by document and place."""
    names = [_keyed(folder, at, number) for number in range(run_count)]
    found = load_all(out, names, KEYED)
    return found[np.lexsort((found["place"], found["document"], found["low"], found["key"]))]


def send(
    out: Workspace, folder: str, records: Records, field: str, at: int, parts: list[range]
) -> None:
    """Write what range `at` found as one file a run: that of the document in `field`."""
    part = records[field] >> 32
    for number, run in enumerate(parts):
        inside = (part >= run.start) & (part < run.stop)
        save(out, _found(folder, number, at), records[inside])


def receive(
    out: Workspace,
    folder: str,
    kind: np.dtype[np.void],
    field: str,
    ranges: int,
    run: tuple[int, range],
) -> None:
    """Write what all ranges found as one sorted file a part, each record once."""
    number, parts = run
    if out.exists(by_part(folder, parts[-1])):
        return
    found = load_all(out, [_found(folder, number, at) for at in range(ranges)], kind)
    found = once(found)
    home = found[field] >> 32
    for part in parts:
        save(out, by_part(folder, part), found[home == part])


def once(records: Records) -> Records:
    """Sorted distinct records, the first field first."""
    names = records.dtype.names or ()
    ordered = records[np.lexsort([records[name] for name in reversed(names)])]
    if len(ordered) < 2:
        return ordered
    new = np.zeros(len(ordered) - 1, np.bool_)
    for name in names:
        new |= ordered[name][1:] != ordered[name][:-1]
    return ordered[np.concatenate(([True], new))]


def by_part(folder: str, part: int) -> str:
    """The name of the records of a part's documents."""
    return f"{folder}/part-{part:05d}.npy"


def _keyed(folder: str, at: int, run: int) -> str:
    return f"{folder}/keyed/range-{at:05d}/run-{run:05d}.npy"


def _found(folder: str, run: int, at: int) -> str:
    return f"{folder}/found/run-{run:05d}/range-{at:05d}.npy"
