"""What the one training loop asks of every job: rows by number in, sums of losses out.

A step's batch is cut into parts. Each part's figures are *sums* with *counts*, so that a mean over
the whole batch is exact however the parts are shared out among processes:
`loss = sum over objectives of weight * sum(part sums) / sum(part counts)`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

# Rows are padded to a multiple of this: matrix kernels like it and there are fewer shapes.
ROUND = 8


@dataclass(frozen=True)
class Batch:
    """One part of a step's batch.

    `counts` has, for each figure of `Task.sums`, over how many items it is summed. `tokens` are
    real ones (no padding) and `predicted` the positions whose whole vocabulary is scored: both
    serve throughput.
    """

    tensors: dict[str, torch.Tensor]
    counts: dict[str, int]
    rows: tuple[int, ...]
    tokens: int
    predicted: int = 0


Sums = Callable[[Any, Batch], dict[str, torch.Tensor]]  # what `Task.sums` is


class Task(Protocol):
    """One job that the loop can learn."""

    @property
    def objectives(self) -> Mapping[str, float]:
        """The figures that make the loss, with their weights; the others are only reported."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of every row, by which rows of like length share a batch: (rows,)."""

    def batch(self, rows: np.ndarray, epoch: int) -> Batch:
        """These rows as they are seen in `epoch`: a pure function. There may be none of them."""

    def sums(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """The scalar fp32 sum of each figure over the rows of `batch`."""


def pad(rows: Sequence[np.ndarray], fill: int) -> np.ndarray:
    """The rows as one int64 matrix (B, T), T the longest one's length up to a multiple of 8."""
    longest = max((len(row) for row in rows), default=0)
    matrix = np.full((len(rows), -(-longest // ROUND) * ROUND), fill, dtype=np.int64)
    for row, ids in zip(matrix, rows, strict=True):
        row[: len(ids)] = ids
    return matrix


def inputs(rows: Sequence[np.ndarray], pad_id: int) -> dict[str, torch.Tensor]:
    """`input_ids` (B, T) and, only where a row is padded, `attention_mask` (B, T).

    Without a mask the attention kernel is the faster one.
    """
    ids = pad(rows, pad_id)
    lengths = np.array([len(row) for row in rows])
    tensors = {"input_ids": torch.from_numpy(ids)}
    if (lengths < ids.shape[1]).any():
        mask = np.arange(ids.shape[1]) < lengths[:, None]
        tensors["attention_mask"] = torch.from_numpy(mask.astype(np.int64))
    return tensors
