"""Checkpoints: what is torn or altered is never used, and the one before it is."""

import contextlib
import logging
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch

from pipelines.core.artifact import Workspace
from pipelines.core.errors import ArtifactError, StorageError
from pipelines.core.storage import Store
from pipelines.tasks.protocol import Batch
from pipelines.train import state
from pipelines.train.config import Optimise
from pipelines.train.loop import fit
from pipelines.train.optimizers import Optimizer, open_optimizer
from pipelines.train.state import Checkpoint
from tests.train.one_weight import Distance, Weight


@pytest.fixture
def out(tmp_path: Path) -> Workspace:
    return Workspace.take(Store.at(str(tmp_path / "work")))


def checkpoint(step: int) -> Checkpoint:
    history = [{"step": n + 1, "loss": 1 / (n + 3)} for n in range(step)]
    return Checkpoint(
        step, step, 10 * step, history, tensors={"weight/a": torch.full((3,), float(step))}
    )


def folder(out: Workspace, step: int) -> Path:
    return Path(out.store.uri) / f".checkpoints/{step:08d}"


def test_a_checkpoint_reads_back_as_it_was_written(out: Workspace) -> None:
    state.write(out, checkpoint(3))
    found = state.newest_verified(out)
    assert (found.step, found.tokens, found.history) == (3, 30, checkpoint(3).history)
    assert torch.equal(found.tensors["weight/a"], torch.full((3,), 3.0))


def test_without_checkpoints_a_run_begins_at_step_0(out: Workspace) -> None:
    assert state.newest_verified(out) == Checkpoint()


def test_the_newest_two_are_kept(out: Workspace) -> None:
    for step in (2, 9, 10, 11):
        state.write(out, checkpoint(step))
    names = {name.split("/")[1] for name in out.names(".checkpoints")}
    assert names == {"00000010", "00000011"}


