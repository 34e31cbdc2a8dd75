"""Functions run on Ray, and what every node can see."""

from pathlib import Path

import pytest

from pipelines.core import cluster
from pipelines.core.config import Placement
from pipelines.core.errors import DataError

pytestmark = pytest.mark.ray


def task(number: int) -> tuple[int, str]:
    import ray

    return number, ray.get_runtime_context().get_task_id()


def test_spread_answers_for_every_item_and_raises_the_functions_own_error(ray_local: None) -> None:
    def half(number: int) -> tuple[int, float]:
        if number == 7:
            raise DataError("7 is odd; give even numbers")
        return number, number / 2

    assert dict(cluster.spread(half, [2, 4, 6])) == {2: 1.0, 4: 2.0, 6: 3.0}
    assert list(cluster.spread(half, [])) == []
    tasks = {together: dict(cluster.spread(task, range(24), together)) for together in (1, 2, 99)}
    assert all(sorted(found) == list(range(24)) for found in tasks.values())
    # On 2 CPUs there are never fewer than 8.
    assert [len(set(found.values())) for found in tasks.values()] == [24, 12, 8]
    with pytest.raises(DataError, match=r"^7 is odd; give even numbers$"):
        list(cluster.spread(half, [2, 7]))


def test_a_remote_function_answers_or_raises_its_own_error(ray_local: None) -> None:
    def divided(number: int, by: int) -> tuple[int, int]:
        return divmod(number, by)

    assert cluster.remotely(divided, 7, 2) == (3, 1)

    def refuse(path: str) -> None:
        raise DataError(f"{path}: has no label")

    with pytest.raises(DataError, match=r"^a\.jsonl: has no label$"):
        cluster.remotely(refuse, "a.jsonl")


def test_every_node_sees_the_storage(ray_local: None, tmp_path: Path) -> None:
    cluster.check_storage(Placement(storage=str(tmp_path)))
    assert list(cluster.storage_by_node(str(tmp_path)).values()) == [""]
    assert not list((tmp_path / ".doctor").iterdir())
