"""One function on several processes: sums, progress, a killed process, a user's error."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pipelines.core import group
from pipelines.core.artifact import Workspace
from pipelines.core.errors import ConfigError, DataError
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
        rank_sum, settings, name="sum", workers=2, out=out, report=seen.append
    )
    assert answer == {"sum": 3.0, "threads": 1}
    assert [point["step"] for point in seen] == [1, 2]


@pytest.mark.slow  # CI kills one in mid-training instead: tests/train/test_stage.py
def test_a_killed_process_restarts_the_group(
    ray_local: None, out: Workspace, tmp_path: Path
) -> None:
    settings = {"marker": str(tmp_path / "died")}
    answer = group.distributed(
        die_once, settings, name="dies", workers=2, out=out, report=lambda point: None
    )
    assert answer == {"restarted": True}


def test_a_users_error_is_passed_on_and_not_retried(
    ray_local: None, out: Workspace, tmp_path: Path
) -> None:
    settings = {"log": str(tmp_path / "log")}
    with pytest.raises(DataError, match=r"^row 3 of reviews.jsonl has no label$"):
        group.distributed(
            fail, settings, name="fails", workers=2, out=out, report=lambda point: None
        )
    assert (tmp_path / "log").read_text() == "tried\n"


def test_more_workers_than_cpus_is_refused_at_once(ray_local: None, out: Workspace) -> None:
    with pytest.raises(ConfigError, match="--workers 2"):
        group.distributed(rank_sum, {}, name="wide", workers=9, out=out, report=lambda point: None)
