"""Checkpoints: what is torn or altered is never used, and the one before it is."""

import logging
from pathlib import Path

import pytest
import torch

from pipelines.core.artifact import Workspace
from pipelines.core.errors import ArtifactError
from pipelines.core.storage import Store
from pipelines.train import state
from pipelines.train.config import Optimise
from pipelines.train.optimizers import open_optimizer
from pipelines.train.state import Checkpoint


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


def test_a_checkpoint_of_another_shape_is_refused_with_the_parameter(out: Workspace) -> None:
    small, large = torch.nn.Linear(2, 2), torch.nn.Linear(2, 3)
    optimizer = open_optimizer(small, Optimise(steps=1))
    small(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    saved = Checkpoint(1, 1, 0, tensors=state.capture(small, optimizer))
    with pytest.raises(ArtifactError, match=r"step 1: weight is missing or of another shape"):
        state.restore(large, open_optimizer(large, Optimise(steps=1)), saved)
