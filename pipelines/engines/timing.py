"""How long one call takes."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

WARM_UP = 5  # calls; the first allocates, the next ones fill caches
CALLS = 100

Item = TypeVar("Item")


def median_ms(call: Callable[[Item], object], items: Sequence[Item], calls: int = CALLS) -> float:
    """The median wall time of `call(item)` over the items in turn, in milliseconds."""
    seconds = []
    for number in range(WARM_UP + calls):
        item = items[number % len(items)]
        start = time.perf_counter()
        call(item)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[WARM_UP:]) * 1e3


def race_ms(calls: Sequence[Callable[[], object]], rounds: int = CALLS) -> list[float]:
    """The median wall time of each call, in milliseconds, all called in turn each round.

    So whatever else slows the machine down slows all of them: their ratios hold when it is busy.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(WARM_UP + rounds):
        for call, taken in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken[WARM_UP:]) * 1e3 for taken in seconds]
