"""Batches by number: every row once an epoch, the same however they are cut."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.tasks.batches import Batches
from pipelines.tasks.classify import ClassifyTask


def batches(rows: int, batch_rows: int, parts: int, seed: int = 0) -> Batches:
    texts = [np.full(1 + row % 7, row, np.int64) for row in range(rows)]
    task = ClassifyTask(texts, np.zeros(rows, np.int64), pad_id=99)
    return Batches(task, seed=seed, batch_rows=batch_rows, parts=parts)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.integers(0, 3))
def test_every_row_is_seen_once_an_epoch_whatever_the_parts(
    rows: int, batch_rows: int, parts: int, epoch: int
) -> None:
    made, steps = batches(rows, batch_rows, parts), -(-rows // batch_rows)
    taken = [made.whole(step) for step in range(epoch * steps, (epoch + 1) * steps)]
    assert sorted(row for step in taken for part in step for row in part.rows) == list(range(rows))
    assert {len(step) for step in taken} == {parts}
    assert made.num_rows == rows


def test_a_step_has_the_same_rows_however_they_are_cut_and_whatever_was_asked_before() -> None:
    one, four = batches(40, 8, 1), batches(40, 8, 4)
    four.whole(17)
    for step in (0, 9, 3):
        (whole,), parts = one.whole(step), four.whole(step)
        assert sorted(row for part in parts for row in part.rows) == sorted(whole.rows)
        assert sum(part.tokens for part in parts) == whole.tokens
        again = batches(40, 8, 1).part(step, 0)
        assert torch.equal(again.tensors["input_ids"], whole.tensors["input_ids"])
    assert batches(40, 8, 1, seed=1).part(0, 0).rows != one.part(0, 0).rows
