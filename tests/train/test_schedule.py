"""The learning rate against numbers worked out by hand."""

import pytest

from pipelines.train.config import Optimise
from pipelines.train.schedule import learning_rate


def test_it_climbs_to_the_peak_and_falls_evenly() -> None:
    optimise = Optimise(steps=10, warmup=0.2, learning_rate=8.0)
    rates = [learning_rate(step, optimise) for step in range(10)]
    assert rates == pytest.approx([4, 8, 8, 7, 6, 5, 4, 3, 2, 1])


def test_without_warm_up_it_starts_at_the_peak() -> None:
    optimise = Optimise(steps=4, warmup=0, learning_rate=1.0)
    assert [learning_rate(step, optimise) for step in range(4)] == [1, 0.75, 0.5, 0.25]
