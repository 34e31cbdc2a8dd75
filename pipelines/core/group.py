"""Processes that learn together: start them as one torch process group, and keep them going.

`distributed` runs one function in as many processes as are wanted and there is room for. A group
that is lost is started again on what the cluster then has. One whose node is about to be taken away
is told so in time (`LEAVE`, `TERMINATED`): its function writes what it has and raises `LeaveError`.
"""

import contextlib
import itertools
import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.core.artifact import Workspace
from pipelines.core.config import Json
from pipelines.core.errors import ArtifactError, ConfigError, RaylineError, StorageError

log = logging.getLogger(__name__)

PROGRESS = ".progress.json"
LEAVE = ".leave"
"""A file in the workspace that tells the processes to go, and why."""
TERMINATED = threading.Event()
"""Set in a process of a group that got SIGTERM."""
POLL_S = 1.0  # between looks at progress, and at what happens to the nodes
GROW_S = 60.0  # how long there has to be room for more processes before a group is restarted
ROOM_S = 120.0  # how long a group without a node waits for one
BUSY_S = 30.0  # how long it waits for nodes that others use, before it starts on fewer
TIMEOUT_S = 300  # of one collective operation, as when a process hangs


class LeaveError(RaylineError):
    """This process was told to go, and what it did is in a checkpoint."""


