"""A notice: from the driver's file, from a signal, and what the loop does with it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.core import group
from pipelines.core.artifact import Workspace
from pipelines.core.errors import ArtifactError, StorageError
from pipelines.core.group import LeaveError
from pipelines.core.storage import Store
from pipelines.tasks.batches import Batches
from pipelines.train import preempt, state, validate
from pipelines.train.config import Optimise
from pipelines.train.loop import fit
from pipelines.train.preempt import Notice
from tests.train.test_sharded import digest, opened

OPTIMISE = Optimise(steps=30, batch_rows=8, learning_rate=1e-2, checkpoint_steps=20, seed=3)


@pytest.fixture
def out(tmp_path: Path) -> Workspace:
    return Workspace.take(Store.at(str(tmp_path / "work")))


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(preempt, "POLL_S", 0.01)
    yield
    group.TERMINATED.clear()


def seen(notice: Notice, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while not notice.given() and time.monotonic() < end:
        time.sleep(0.01)
    return notice.given()


def test_process_0_sees_the_drivers_file_and_others_do_not_look(out: Workspace) -> None:
    with Notice(out, rank=0) as first, Notice(out, rank=1) as second:
        assert not first.given()
        out.write(group.LEAVE, b"node abc is being taken away")
        assert seen(first, within_s=10)
        assert not seen(second, within_s=0.1)


def test_a_signal_is_seen_by_whoever_got_it(out: Workspace) -> None:
    with Notice(out, rank=1) as notice:
        group.TERMINATED.set()
        assert notice.given()


class Flaky(Workspace):
    """A store that does not answer the first time."""

    def exists(self, name: str) -> bool:
        if not self.store.exists("asked"):
            self.store.write("asked", b"")
            raise StorageError("slow down")
        return super().exists(name)


def test_a_store_that_fails_once_is_asked_again(out: Workspace) -> None:
    out.write(group.LEAVE, b"")
    with Notice(Flaky(out.store, out.epoch), rank=0) as notice:
        assert seen(notice, within_s=10)


class Telling:
    """Batches; that of step `at` finds the driver's file written, and waits until it is read."""

    def __init__(self, batches: Batches, out: Workspace, at: int) -> None:
        self._batches, self._out, self._at, self.taken = batches, out, at, []

    def __getattr__(self, name: str):
        return getattr(self._batches, name)

    def part(self, step: int, part: int):
        if part == 0:
            self.taken.append(step)
        if step == self._at:
            self._out.write(group.LEAVE, b"node abc is being taken away")
            time.sleep(0.2)  # ten times as long as it takes to see it
        return self._batches.part(step, part)


def test_who_is_told_to_leave_does_not_wait_for_scores(
    tokenizer_folder: Path, tokens_folder: Path, out: Workspace
) -> None:
    waited_for = []

    def score(batch: int, wait_s: float) -> validate.Score:
        if wait_s:  # not for show
            waited_for.append(batch)
            if batch == 6:
                group.TERMINATED.set()
        return {"loss": 1.0 / batch}

    model, batches = opened(tokenizer_folder, tokens_folder, OPTIMISE)
    with pytest.raises(LeaveError, match="checkpoint of step 8"):
        fit(model, batches, OPTIMISE, out, validate.Judging(1, 1, score))
    assert max(waited_for) == 6  # those before 8 are 7
    assert state.newest_verified(out).step == 8


def test_told_to_leave_the_loop_ends_with_a_checkpoint_and_repeats_no_step(
    tokenizer_folder: Path, tokens_folder: Path, out: Workspace, tmp_path: Path
) -> None:
    model, batches = opened(tokenizer_folder, tokens_folder, OPTIMISE)
    told = Telling(batches, out, at=10)
    with pytest.raises(LeaveError, match=r"checkpoint of step 1[12] is written"):
        fit(model, told, OPTIMISE, out)
    left = state.newest_verified(out).step
    # The batch after it may have been made already, and is learnt later.
    assert left in (told.taken[-1], told.taken[-1] + 1)

    out.delete(group.LEAVE)
    model, batches = opened(tokenizer_folder, tokens_folder, OPTIMISE)
    again = Telling(batches, out, at=-1)
    fitted = fit(model, again, OPTIMISE, out)
    assert [*told.taken[:left], *again.taken] == list(range(30))

    calm, batches = opened(tokenizer_folder, tokens_folder, OPTIMISE)
    alone = Workspace.take(Store.at(str(tmp_path / "calm")))
    assert fit(calm, batches, OPTIMISE, alone).history == fitted.history
    assert digest(calm) == digest(model)


def test_an_orphan_of_a_dead_driver_writes_no_checkpoint(
    tokenizer_folder: Path, tokens_folder: Path, out: Workspace
) -> None:
    newer = Workspace.take(out.store)  # another driver goes on in the same place
    newer.write("marker", b"")
    model, batches = opened(tokenizer_folder, tokens_folder, OPTIMISE)
    with pytest.raises(ArtifactError, match="another run has taken this step over"):
        fit(model, batches, OPTIMISE, out)
    assert newer.names() == [".epoch", "marker"]
