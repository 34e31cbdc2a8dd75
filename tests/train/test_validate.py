"""Validation: exact figures, the best weights kept, the same decisions however late scores are."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from pipelines.core.artifact import Workspace
from pipelines.core.errors import ArtifactError, DataError, RaylineError, StorageError
from pipelines.core.group import LeaveError
from pipelines.core.storage import Store
from pipelines.tasks.protocol import Batch
from pipelines.train import state, validate
from pipelines.train.config import Optimise, Spikes
from pipelines.train.loop import Fitted, fit
from pipelines.train.preempt import Notice
from pipelines.train.validate import Judging, Score
from tests.train.one_weight import Distance, Weight

# The weight climbs from 0 by .1 a step, past the held-out rows.
OPTIMISE = Optimise.model_validate(
    {
        "steps": 20,
        "batch_rows": 1,
        "shards": 1,
        "learning_rate": 0.1,
        "warmup": 0,
        "weight_decay": 0,
        "schedule": {"kind": "constant"},
        "checkpoint_steps": 3,
    }
)
HELD_OUT = 1.15


class KilledError(Exception):
    """Stands for SIGKILL: raised where a test wants the process to stop."""


def workspace(folder: Path) -> Workspace:
    return Workspace.take(Store.at(str(folder)))


def judged(weights: dict[str, torch.Tensor]) -> Score:
    model = Weight()
    validate.put(model, weights)
    return validate.judge(model, Distance(lambda batch: HELD_OUT), 4)


def judging(out: Workspace, patience: int | None = None, late: int = 0) -> Judging:
    """Judges where it is asked, which is `late` looks after it might have been."""
    looks: dict[int, int] = {}

    def score(batch: int, wait_s: float) -> Score | None:
        looks[batch] = looks.get(batch, 0) + 1
        if looks[batch] <= late:
            return None
        out.write(validate.END, b"")
        validate.keep_judging(out, judged)
        return validate.score_of(out, batch, 0.0)

    return Judging(4, patience, score)


def run(folder: Path, task: Distance, patience: int | None = None, late: int = 0) -> Any:
    model, out = Weight(first=0.0), workspace(folder)
    fitted = fit(model, task, OPTIMISE, out, judging(out, patience, late))
    return model.weight.item(), fitted


def climbing() -> Distance:
    return Distance(lambda batch: 99.0)


def test_the_weights_of_the_lowest_loss_are_those_that_are_left(tmp_path: Path) -> None:
    weight, fitted = run(tmp_path, climbing())
    # Adam moves the weight by .1 a step: after 8 steps .8, after 12 steps 1.2, after 16 steps 1.6.
    assert weight == pytest.approx(1.2, abs=1e-2)
    assert fitted.chosen["best_step"] == 12
    assert fitted.chosen["validation_loss"] == pytest.approx((weight - HELD_OUT) ** 2, rel=1e-5)
    noted = {point["step"] for point in fitted.history if "validation_loss" in point}
    assert noted == {4, 8, 12, 16, 20}
    assert len(fitted.history) == 20


def test_training_ends_when_patience_does_one_validation_later(tmp_path: Path) -> None:
    weight, fitted = run(tmp_path, climbing(), patience=1)
    # 16 is worse than 12, which is seen at 20 only; with 24 steps it would have ended at 20 too.
    assert [fitted.chosen["best_step"], len(fitted.history)] == [12, 20]
    longer = OPTIMISE.model_copy(update={"steps": 40})
    model, out = Weight(first=0.0), workspace(tmp_path / "longer")
    found = fit(model, climbing(), longer, out, judging(out, 1))
    assert (len(found.history), model.weight.item()) == (20, weight)
    assert json.loads(out.read(".progress.json"))[-1]["step"] == 20


@pytest.mark.parametrize("late", [1, 5])
def test_late_scores_change_no_decision(late: int, tmp_path: Path) -> None:
    prompt = run(tmp_path / "prompt", climbing(), patience=1)
    found = run(tmp_path / "late", climbing(), patience=1, late=late)
    assert (found[0], found[1].history) == (prompt[0], prompt[1].history)


class Stopping(Distance):
    """Ends the process when a batch is asked for."""

    def __init__(self, value: Callable[[int], float], at: int) -> None:
        super().__init__(value)
        self._at = at

    def parts(self, step: int) -> list[Batch]:
        if step == self._at:
            raise KilledError
        return super().parts(step)


@pytest.mark.parametrize("at", [4, 9, 13, 19])
def test_a_killed_run_chooses_the_same_weights(at: int, tmp_path: Path) -> None:
    calm = run(tmp_path / "calm", climbing(), patience=2)
    with pytest.raises(KilledError):
        run(tmp_path / "killed", Stopping(lambda batch: 99.0, at), patience=2)
    found = run(tmp_path / "killed", climbing(), patience=2)
    assert (found[0], found[1].history) == (calm[0], calm[1].history)
    assert found[1].chosen == calm[1].chosen


def test_an_early_end_is_found_again(tmp_path: Path) -> None:
    longer = OPTIMISE.model_copy(update={"steps": 40})
    results: list[Fitted] = []
    for _ in range(2):
        out, task = workspace(tmp_path), climbing()
        results.append(fit(Weight(first=0.0), task, longer, out, judging(out, 1)))
    assert set(task.asked) <= {0}  # no step was left; the first tells what figures there are
    assert results[0].history == results[1].history


class Uneven(Distance):
    """Batches of 3, 3, 3 and 1 rows: row r is the number r."""

    num_rows, batch_rows = 10, 3

    def __init__(self) -> None:
        super().__init__(float)

    def parts(self, step: int) -> list[Batch]:
        rows = list(range(3 * step, min(3 * step + 3, 10)))
        x = torch.tensor(rows, dtype=torch.float32).reshape(-1, 1)
        return [Batch({"input_ids": x}, {"distance": len(rows)}, tuple(rows), 1)]


@pytest.mark.parametrize(("rows", "seen"), [(None, 10), (4, 6), (6, 6), (99, 10)])
def test_figures_are_means_over_rows_not_over_batches(rows: int | None, seen: int) -> None:
    model = Weight(first=2.0)
    score = validate.judge(model, Uneven(), rows)
    expected = sum((row - 2) ** 2 for row in range(seen)) / seen
    assert score == {"loss": pytest.approx(expected), "distance": pytest.approx(expected)}
    assert not model.training
    assert model.weight.grad is None


def test_a_loss_that_is_no_number_is_none() -> None:
    assert validate.judge(Weight(), Distance(lambda batch: float("nan")), 1)["loss"] is None


def losses(*values: float | None) -> list[Score | None]:
    return [None if value is None else {"loss": value} for value in values]


def test_a_missing_score_ranks_worst() -> None:
    assert validate.best(losses(None, 2.0, 1.5, None)) == 2
    assert validate.best([{"loss": None}, {"loss": 9.0}, {}]) == 1
    assert validate.best(losses(3.0, 1.0, 1.0)) == 1  # the first of equals
    assert validate.exhausted(losses(1.0, None, None), 2)
    assert not validate.exhausted(losses(None, None, 7.0), 1)
    assert not validate.exhausted([], 1)
    with pytest.raises(DataError, match="none of 2 losses is a number"):
        validate.finite([{"loss": None}, None])


@given(st.lists(st.one_of(st.none(), st.floats(0, 9)), min_size=1), st.integers(1, 5))
def test_patience_counts_from_the_best(values: list[float | None], patience: int) -> None:
    numbers = [9e9 if value is None else value for value in values]
    since = len(numbers) - 1 - numbers.index(min(numbers))
    assert validate.exhausted(losses(*values), patience) == (since >= patience)


def test_only_the_best_weights_are_kept(tmp_path: Path) -> None:
    run(tmp_path, climbing())
    kept = [path.name for path in (tmp_path / ".validation").glob("*.safetensors")]
    assert kept == ["00000012.safetensors"]


def test_weights_that_are_not_those_judged_are_refused(tmp_path: Path) -> None:
    out = workspace(tmp_path)
    validate.hand_in(out, 4, {"weight": torch.ones(1, 1)})
    out.write(validate.END, b"")
    validate.keep_judging(out, judged)
    assert torch.equal(validate.best_weights(out, 4)["weight"], torch.ones(1, 1))
    out.write(".validation/00000004.safetensors", save({"weight": torch.zeros(1, 1)}))
    with pytest.raises(ArtifactError, match="not the weights that were judged"):
        validate.best_weights(out, 4)


def test_the_best_is_chosen_among_weights_that_are_there(tmp_path: Path) -> None:
    out, handed = workspace(tmp_path), [(4, 4), (8, 8)]
    with pytest.raises(ArtifactError, match=r"no weights that were judged; remove .validation"):
        validate.kept(out, handed)
    validate.hand_in(out, 8, {"weight": torch.ones(1, 1)})
    assert validate.kept(out, handed) == [1]


def test_steps_that_were_gone_back_from_count_for_nothing(tmp_path: Path) -> None:
    """Steps 15 to 17 are spikes: back to step 10, after 4, 8, 12 and 16 were handed in."""
    spikes = Spikes(sigma=6, window=8, in_a_row=3, anchor_steps=10, roll_backs=1)
    optimise = OPTIMISE.model_copy(update={"spikes": spikes, "steps": 40})
    task, out = Distance(lambda batch: 1e4 if batch in (14, 15, 16) else 99.0), workspace(tmp_path)
    fitted = fit(Weight(first=0.0), task, optimise, out, judging(out, 1))
    assert fitted.roll_backs == 1
    # The 16 that was left is worse than 12, and would have ended the run at the second step 12.
    assert (len(fitted.history), fitted.chosen["best_step"]) == (20, 12)
    found = {p["step"]: p.get("batch") for p in fitted.history if "validation_loss" in p}
    assert found == {4: None, 8: None, 12: 19, 16: 23, 20: 27}


def test_who_has_to_leave_does_not_wait_for_a_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At step 8 the score of step 4 is awaited; the checkpoint is there before the wait."""
    out, waits = workspace(tmp_path), []

    def never(batch: int, wait_s: float) -> Score | None:
        if wait_s:
            waits.append(state.newest_verified(out).step)
            monkeypatch.setattr(Notice, "given", lambda notice: True)
        return None

    often = OPTIMISE.model_copy(update={"checkpoint_steps": 1})
    with pytest.raises(LeaveError, match="the checkpoint of step 8 is written"):
        fit(Weight(first=0.0), climbing(), often, out, Judging(4, 1, never))
    assert len(waits) == 1
    assert state.newest_verified(out).step == 8


