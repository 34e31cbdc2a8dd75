"""Admission: a request comes in -> it runs, or is refused at once with the seconds to wait.

A bounded count of requests in flight keeps the wait of those admitted short under any load. The
wait told to the others follows from how fast requests have been finishing while there were any.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator

from pipelines.serve.errors import ApiError

REMEMBERED = 32  # finished requests from which the rate is taken: about a second of a busy replica
LONGEST_WAIT_S = 60.0


class Admission:
    """Counts requests in flight, at most `limit`.

    Args:
        limit: requests inside at once.
        clock: seconds that only grow.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.in_flight = 0
        self._clock = clock
        self._finished: deque[float] = deque(maxlen=REMEMBERED)

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Holds one place while the block runs.

        Raises:
            ApiError: 429, every place is taken.
        """
        if self.in_flight >= self.limit:
            raise ApiError(
                429,
                f"{self.limit} requests are in work or waiting, as many as this endpoint takes; "
                "send this one again after the seconds in Retry-After",
                retry_after_s=self.wait_s(),
            )
        if not self.in_flight:
            self._skip_idle_time()
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._finished.append(self._clock())

    def wait_s(self) -> float:
        """Seconds until the requests in flight are done, at the rate of the last ones; 1 to 60."""
        if len(self._finished) < 2:
            return 1.0
        span_s = self._clock() - self._finished[0]
        return min(max(self.in_flight * span_s / len(self._finished), 1.0), LONGEST_WAIT_S)

    def _skip_idle_time(self) -> None:
        """Move what is remembered up to now: an hour without a request says nothing of the rate."""
        if self._finished:
            idle_s = self._clock() - self._finished[-1]
            shifted = [finished + idle_s for finished in self._finished]
            self._finished = deque(shifted, maxlen=REMEMBERED)