@dataclass(frozen=True)
class Workers:
    """How many processes are wanted, and what each of them holds.

    `number` is the most: a group started again takes what the cluster then has, at least one.
    """

    number: int
    cpus: int = 1
    gpu: bool = False

    @property
    def each(self) -> dict[str, int]:
        """What Ray reserves for one."""
        return {"CPU": self.cpus} | ({"GPU": 1} if self.gpu else {})

    def places(self) -> int:
        """For how many there is room on the nodes that stay, were they free."""
        import ray

        nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        return self._fit(nodes)

    def free(self) -> int:
        """For how many there is room now, beside all that runs."""
        import ray._private.state

        return self._fit(ray._private.state.state.available_resources_per_node())

    def _fit(self, nodes: dict[str, dict[str, float]]) -> int:
        leaving = _draining()
        return sum(
            min(int(held.get(name, 0) // amount) for name, amount in self.each.items())
            for node, held in nodes.items()
            if node not in leaving
        )


def distributed(
    function: Callable[[Json], Json],
    settings: Json,
    *,
    name: str,
    workers: int,
    parts: int,
    out: Workspace,
    report: Callable[[Json], None],
    cpus: int = 1,
    retries: int = 2,
) -> Json:
    """Run `function(settings)` in `workers` processes of one torch process group.

    A lost process restarts the whole group, so `function` begins by looking for its own newest
    checkpoint in `out`. While it runs, the points that rank 0 keeps in `out` at `.progress.json`
    are passed to `report`.

    Args:
        function: called in every process; finds its rank by `torch.distributed`.
        settings: picklable values handed to it.
        name: shown in Ray's views.
        workers: most processes, with one GPU each where the cluster has as many.
        parts: how many the work is cut into; more processes would have nothing to do.
        out: the step's workspace.
        report: receives each progress point once.
        cpus: of each process, which are its threads too.
        retries: how many lost groups in a row are restarted if none gets further than the last.

    Returns:
        What rank 0 returned.

    Raises:
        RaylineError: the function's own, of any process, or that the group was lost too often.
    """
    import ray

    if workers > parts:
        log.warning(
            "%s: %d workers, not %d: a batch has %d parts (optimise.shards), a worker one or more",
            name, parts, workers, parts,
        )  # fmt: skip
        workers = parts
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if 0 < gpus < workers:
        log.warning(
            "%s: learns on CPUs, because %d workers want a GPU each and the cluster has %d: give "
            "--workers %d", name, workers, gpus, gpus,
        )  # fmt: skip
    gpu = gpus >= workers
    wanted = Workers(workers, cpus, gpu)
    if workers > (have := wanted.places()):
        raise ConfigError(
            f"{name}: {workers} workers of {cpus} CPUs each do not fit the cluster, which has "
            f"room for {have}; give --workers {max(have, 1)}, fewer --worker-cpus or add nodes"
        )
    call = {"function": function, "settings": settings, "cpus": cpus}
    with _followed(out, report):
        return _persistently(_Group(name, wanted, out, call), retries)


@dataclass(frozen=True)
class _Group:
    """One function's processes, whatever their number at the time."""

    name: str
    wanted: Workers
    out: Workspace
    call: Json

    def attempt(self, number: int, size: int) -> Json:
        """What rank 0 of `size` processes left: `answer`, or why all `left`."""
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        trainer = TorchTrainer(
            _process,
            train_loop_config=self.call,
            scaling_config=ScalingConfig(
                num_workers=size, use_gpu=self.wanted.gpu, resources_per_worker=self.wanted.each
            ),
            torch_config=_torch(),
            # Ray's own checkpoints are not used: ours are committed by the artifact protocol. A
            # name used before would make Ray resume, or end at once, so each try has its own.
            run_config=RunConfig(
                name=f"{self.name}-{self.out.epoch}-{number}",
                storage_path=f"{self.out.store.uri}/.ray",
                # Ray would try again for ever, with as many processes, on nodes that are gone.
                failure_config=FailureConfig(
                    max_failures=0, controller_failure_limit=0, max_preemption_failures=0
                ),
            ),
        )
        left: Json = json.loads(str(trainer.fit().return_value))
        return left


def _torch() -> Any:
    """Ray's torch backend, with processes that note a SIGTERM instead of ending at once."""
    from ray.train.torch import TorchConfig

    class Listening(TorchConfig().backend_cls):  # type: ignore[misc]  # Ray is untyped here
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(_listen)
            super().on_start(worker_group, backend_config)

    class Config(TorchConfig):  # type: ignore[misc]  # likewise
        @property
        def backend_cls(self) -> type:
            return Listening

    return Config(timeout_s=TIMEOUT_S)


def _listen() -> None:
    """Called in a worker's main thread, where alone Python lets a handler be set."""
    signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, _frame: Any) -> None:
    if TERMINATED.is_set():  # the second time is no request
        sys.exit(128 + number)
    TERMINATED.set()


def _process(config: Json) -> str:
    """One process's whole life."""
    import torch

    torch.set_num_threads(config["cpus"])
    try:
        return json.dumps({"answer": config["function"](config["settings"])})
    except LeaveError as error:
        return json.dumps({"left": str(error)})


def _persistently(group: _Group, retries: int) -> Json:
    """The answer of the first attempt that has one.

    Ray's own `max_failures` does not cover a process killed while the group starts, nor the death
    of the Train controller, so the whole attempt is repeated.
    """
    losses = reached = 0
    for number in itertools.count():
        size, standing = _size(group), _reservations()
        group.out.delete(LEAVE)
        try:
            with _watched(group, size, standing):
                left = group.attempt(number, size)
        except Exception as error:
            lost = _lost(error)
            step = _step(group.out)
            losses, reached = (1 if step > reached else losses + 1), max(step, reached)
            if losses > retries:
                raise RaylineError(
                    f"{group.name}: its processes were lost {losses} times without getting "
                    f"further: {lost}; what was checkpointed is kept, and the same command "
                    "continues from it"
                ) from error
            log.warning("%s: its processes were lost (%s); starting them again", group.name, lost)
            _free(set(_reservations()) - set(standing))
            continue
        if "answer" in left:
            answer: Json = left["answer"]
            return answer
        log.warning("%s: %s; starting again elsewhere", group.name, left["left"])
    raise AssertionError("unreachable: the count does not end")


def _lost(error: Exception) -> str:
    """The last line of what ended a group.

    Raises:
        RaylineError: a process's own, which would only come again.
    """
    from ray.train import WorkerGroupError

    failures = error.worker_failures if isinstance(error, WorkerGroupError) else {}
    for failure in failures.values():
        if isinstance(failure, RaylineError):
            raise failure from None
    first = next(iter(failures.values()), error)
    return (str(first).strip().splitlines() or [type(first).__name__])[-1]


def _size(group: _Group) -> int:
    """How many processes the next attempt has.

    Raises:
        RaylineError: the node of this very driver goes, or none is left.
    """
    import ray

    if ray.get_runtime_context().get_node_id() in _draining():
        raise RaylineError(
            f"{group.name}: the node that this command runs on is being taken away; what was "
            "checkpointed is kept, and the same command continues from it on another"
        )
    began = time.monotonic()
    while not (size := _room(group.wanted, time.monotonic() - began)):
        if time.monotonic() - began > ROOM_S:
            raise RaylineError(
                f"{group.name}: no node has {group.wanted.each} left, or free, after {ROOM_S:.0f} "
                "s; what was checkpointed is kept: add one, or wait for other jobs to end, and "
                "give the same command again"
            )
        time.sleep(POLL_S)
    if size < group.wanted.number:
        log.warning("%s: goes on with %d of %d workers", group.name, size, group.wanted.number)
    return size


def _room(wanted: Workers, waited_s: float) -> int:
    """For how many of the wanted there is room: for all that fit, or after a while for the free."""
    fitting = min(wanted.number, wanted.places())
    free = min(fitting, wanted.free())
    return free if free == fitting or waited_s > BUSY_S else 0


def _draining() -> set[str]:
    """Ids of the nodes that are about to be taken away."""
    import ray._private.state

    return set(ray._private.state.state.get_draining_nodes())


def reason_to_leave(nodes: set[str], draining: set[str], room_s: float) -> str | None:
    """Why a group should go, if it should.

    Args:
        nodes: ids of those it runs on.
        draining: ids of those that are about to be taken away.
        room_s: how long there has been room for a larger group, if a larger one is wanted.
    """
    if doomed := nodes & draining:
        return f"node {min(doomed)} is being taken away"
    if room_s > GROW_S:
        return "there is room for more processes"
    return None


@contextlib.contextmanager
def _watched(group: _Group, size: int, standing: dict[str, set[str]]) -> Iterator[None]:
    """Tell the processes to go, from a thread, once there is a reason; while the block runs."""
    done = threading.Event()

    def watch() -> None:
        full = time.monotonic()  # when there was no room for more
        while not done.wait(POLL_S):
            if size >= group.wanted.number or not group.wanted.free():
                full = time.monotonic()
            nodes = [held for name, held in _reservations().items() if name not in standing]
            room_s = time.monotonic() - full
            if why := reason_to_leave(set().union(*nodes), _draining(), room_s):
                with contextlib.suppress(StorageError):  # the next look may find the store again
                    group.out.write(LEAVE, why.encode())
                    return

    thread = threading.Thread(target=watch, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _reservations() -> dict[str, set[str]]:
    """Nodes by this driver's placement groups, whose ids end with the id of the job."""
    import ray
    from ray.util import placement_group_table

    job, groups = ray.get_runtime_context().get_job_id(), placement_group_table()
    return {
        name: set(facts["bundles_to_node_id"].values())
        for name, facts in groups.items()
        if name.endswith(job) and facts["state"] != "REMOVED"
    }


def _free(reservations: set[str]) -> None:
    """Give back the CPUs of a dead attempt.

    A Train controller that dies leaves its group's CPUs reserved until the driver ends, unless
    Ray's state API answers, which needs the dashboard; the next attempt would wait in vain.
    """
    from ray import PlacementGroupID
    from ray.util import remove_placement_group
    from ray.util.placement_group import PlacementGroup

    for name in reservations:
        remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(name))))


def _step(out: Workspace) -> int:
    """The last step that was reported; 0 before the first."""
    return max((point["step"] for point in _points(out)), default=0)


def _points(out: Workspace) -> list[Json]:
    with contextlib.suppress(ArtifactError, ValueError):
        points: list[Json] = json.loads(out.read(PROGRESS)) if out.exists(PROGRESS) else []
        return points
    return []


@contextlib.contextmanager
def _followed(out: Workspace, report: Callable[[Json], None]) -> Iterator[None]:
    """Pass new progress points to `report` from a thread while the block runs."""
    done = threading.Event()
    reported: set[int] = set()

    def pass_on() -> None:
        for point in _points(out):
            if point["step"] not in reported:
                reported.add(point["step"])
                report(point)

    def follow() -> None:
        while not done.wait(POLL_S):
            pass_on()

    thread = threading.Thread(target=follow, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        pass_on()