@dataclass(frozen=True)
class Full(Workspace):
    """On a disk that takes nothing more."""

    def write(self, name: str, data: bytes) -> None:
        raise StorageError(f"{name}: the disk is full")


def test_an_end_that_cannot_be_written_is_told_but_not_that_of_an_older_driver(
    tmp_path: Path,
) -> None:
    old = workspace(tmp_path)
    with pytest.raises(StorageError, match="the disk is full"):
        validate.end(Full(old.store, old.epoch))
    workspace(tmp_path)
    validate.end(old)
    assert not old.store.exists(validate.END)


def test_a_score_stands_for_the_same_bits_alone(tmp_path: Path) -> None:
    out = workspace(tmp_path)
    out.write(validate.END, b"")
    for first in (1.0, 1.0, 3.0):  # judged, found again, handed in anew by a try that rounds apart
        validate.hand_in(out, 4, {"weight": torch.full((1, 1), first)})
        validate.keep_judging(out, judged)
        score = validate.score_of(out, 4, 0.0)
        assert score == pytest.approx(judged({"weight": torch.full((1, 1), first)}))
        assert validate.best_weights(out, 4)["weight"].item() == first


def test_weights_that_change_while_they_are_judged_are_judged_again(tmp_path: Path) -> None:
    out, seen = workspace(tmp_path), []
    validate.hand_in(out, 4, {"weight": torch.ones(1, 1)})
    out.write(validate.END, b"")

    def slowly(weights: dict[str, torch.Tensor]) -> Score:
        seen.append(weights["weight"].item())
        if len(seen) == 1:
            validate.hand_in(out, 4, {"weight": torch.zeros(1, 1)})
        return judged(weights)

    validate.keep_judging(out, slowly)
    assert seen == [1.0, 0.0]
    assert validate.best_weights(out, 4)["weight"].item() == 0


