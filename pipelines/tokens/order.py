"""Row lengths and a seed -> the batches of training, as a pure function of the step number.

Nothing here knows workers: step s has the same rows whatever their number, and to resume is to go
on at s. That is the way of Megatron and OLMo-core; peers that keep a state per rank refuse or
corrupt a resume on another number of workers. Rows of like length share a batch, so little of it is
padding.
"""

import numpy as np
from numpy.typing import NDArray

WINDOW = 32  # batches within which rows are sorted by length; beyond, the order is random


def order(lengths: NDArray[np.int64], seed: int, epoch: int, batch_rows: int) -> NDArray[np.int64]:
    """Every row number once, in the order of one epoch: (rows,).

    Rows are shuffled, sorted by length within windows of `WINDOW` batches, cut into batches, and
    the batches shuffled. Rows that fill no batch come last.
    """
    # Raw Philox output, not Generator.permutation, whose stream NumPy may change (NEP 19).
    source = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64))
    shuffled = np.argsort(source.random_raw(len(lengths)), kind="stable")
    num_batches = len(lengths) // batch_rows
    whole, rest = np.split(shuffled, [num_batches * batch_rows])
    window = np.arange(len(whole)) // (WINDOW * batch_rows)
    batches = whole[np.lexsort((lengths[whole], window))].reshape(num_batches, batch_rows)
    mixed = batches[np.argsort(source.random_raw(num_batches), kind="stable")]
    return np.concatenate([mixed.ravel(), rest])


class Order:
    """The batches of a training run; its only state is the last epoch's order, kept for speed."""

    def __init__(self, lengths: NDArray[np.int64], seed: int, batch_rows: int) -> None:
        self._lengths, self._seed, self._batch_rows = lengths, seed, batch_rows
        self._epoch, self._rows = -1, np.empty(0, np.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every row is seen once; the last one's batch may be short."""
        return -(-len(self._lengths) // self._batch_rows)

    def batch(self, step: int) -> tuple[int, NDArray[np.int64]]:
        """The epoch (from 0) and the row numbers of global step `step` (from 0)."""
        epoch, inner = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._rows = order(self._lengths, self._seed, epoch, self._batch_rows)
            self._epoch = epoch
        return epoch, self._rows[inner * self._batch_rows : (inner + 1) * self._batch_rows]
