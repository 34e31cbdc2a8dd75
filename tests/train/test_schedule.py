"""The learning rate against numbers worked out by hand."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.train.config import Optimise
from pipelines.train.schedule import learning_rate


def rates(schedule: dict[str, Any], steps: int, warmup: float = 0.0) -> list[float]:
    settings = {"steps": steps, "warmup": warmup, "learning_rate": 8.0, "schedule": schedule}
    optimise = Optimise.model_validate(settings)
    return [learning_rate(step, optimise) for step in range(steps)]


def test_it_climbs_to_the_peak_and_falls_evenly() -> None:
    assert rates({"kind": "linear"}, 10, 0.2) == pytest.approx([4, 8, 8, 7, 6, 5, 4, 3, 2, 1])


def test_without_warm_up_it_starts_at_the_peak() -> None:
    assert rates({"kind": "linear"}, 4) == [8, 6, 4, 2]


def test_a_cosine_ends_near_its_floor() -> None:
    # Half a cosine of 4 steps: 1, (1 + sqrt(1/2)) / 2, 1/2, (1 - sqrt(1/2)) / 2 of what is above.
    half = math.sqrt(0.5)
    expected = [8, 2 + 6 * (1 + half) / 2, 5, 2 + 6 * (1 - half) / 2]
    assert rates({"kind": "cosine", "floor": 0.25}, 4) == pytest.approx(expected)


def test_the_peak_is_held_and_falls_at_the_end() -> None:
    linear = rates({"kind": "wsd", "decay": 0.4, "fall": "linear"}, 10, 0.2)
    assert linear == pytest.approx([4, 8, 8, 8, 8, 8, 8, 6, 4, 2])
    root = rates({"kind": "wsd", "decay": 0.4}, 10, 0.2)
    expected = [4, 8, 8, 8, 8, 8] + [8 * (1 - math.sqrt(n / 4)) for n in range(4)]
    assert root == pytest.approx(expected)


def test_a_constant_rate_stays_at_the_peak() -> None:
    assert rates({"kind": "constant"}, 5, 0.4) == [4, 8, 8, 8, 8]


@given(
    st.sampled_from(["linear", "cosine", "wsd", "constant"]),
    st.integers(1, 60),
    st.floats(0, 0.79),
)
def test_no_rate_is_zero_or_above_the_peak(kind: str, steps: int, warmup: float) -> None:
    found = rates({"kind": kind}, steps, warmup)
    assert all(0 < rate <= 8 for rate in found)
    assert max(found) == 8