def test_the_rest_is_not_judged_once_the_run_has_failed(tmp_path: Path) -> None:
    out = workspace(tmp_path)
    validate.hand_in(out, 4, {"weight": torch.ones(1, 1)})
    validate.end(out, "no memory")
    validate.keep_judging(out, judged)
    assert not out.exists(".validation/00000004.json")


def test_a_store_that_does_not_answer_is_asked_again(tmp_path: Path) -> None:
    class Flaky(Workspace):
        def exists(self, name: str) -> bool:
            if not (tmp_path / "asked").exists():
                (tmp_path / "asked").touch()
                raise StorageError("slow down")
            return super().exists(name)

    calm = workspace(tmp_path)
    calm.write(".validation/00000004.json", b'{"figures": {"loss": 2.0}, "weights": ""}')
    out = Flaky(calm.store, calm.epoch)
    assert validate.score_of(out, 4, 60.0) == {"loss": 2.0}


def test_a_score_that_was_found_is_not_looked_for_again() -> None:
    answers = iter([None, {"loss": 1.0}])
    look = validate.remembered(lambda batch, wait_s: next(answers))
    assert [look(4, 0.0), look(4, 0.0), look(4, 0.0)] == [None, {"loss": 1.0}, {"loss": 1.0}]


def test_a_failed_judge_is_told_to_who_waits(tmp_path: Path) -> None:
    out = workspace(tmp_path)
    assert validate.score_of(out, 4, 0.0) is None
    validate.end(out, "no memory")
    with pytest.raises(RaylineError, match="validation: no memory"):
        validate.score_of(out, 4, 60.0)
    validate.begin(out)
    assert validate.score_of(out, 4, 0.0) is None


def test_who_waits_in_vain_for_a_dead_driver_stops(tmp_path: Path) -> None:
    out = workspace(tmp_path)
    workspace(tmp_path)  # a newer driver
    with pytest.raises(ArtifactError, match="another run has taken this step over"):
        validate.score_of(out, 4, 60.0)


def test_weights_are_handed_in_as_they_are(tmp_path: Path) -> None:
    out = workspace(tmp_path)
    validate.hand_in(out, 7, {"a": torch.tensor([1.5])})
    assert load(out.read(".validation/00000007.safetensors"))["a"].item() == 1.5
