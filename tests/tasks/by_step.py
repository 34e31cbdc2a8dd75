"""A task and its batches in one: the parts of each step are told by number."""

from typing import Any

import numpy as np

from pipelines.tasks.protocol import Batch


class ByStep:
    """What `Batches` answers and what a loop asks of a task, from a method `parts(step)`."""

    num_rows, batch_rows = 1000, 1

    def parts(self, step: int) -> list[Batch]:
        """Every part of the batch of `step`."""
        raise NotImplementedError

    @property
    def task(self) -> Any:
        return self

    def rows(self, step: int) -> tuple[int, list[np.ndarray]]:
        return 0, [np.array(part.rows, np.int64) for part in self.parts(step)]

    def part(self, step: int, part: int) -> Batch:
        return self.parts(step)[part]

    def whole(self, step: int) -> list[Batch]:
        return self.parts(step)

    def batch(self, rows: np.ndarray, epoch: int) -> Batch:
        assert not len(rows)
        return Batch({}, dict.fromkeys(ByStep.whole(self, 0)[0].counts, 0), (), 0)
