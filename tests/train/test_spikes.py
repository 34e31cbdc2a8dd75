"""Loss spikes: left out without a trace, and gone back from to the same bits whoever dies."""

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.artifact import Workspace
from pipelines.core.config import Json
from pipelines.core.errors import DataError
from pipelines.core.storage import Store
from pipelines.train.config import Optimise, Spikes
from pipelines.train.loop import Fitted, fit
from pipelines.train.spikes import Watch, watched
from pipelines.train.state import Writer
from tests.train.one_weight import Distance, Weight

SPIKES = Spikes(sigma=6, window=8, in_a_row=3, anchor_steps=5, roll_backs=1)
OPTIMISE = Optimise(
    steps=24, batch_rows=1, learning_rate=1e-2, warmup=0, shards=1, checkpoint_steps=4
)
GUARDED = OPTIMISE.model_copy(update={"spikes": SPIKES})


class KilledError(Exception):
    """Stands for SIGKILL: raised where a test wants the process to stop."""


def watch(losses: Sequence[float], norms: Sequence[float]) -> Watch:
    found = Watch()
    for loss, norm in zip(losses, norms, strict=True):
        found = watched(found, loss, norm, SPIKES)
    return found


def test_a_spike_is_more_than_so_many_deviations_above_the_mean() -> None:
    calm = watch([1, 2, 1, 2], [1, 1, 2, 2])
    # The mean is 1.5, the deviation sqrt(4 * .25 / 3) = .577: a spike is above 4.964.
    assert watched(calm, 4.96, 1.5, SPIKES).streak == 0
    assert watched(calm, 4.97, 1.5, SPIKES).streak == 1
    assert watched(calm, 1.5, 4.97, SPIKES).streak == 1
    assert watched(calm, -99, 1.5, SPIKES).streak == 0  # falling is no harm


def test_nothing_is_a_spike_before_half_the_window_is_there() -> None:
    assert watched(watch([1, 2, 1], [1, 1, 1]), 99, 99, SPIKES).streak == 0


def test_spikes_stay_out_of_the_window_and_end_with_a_calm_step() -> None:
    calm = watch([1, 2, 1, 2], [1, 1, 2, 2])
    spiked = watched(watched(calm, 99, 1, SPIKES), 99, 1, SPIKES)
    assert (spiked.streak, spiked.losses, spiked.norms) == (2, calm.losses, calm.norms)
    assert watched(spiked, 1, 1, SPIKES).streak == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_window_has_the_newest_steps(losses: list[float]) -> None:
    loose = Spikes(sigma=1e9, window=8)
    found, varied = Watch(), [loss + place % 2 * 3 for place, loss in enumerate(losses)]
    for loss in varied:
        found = watched(found, loss, -loss, loose)
    assert found.losses == tuple(varied[-8:])
    assert found.norms == tuple(-loss for loss in varied[-8:])


def noise(poisoned: Sequence[int], size: float = 50.0) -> Callable[[int], float]:
    """Numbers near 1 that follow from the batch alone, and far away at the poisoned ones."""

    def value(batch: int) -> float:
        return size if batch in poisoned else 1 + 0.1 * math.sin(37.0 * batch)

    return value


def run(folder: Path, task: Distance, optimise: Optimise = GUARDED) -> tuple[float, Fitted]:
    model = Weight(first=1.0)
    fitted = fit(model, task, optimise, Workspace.take(Store.at(str(folder))))
    return model.weight.item(), fitted


def skipped(history: list[Json]) -> list[int]:
    return [point["step"] for point in history if "skipped" in point]


def test_a_poisoned_batch_leaves_no_trace_but_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        weight, fitted = run(tmp_path / "a", Distance(noise([12])))
    other, _ = run(tmp_path / "b", Distance(noise([12], size=70.0)))
    unguarded, _ = run(tmp_path / "c", Distance(noise([12])), OPTIMISE)
    assert weight == other != unguarded
    assert skipped(fitted.history) == [13]
    assert len(fitted.history) == 24
    assert fitted.tokens == 23
    assert "step 13: loss" in caplog.text


def test_spikes_in_a_row_go_back_to_the_anchor_and_leave_the_batches_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        weight, fitted = run(tmp_path / "a", Distance(noise([12, 13, 14])))
    # As if batches 10 to 14 had never been: step 11 learns from batch 16.
    left_out = Distance(lambda step: noise([])(step if step < 10 else step + 5))
    expected, plain = run(tmp_path / "b", left_out, OPTIMISE)
    assert weight == expected
    losses = [point["loss"] for point in fitted.history]
    assert losses == [point["loss"] for point in plain.history]
    assert [point.get("batch", point["step"]) for point in fitted.history[8:12]] == [9, 10, 16, 17]
    assert (fitted.roll_backs, skipped(fitted.history)) == (1, [])
    assert "back to the weights of step 10, and on with batch 16" in caplog.text


class Stopping(Distance):
    """Ends the process when a batch is asked for the first time."""

    def __init__(self, value: Callable[[int], float], at: int) -> None:
        super().__init__(value)
        self._at = at

    def parts(self, step: int) -> list:  # type: ignore[type-arg]
        if step == self._at:
            raise KilledError
        return super().parts(step)


@pytest.mark.parametrize("at", [0, 3, 10, 13, 14, 15, 17, 26])
def test_a_killed_run_goes_back_from_the_same_spikes_to_the_same_bits(
    at: int, tmp_path: Path
) -> None:
    poison = noise([12, 13, 14])
    weight, fitted = run(tmp_path / "calm", Distance(poison))
    with pytest.raises(KilledError):
        run(tmp_path / "killed", Stopping(poison, at))
    again, resumed = run(tmp_path / "killed", Distance(poison))
    assert (again, resumed.history, resumed.tokens) == (weight, fitted.history, fitted.tokens)


@pytest.mark.parametrize("every", [1, 3, 99])
def test_where_weights_go_back_to_does_not_follow_from_checkpoints_times(
    every: int, tmp_path: Path
) -> None:
    poison = noise([12, 13, 14])
    weight, fitted = run(tmp_path / "a", Distance(poison))
    other = GUARDED.model_copy(update={"checkpoint_steps": every})
    again, found = run(tmp_path / "b", Distance(poison), other)
    assert (again, found.history) == (weight, fitted.history)


def test_without_its_anchor_a_checkpoint_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A checkpoint that comes due while another is written waits, and a busy disk would leave none.
    monkeypatch.setattr(Writer, "idle", True)
    poison = noise([12, 13, 14])
    weight, fitted = run(tmp_path / "calm", Distance(poison))
    often = GUARDED.model_copy(update={"checkpoint_steps": 1})
    with pytest.raises(KilledError):
        run(tmp_path / "torn", Stopping(poison, 14), often)
    kept = sorted(path.name for path in (tmp_path / "torn/.checkpoints").iterdir())
    assert kept[0] == "00000010" < kept[-1]  # the anchor, kept because the newest ones need it
    shutil.rmtree(tmp_path / "torn/.checkpoints/00000010")
    with caplog.at_level(logging.WARNING):
        again, found = run(tmp_path / "torn", Distance(poison))
    assert f"{kept[-1]}: not used" in caplog.text
    assert (again, found.history) == (weight, fitted.history)


def test_a_run_that_spikes_again_and_again_stops_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"step 15: 3 spikes in a row, after 1 roll-backs"):
        run(tmp_path / "a", Distance(noise([12, 13, 14, *range(17, 40)])))
