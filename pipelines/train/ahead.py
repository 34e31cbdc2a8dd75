"""A step's number in; this process's parts of its batch out, made during the step before."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

from pipelines.tasks.batches import Batches
from pipelines.tasks.protocol import Batch

Turns = Callable[[Sequence[int]], Iterator[tuple[int, float]]]


@dataclass(frozen=True)
class Turn:
    """A part that this process learns from, and its weight; see `Parallel.turns`."""

    part: int
    weight: float
    batch: Batch


@dataclass(frozen=True)
class Share:
    """One process's share of a step: its turns, and the rows of all parts."""

    turns: list[Turn]
    rows: list[int]


class Ahead:
    """Shares of the steps, asked for one after the other; a context manager that ends its thread.

    A process makes the parts that it learns from, and no other's.
    """

    def __init__(self, batches: Batches, turns: Turns) -> None:
        self._batches, self._turns = batches, turns
        self._pool = ThreadPoolExecutor(1, "batches")
        self._number, self._next = -1, Future[Share]()

    def take(self, number: int, more: bool) -> Share:
        """The share of batch `number`; begins with the one after it if `more` are to come."""
        found = self._next if number == self._number else self._begin(number)
        if more:
            self._number, self._next = number + 1, self._begin(number + 1)
        return found.result()

    def _begin(self, number: int) -> Future[Share]:
        return self._pool.submit(self._made, number)

    def _made(self, number: int) -> Share:
        _, parts = self._batches.rows(number)
        turns = [
            Turn(part, weight, self._batches.part(number, part))
            for part, weight in self._turns([len(rows) for rows in parts])
        ]
        return Share(turns, [row for rows in parts for row in rows.tolist()])

    def __enter__(self) -> Self:
        """The thread starts with the first share."""
        return self

    def __exit__(self, *_: object) -> None:
        """What was begun is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
