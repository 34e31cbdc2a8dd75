"""One function on several processes: sums, progress, a process killed or asked to end, an error."""

import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.core import group
from pipelines.core.artifact import Workspace
from pipelines.core.errors import ConfigError, DataError
from pipelines.core.group import LeaveError
from pipelines.core.storage import Store

pytestmark = pytest.mark.ray


@pytest.fixture
def out(tmp_path: Path) -> Workspace:
    return Workspace.take(Store.at(str(tmp_path / "work")))


def rank_sum(settings: dict[str, Any]) -> dict[str, Any]:
    import torch
    from torch import distributed

    total = torch.tensor([float(distributed.get_rank() + 1)])
    distributed.all_reduce(total)
    if distributed.get_rank() == 0:
        points = [{"step": step, "loss": 1 / step} for step in (1, 2)]
        settings["out"].write(group.PROGRESS, json.dumps(points).encode())
    return {"sum": total.item(), "threads": torch.get_num_threads()}


def die_once(settings: dict[str, Any]) -> dict[str, Any]:
    from torch import distributed

    marker = Path(settings["marker"])
    if distributed.get_rank() == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.barrier()
    return {"restarted": marker.exists()}


def leave_once(settings: dict[str, Any]) -> dict[str, Any]:
    """Rank 1 is asked to end, as by a Slurm or systemd that stops it; all leave together."""
    import torch
    from torch import distributed

    marker = Path(settings["marker"])
    if distributed.get_rank() == 1 and not marker.exists():
        os.kill(os.getpid(), signal.SIGTERM)
    told = torch.zeros(1)
    while not marker.exists() or told.item():
        told = torch.tensor([float(group.TERMINATED.is_set())])
        distributed.all_reduce(told)
        if told.item():
            distributed.barrier()
            marker.touch()
            raise LeaveError("told to leave; the checkpoint of step 7 is written")
        time.sleep(0.05)
    return {"again": True, "told": settings["out"].exists(group.LEAVE)}


def fail(settings: dict[str, Any]) -> dict[str, Any]:
    from torch import distributed

    if distributed.get_rank() == 0:
        distributed.barrier()  # waits for the other, which fails
    with Path(settings["log"]).open("a") as log:
        log.write("tried\n")
    raise DataError("row 3 of reviews.jsonl has no label")


def test_processes_form_a_group_and_rank_0_answers(ray_local: None, out: Workspace) -> None:
    seen: list[dict[str, Any]] = []
    settings = {"out": out}
    answer = group.distributed(
        rank_sum, settings, name="sum", workers=2, parts=2, out=out, report=seen.append
    )
    assert answer == {"sum": 3.0, "threads": 1}
    assert [point["step"] for point in seen] == [1, 2]


@pytest.mark.slow  # CI kills one in mid-training instead: tests/train/test_stage.py
def test_a_killed_process_restarts_the_group(
    ray_local: None, out: Workspace, tmp_path: Path
) -> None:
    settings = {"marker": str(tmp_path / "died")}
    answer = group.distributed(
        die_once, settings, name="dies", workers=2, parts=2, out=out, report=lambda point: None
    )
    assert answer == {"restarted": True}


@pytest.mark.slow  # CI has the loop's side of it: tests/train/test_preempt.py
def test_a_process_that_gets_sigterm_is_started_again_once_all_have_left(
    ray_local: None, out: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out.write(group.LEAVE, b"of an earlier try, which must not count")
    settings = {"marker": str(tmp_path / "left"), "out": out}
    with caplog.at_level(logging.WARNING):
        # No retries: to leave is no loss.
        answer = group.distributed(
            leave_once,
            settings,
            name="leaves",
            workers=2,
            parts=2,
            out=out,
            report=lambda point: None,
            retries=0,
        )
    assert answer == {"again": True, "told": False}
    assert "leaves: told to leave; the checkpoint of step 7 is written; starting" in caplog.text


def test_a_torn_snapshot_of_rays_own_does_not_matter(ray_local: None, out: Workspace) -> None:
    # Ray's restarts read it, and fail on it; ours have names of their own.
    for number in (0, 1):
        name = f".ray/sum-{out.epoch}-{number}/checkpoint_manager_snapshot.json"
        out.write(name, b'{"torn')
    out = Workspace.take(out.store)
    asked = {"name": "sum", "workers": 1, "parts": 2, "cpus": 2, "out": out}
    answer = group.distributed(rank_sum, {"out": out}, report=lambda point: None, **asked)
    assert answer == {"sum": 1.0, "threads": 2}  # as many as it holds CPUs


@pytest.mark.parametrize(
    ("draining", "room_s", "reason"),
    [
        (set(), 0.0, None),
        ({"c"}, 0.0, None),  # not one of its nodes
        ({"b", "c"}, 0.0, "node b is being taken away"),
        (set(), group.GROW_S, None),
        (set(), group.GROW_S + 1, "there is room for more processes"),
        ({"a", "b"}, group.GROW_S + 1, "node a is being taken away"),
    ],
)
def test_a_group_goes_if_its_node_does_or_if_a_larger_one_has_had_room_for_long(
    draining: set[str], room_s: float, reason: str | None
) -> None:
    assert group.reason_to_leave({"a", "b"}, draining, room_s) == reason


def test_a_users_error_is_passed_on_and_not_retried(
    ray_local: None, out: Workspace, tmp_path: Path
) -> None:
    settings = {"log": str(tmp_path / "log")}
    with pytest.raises(DataError, match=r"^row 3 of reviews.jsonl has no label$"):
        group.distributed(
            fail, settings, name="fails", workers=2, parts=2, out=out, report=lambda point: None
        )
    assert (tmp_path / "log").read_text() == "tried\n"


class Nodes(group.Workers):
    """Workers of a cluster with room for three, of which one place is taken."""

    def places(self) -> int:
        return 3

    def free(self) -> int:
        return 2


@pytest.mark.parametrize(
    ("wanted", "waited_s", "room"),
    [(2, 0, 2), (3, 0, 0), (4, group.BUSY_S, 0), (4, group.BUSY_S + 1, 2)],
)
def test_a_group_waits_a_while_for_places_that_others_hold(
    wanted: int, waited_s: float, room: int
) -> None:
    assert group._room(Nodes(wanted), waited_s) == room


def test_no_more_processes_are_started_than_there_are_parts(
    ray_local: None, out: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        asked = {"name": "narrow", "workers": 2, "parts": 1}
        found = group.distributed(
            rank_sum, {"out": out}, out=out, report=lambda point: None, **asked
        )
    assert found["sum"] == 1  # of one rank
    assert "1 workers, not 2: a batch has 1 parts" in caplog.text


@pytest.mark.parametrize(("workers", "cpus", "room"), [(9, 1, 2), (2, 2, 1), (1, 3, 1)])
def test_more_than_the_cluster_has_is_refused_at_once(
    ray_local: None, out: Workspace, workers: int, cpus: int, room: int
) -> None:
    asked = {"name": "wide", "workers": workers, "parts": 9, "cpus": cpus}
    with pytest.raises(ConfigError, match=f"--workers {room}, fewer --worker-cpus"):
        group.distributed(rank_sum, {}, out=out, report=lambda point: None, **asked)
