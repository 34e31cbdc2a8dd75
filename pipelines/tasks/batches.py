"""A task's rows in; the parts of each global step's batch out, as pure functions of its number."""

import numpy as np

from pipelines.tasks.protocol import Batch, Task
from pipelines.tokens.order import Order


class Batches:
    """The batches of a run: `batch_rows` rows a step, cut in `parts` whatever who learns them."""

    def __init__(self, task: Task, *, seed: int, batch_rows: int, parts: int) -> None:
        self.task, self.batch_rows, self._parts = task, batch_rows, parts
        self._order = Order(task.lengths, seed, batch_rows)

    @property
    def num_rows(self) -> int:
        """Rows of one epoch."""
        return len(self.task.lengths)

    def rows(self, step: int) -> tuple[int, list[np.ndarray]]:
        """The epoch of global step `step` (both from 0), and the rows of every part.

        Rows are dealt out in turn, so parts of rows sorted by length have like lengths. A part may
        have none when the last batch of an epoch is short.
        """
        epoch, rows = self._order.batch(step)
        return epoch, [rows[part :: self._parts] for part in range(self._parts)]

    def part(self, step: int, part: int) -> Batch:
        """One part of the batch of step `step`."""
        epoch, rows = self.rows(step)
        return self.task.batch(rows[part], epoch)

    def whole(self, step: int) -> list[Batch]:
        """Every part of the batch of step `step`."""
        return [self.part(step, part) for part in range(self._parts)]