@pytest.mark.parametrize("file", ["state.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("harm", ["cut", "empty", "removed"])
def test_a_torn_file_falls_back_to_the_one_before_and_says_so(
    file: str, harm: str, out: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    state.write(out, checkpoint(1))
    state.write(out, checkpoint(2))
    path = folder(out, 2) / file
    data = path.read_bytes()
    match harm:
        case "cut":
            path.write_bytes(data[:-1])
        case "empty":
            path.write_bytes(b"")
        case _:
            path.unlink()
    with caplog.at_level(logging.WARNING):
        assert state.newest_verified(out).step == 1
    assert "00000002: not used" in caplog.text


def test_torn_ones_that_were_passed_over_push_no_whole_one_out(out: Workspace) -> None:
    for step in (10, 20, 30, 40):
        state.write(out, checkpoint(step))
    for step in (30, 40):  # killed while they were written
        out.delete(f"{state.folder_of(step)}/{state.MANIFEST}")
    state.write(out, checkpoint(20))
    state.write(out, checkpoint(25))
    left = {name.split("/")[1] for name in out.names(state.FOLDER)}
    assert left == {"00000020", "00000025"}
    out.delete(f"{state.folder_of(25)}/{state.MANIFEST}")
    assert state.newest_verified(out).step == 20


def test_a_store_that_does_not_answer_says_nothing_about_a_checkpoint(out: Workspace) -> None:
    class Down(Workspace):
        def read(self, name: str) -> bytes:
            raise StorageError("slow down")

    state.write(out, checkpoint(10))
    with pytest.raises(StorageError, match="slow down"):
        state.newest_verified(Down(out.store, out.epoch))


def test_one_step_is_read_or_refused_never_replaced_by_another(out: Workspace) -> None:
    state.write(out, checkpoint(1))
    state.write(out, checkpoint(2))
    assert state.at(out, 1).step == 1
    (folder(out, 2) / "state.json").unlink()
    with pytest.raises(ArtifactError, match=r"00000002: not readable.*every node sees the"):
        state.at(out, 2)


@pytest.mark.parametrize("file", ["state.safetensors", "state.json", "manifest.json"])
def test_a_flipped_bit_in_any_byte_is_seen(file: str, out: Workspace) -> None:
    state.write(out, checkpoint(1))
    path = folder(out, 1) / file
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        assert state.newest_verified(out).step == 0, f"byte {place}"
    path.write_bytes(data)
    assert state.newest_verified(out).step == 1


class Slow:
    """A job that ends when it is let go, with an error or without."""

    def __init__(self, error: Exception | None = None) -> None:
        self.go, self.ended, self._error = threading.Event(), False, error

    def __call__(self) -> None:
        assert self.go.wait(20)
        self.ended = True
        if self._error:
            raise self._error


def test_a_checkpoint_is_written_beside_what_goes_on() -> None:
    first, second = Slow(), Slow()
    with state.Writer() as writer:
        writer.submit(first)
        assert not writer.idle
        assert not first.ended  # and yet we are here
        first.go.set()
        writer.submit(second)  # waits for the first: one at a time
        assert first.ended
        second.go.set()
    assert second.ended  # a block that ends well waits for the last
    assert writer.idle


def test_what_goes_wrong_in_writing_comes_up_at_the_next_one_or_at_the_end() -> None:
    bad, never = Slow(OSError("disk")), Slow()
    bad.go.set()
    with state.Writer() as writer:
        writer.submit(bad)
        with pytest.raises(OSError, match="disk"):
            writer.submit(never)
    assert not never.ended
    with pytest.raises(OSError, match="disk"), state.Writer() as writer:
        writer.submit(bad)


def test_the_error_of_training_is_told_before_that_of_writing() -> None:
    bad = Slow(OSError("disk"))
    bad.go.set()

    def train() -> None:
        with state.Writer() as writer:
            writer.submit(bad)
            raise ValueError("training")

    with pytest.raises(ValueError, match="training"):
        train()


class Stack(torch.nn.Module):
    """Two blocks, whose matrices Muon takes."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks[1](self.blocks[0](x))


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_any_optimizers_tensors_are_carried(kind: str) -> None:
    optimise = Optimise.model_validate({"steps": 9, "optimizer": {"kind": kind}})

    def moved(model: torch.nn.Module, optimizer: Optimizer, steps: int) -> None:
        for _ in range(steps):
            model.zero_grad()
            model(torch.ones(1, 4)).square().sum().backward()
            optimizer.step()

    def fresh() -> tuple[torch.nn.Module, Optimizer]:
        torch.manual_seed(1)
        model = Stack()
        return model, open_optimizer(model, optimise)

    model, optimizer = fresh()
    moved(model, optimizer, 3)
    saved = Checkpoint(3, 3, tensors=state.capture(model, optimizer))
    moved(model, optimizer, 2)  # what was captured is a copy, which this does not change
    other, second = fresh()
    moved(other, second, 1)  # state that must go
    state.restore(other, second, saved)
    moved(other, second, 2)
    ends = (dict(m.named_parameters()) for m in (model, other))
    for mine, theirs in zip(*(end.values() for end in ends), strict=True):
        assert torch.equal(mine, theirs)


def test_a_full_disk_is_told_once_and_costs_no_checkpoint(small_disk: Path) -> None:
    out = Workspace.take(Store.at(str(small_disk / "work")))
    state.write(out, checkpoint(1))
    large = {"weight/a": torch.zeros(500_000)}
    with pytest.raises(StorageError, match=r"of step 2: .*No space left.*before it is kept: make"):
        state.write(out, Checkpoint(2, 2, tensors=large))
    assert state.newest_verified(out).step == 1
    assert {name.split("/")[1] for name in out.names(".checkpoints")} == {"00000001"}
    state.write(out, checkpoint(2))  # there is room again: what was written of it is gone
    assert state.newest_verified(out).step == 2


def test_a_run_that_fills_the_disk_goes_on_once_there_is_room(small_disk: Path) -> None:
    optimise = Optimise(steps=9, batch_rows=1, shards=1, checkpoint_steps=3)

    def run(task: Distance) -> float:
        out, model = Workspace.take(Store.at(str(small_disk / "work"))), Weight()
        fit(model, task, optimise, out)
        return model.weight.item()

    filler = small_disk / "filler"

    class Filling(Distance):
        def parts(self, step: int) -> list[Batch]:
            if step == 5:  # made while step 4 is learnt, and a checkpoint perhaps being written
                while not (small_disk / "work" / state.folder_of(3) / "manifest.json").exists():
                    time.sleep(0.01)
                with contextlib.suppress(OSError):
                    filler.write_bytes(b"x" * 2**20)
            return super().parts(step)

    with pytest.raises(StorageError, match="No space left"):
        run(Filling(float))
    filler.unlink()
    assert state.newest_verified(Workspace.take(Store.at(str(small_disk / "work")))).step == 3
    resumed = run(Distance(float))
    shutil.rmtree(small_disk / "work")
    assert run(Distance(float)) == resumed


def test_a_checkpoint_of_another_optimizer_is_refused(out: Workspace) -> None:
    optimise = Optimise(steps=3, batch_rows=1, shards=1)
    model = Weight()
    tensors = state.capture(model, open_optimizer(model, optimise))
    state.write(out, Checkpoint(1, 1, optimizer="muon", tensors=tensors))
    with pytest.raises(ArtifactError, match=r"made with muon, and optimise.optimizer is adamw"):
        fit(model, Distance(float), optimise, out)


def test_a_checkpoint_of_another_model_is_refused(out: Workspace) -> None:
    small = torch.nn.Linear(2, 2)
    saved = Checkpoint(1, 1, tensors=state.capture(small, open_optimizer(small, Optimise(steps=1))))
    plain = torch.nn.Linear(2, 2, bias=False)
    with pytest.raises(
        ArtifactError, match=r"step 1: the model has no bias; .*remove .checkpoints"
    ):
        state.restore(plain, open_optimizer(plain, Optimise(steps=1)), saved)


def test_a_checkpoint_of_another_shape_is_refused_with_the_parameter(out: Workspace) -> None:
    small, large = torch.nn.Linear(2, 2), torch.nn.Linear(2, 3)
    optimizer = open_optimizer(small, Optimise(steps=1))
    small(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    saved = Checkpoint(1, 1, 0, tensors=state.capture(small, optimizer))
    with pytest.raises(ArtifactError, match=r"step 1: weight is missing or of another shape"):
        state.restore(large, open_optimizer(large, Optimise(steps=1)), saved)
