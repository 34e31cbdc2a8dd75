"""A process's share of each step: its own parts, made one step ahead, the same however asked."""

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from pipelines.tasks.batches import Batches
from pipelines.tasks.classify import ClassifyTask
from pipelines.train.ahead import Ahead


def batches() -> Batches:
    texts = [np.full(5, row, np.int64) for row in range(24)]
    task = ClassifyTask(texts, np.zeros(24, np.int64), pad_id=0)
    return Batches(task, seed=0, batch_rows=6, parts=3)


def second_of_two(sizes: Sequence[int]) -> Iterator[tuple[int, float]]:
    yield from ((part, 1.0) for part in range(1, len(sizes), 2))


def test_a_process_makes_its_own_parts_and_knows_all_rows() -> None:
    made = batches()
    with Ahead(made, second_of_two) as ahead:
        for number in (0, 1, 2, 9, 10, 3):  # a roll-back, and on
            share = ahead.take(number, more=True)
            assert [(turn.part, turn.weight) for turn in share.turns] == [(1, 1.0)]
            assert share.turns[0].batch.rows == made.part(number, 1).rows
            assert sorted(share.rows) == sorted(
                row for part in made.whole(number) for row in part.rows
            )


def test_the_next_share_is_made_before_it_is_asked_for_unless_it_is_the_last() -> None:
    asked, begun = [], threading.Event()
    made = batches()
    part_of = made.part

    def part(step: int, part: int):
        asked.append(step)
        if step == 1:
            begun.set()
        return part_of(step, part)

    made.part = part  # type: ignore[method-assign]
    with Ahead(made, second_of_two) as ahead:
        ahead.take(0, more=True)
        assert begun.wait(10)
        ahead.take(1, more=False)
    assert asked == [0, 1]


def test_an_error_comes_up_with_the_step_it_is_of() -> None:
    made = batches()
    part_of = made.part

    def part(step: int, part: int):
        if step == 1:
            raise ValueError("row 7 is torn")
        return part_of(step, part)

    made.part = part  # type: ignore[method-assign]
    with Ahead(made, second_of_two) as ahead:
        ahead.take(0, more=True)
        with pytest.raises(ValueError, match="row 7 is torn"):
            ahead.take(1, more=True)
