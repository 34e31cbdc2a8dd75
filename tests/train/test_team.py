"""Who takes which part of a batch where all hold all weights, and what each keeps."""

import threading
from pathlib import Path

import pytest
import torch

from pipelines.core.artifact import Workspace
from pipelines.core.storage import Store
from pipelines.train import team
from pipelines.train.state import Checkpoint
from pipelines.train.team import Replicated, Team


def process(rank: int, size: int) -> Replicated:
    """One of a team of `size`, seen by itself."""
    team = Team()
    team.rank, team.size = rank, size
    return Replicated(torch.nn.Linear(2, 2), team)


def test_alone_a_process_is_its_own_team() -> None:
    team = Team()
    found = torch.tensor([3.0])
    team.add(found)
    assert (team.rank, team.size, team.agreed(7), found.item()) == (0, 1, 7, 3.0)


class Pair(Team):
    """One of two processes; the other one says what it does each time that both add up."""

    def __init__(self, other: list[float]) -> None:
        super().__init__()
        self.size, self._other, self.signs = 2, iter(other), 0

    def add(self, tensor: torch.Tensor) -> None:
        self.signs += 1
        tensor += next(self._other)


def test_a_job_that_takes_long_is_waited_for_with_signs_of_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(team, "SIGN_S", 0.01)
    let_go = threading.Event()
    slow = Pair([0.0, 0.0, 0.0] + [0.0] * 10_000)
    threading.Timer(0.2, let_go.set).start()
    assert slow.done(lambda: let_go.wait(10)) is True
    assert slow.signs > 3
    quick = Pair([1.0, 1.0, 0.0])  # whose peer needs longer
    assert quick.done(lambda: 7) == 7
    assert quick.signs == 3


def test_a_jobs_error_is_raised_once_all_are_done() -> None:
    peer = Pair([1.0, 0.0])
    with pytest.raises(ZeroDivisionError):
        peer.done(lambda: 1 / 0)
    assert peer.signs == 2


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_each_part_with_rows_is_learnt_from_once_whatever_the_number_of_processes(
    size: int,
) -> None:
    turns = [list(process(rank, size).turns((4, 0, 3, 1, 0))) for rank in range(size)]
    assert sorted(turn for taken in turns for turn in taken) == [(0, 1.0), (2, 1.0), (3, 1.0)]


def test_only_process_0_keeps_and_writes_weights(tmp_path: Path) -> None:
    first, second = process(0, 2), process(1, 2)
    optimizer = torch.optim.AdamW(torch.nn.Linear(2, 2).parameters())
    assert set(first.capture(optimizer)) == {"weight/weight", "weight/bias"}
    assert second.capture(optimizer) == second.weights() == {}
    out = Workspace.take(Store.at(str(tmp_path)))
    second.write(out, Checkpoint(1, 1))
    assert out.names(".checkpoints") == []


def test_what_was_captured_does_not_move_with_the_weights() -> None:
    layer = torch.nn.Linear(2, 2)
    replicated = Replicated(layer, Team())
    with torch.no_grad():
        layer.weight.fill_(1)
    kept = replicated.weights()
    with torch.no_grad():
        layer.weight.fill_(2)
    assert kept["weight"].tolist() == [[1, 1], [1, 1]]


def test_without_a_checkpoint_a_run_stands_at_its_beginning(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    replicated = Replicated(layer, Team())
    out = Workspace.take(Store.at(str(tmp_path)))
    assert replicated.resume(out, torch.optim.AdamW(layer.parameters())) == Checkpoint()
