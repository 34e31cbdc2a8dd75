"""Ray: start one here, connect to one elsewhere, run functions on it, submit to one.

`session` gives a running Ray for the steps of a run; `remotely` and `spread` run functions on it;
`submit` sends a workflow to a cluster's Jobs API. Processes that learn together are in `group.py`.
"""

import contextlib
import logging
import os
import pickle
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipelines.core.config import Json, Placement
from pipelines.core.errors import ArtifactError, ConfigError, RaylineError

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

ENVIRONMENT = {
    # The V2 reader loses a job when a node dies during listing, and starts 32 actors a read.
    "RAY_DATA_USE_DATASOURCE_V2": "0",
    # A progress point waits for the Train controller's next poll: 2 s by default.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # A group waits so long for CPUs, which may be those of a node just lost: 60 s by default.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
OBJECT_STORE = 400 * 2**20  # bytes; steps pass counts and hashes between tasks, never text
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set in a job's driver. Its folder is unpacked once a node, so where two nodes share a host it is
replaced while the driver stands in it, and whatever asks for the current folder then fails."""
# Ray Data asks what the cluster has, and looks for the answer again after this long; until then it
# runs one task at a time. Its own 1 s made 8 tasks of .3 s on 2 CPUs take 2.2 s instead of 1.9.
LIMITS_S = 0.05
# Short items share a task as long as every CPU gets so many tasks. Each task costs Ray Data some
# .1 s of the driver's CPU: 40 of .25 s on 2 CPUs took 8.1 s, and 10.2 s on one.
TASKS = 4
KNOCK_S, PROBE_S = 10.0, 60.0


def prepare() -> None:
    """Set Ray's environment; call before `ray` is imported anywhere."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def session(placement: Placement) -> Iterator[None]:
    """A running Ray: the cluster at `placement.address`, or a local one that stops with the block.

    Raises:
        ConfigError: no cluster answers at the address, or its nodes cannot see the storage.
    """
    prepare()
    import ray

    if ray.is_initialized():
        yield
        return
    address = placement.address or os.environ.get("RAY_ADDRESS")
    try:
        if address:
            connect(address)
            if JOB in os.environ:
                os.chdir(tempfile.gettempdir())
        else:
            _start(placement)
        check_storage(placement)
        _quiet_data()
        yield
    finally:
        ray.shutdown()
        if not address:
            os.environ.pop("RAY_ADDRESS", None)  # of the Ray that `_start` started


def remotely(function: Callable[..., Answer], *arguments: Any, cpus: int = 1) -> Answer:
    """`function(*arguments)` in one Ray task; one of 0 `cpus` never waits for a free one.

    Raises:
        RaylineError: the function's own, without Ray's account of where it ran.
    """
    import ray
    from ray.exceptions import RayTaskError

    try:
        answer: Answer = ray.get(ray.remote(num_cpus=cpus)(function).remote(*arguments))
    except RayTaskError as error:
        if isinstance(error.cause, RaylineError):
            raise error.cause from None
        raise
    return answer


def spread(
    function: Callable[[Any], Any], items: Sequence[Any], together: int = 1
) -> Iterator[Any]:
    """`function(item)` of every item in Ray Data tasks, as they end.

    Ray calls a function again when its process dies, so calling it twice must do no harm.

    Args:
        function: what is called; picklable.
        items: what it is called with.
        together: items that one task may take, one after the other, where each needs a second or
            less; it takes fewer where that would leave a CPU without tasks.

    Raises:
        RaylineError: the function's own, without Ray's account of where it ran.
    """
    import ray.data
    from ray.data._internal.execution.resource_manager import ResourceManager

    if not items:
        return
    ResourceManager.GLOBAL_LIMITS_UPDATE_INTERVAL_S = LIMITS_S
    rows = [{"item": pickle.dumps(item)} for item in items]
    cpus = int(ray.cluster_resources().get("CPU", 1))
    size = max(1, min(together, len(rows) // (cpus * TASKS)))
    blocks = -(-len(rows) // size)
    tasks = ray.data.from_items(rows, override_num_blocks=blocks).map(_Task(function))
    for row in tasks.iter_rows():
        answer, error = pickle.loads(row["outcome"])  # noqa: S301 (our own, from a task)
        if error is not None:
            raise error
        yield answer


@dataclass(frozen=True)
class _Task:
    """Calls a function on a Ray Data row; raised there, an error would come wrapped in a trace."""

    function: Callable[[Any], Any]

    def __call__(self, row: Json) -> Json:
        try:
            return {"outcome": pickle.dumps((self.function(pickle.loads(row["item"])), None))}  # noqa: S301 (our own, from the driver)
        except RaylineError as error:
            return {"outcome": pickle.dumps((None, error))}


def connect(address: str) -> None:
    """Join the cluster at `address`.

    Raises:
        ConfigError: nothing answers there, or it wants a token that this process does not have.
    """
    import ray
    from ray.exceptions import RayError

    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="warning")
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address}: {str(error).splitlines()[0]}; start one with "
            "`ray start --head`, give its address (host:6379), and export RAY_AUTH_MODE=token with "
            "RAY_AUTH_TOKEN if it asks for one; `rayline doctor` checks all of it"
        ) from error


def _knock(address: str) -> None:
    """Fail at once where nothing listens; Ray itself tries for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


def disconnect() -> None:
    """Leave the cluster, if one was joined."""
    import ray

    ray.shutdown()


def check_storage(placement: Placement) -> None:
    """Make sure every node can write to the storage root.

    Raises:
        ConfigError: names the nodes that cannot.
    """
    blind = [f"{node}: {why}" for node, why in storage_by_node(placement.storage).items() if why]
    if blind:
        raise ConfigError(
            f"storage {placement.storage} is not writable from every node ({'; '.join(blind)}); "
            "give a shared folder (NFS) or an s3:// URI with --storage"
        )


def storage_by_node(storage: str) -> dict[str, str]:
    """For each live node, what is wrong with `storage` there; nothing if all is well."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from pipelines.core.storage import Store

    store = Store.at(storage).below(f".doctor/{os.urandom(8).hex()}")
    store.write("driver", b"here")

    def probe(node: str) -> str:
        try:
            store.read("driver")
            store.write(node, b"here")
            return ""
        except (ArtifactError, ConfigError) as error:
            return str(error)

    nodes = [node for node in ray.nodes() if node["Alive"]]
    tasks = {}
    for node in nodes:
        pin = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(probe).options(num_cpus=0, scheduling_strategy=pin)
        tasks[f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"] = task.remote(node["NodeID"])
    try:
        return {name: _probed(task) for name, task in tasks.items()}
    finally:
        store.delete("")


def _probed(task: Any) -> str:
    import ray
    from ray.exceptions import RayError

    try:
        return str(ray.get(task, timeout=PROBE_S))
    except RayError as error:
        return f"does not answer: {type(error).__name__}"


def submit(
    entrypoint: str, address: str, *, folder: Path, name: str, environment: dict[str, str]
) -> str:
    """Send `entrypoint` to a cluster's Jobs API; returns the submission id.

    Args:
        entrypoint: the command the cluster runs in `folder`'s copy.
        address: the dashboard's `http://host:8265`.
        folder: the code that is sent along, less what `.rayignore` names.
        name: submission id.
        environment: variables of the job.

    Raises:
        ConfigError: nothing answers at the address, or it refuses the token.
    """
    prepare()
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
        return str(
            client.submit_job(
                entrypoint=entrypoint,
                submission_id=name,
                runtime_env={"working_dir": str(folder), "env_vars": environment},
            )
        )
    except (ConnectionError, RuntimeError, RayError) as error:
        raise ConfigError(
            f"no Ray dashboard accepts jobs at {address}: {str(error).splitlines()[0]}; give the "
            "address that `ray start --head` printed (http://host:8265), and export "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN if the cluster asks for a token"
        ) from error


async def _tail(client: Any, job: str, line: Callable[[str], None]) -> None:
    async for text in client.tail_job_logs(job):
        line(text)


def follow_job(job: str, address: str, line: Callable[[str], None]) -> bool:
    """Print a job's log until it ends; returns whether it succeeded."""
    import asyncio

    from ray.job_submission import JobStatus, JobSubmissionClient

    client = JobSubmissionClient(address)
    asyncio.run(_tail(client, job, line))
    return bool(client.get_job_status(job) == JobStatus.SUCCEEDED)


def _start(placement: Placement) -> None:
    """Start Ray on this machine, with no dashboard and a token that only this user can read."""
    import ray

    # It warns that tokens are on, which they shall be.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    try:
        ray.init(
            address="local",
            num_cpus=placement.cpus or max(2, os.cpu_count() or 2),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE,
            log_to_driver=False,
            logging_level="warning",
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"no Ray could be started on this machine: {str(error).strip().splitlines()[-1]}; "
            "`rayline doctor` checks memory, disk and ports"
        ) from error
    _keep_private(Path.home() / ".ray" / "auth_token")
    # With two Ray instances on one host, Train's placement-group cleaner needs to be told which.
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address


def _keep_private(token: Path) -> None:
    """Ray writes its token readable by every user of the machine (mode 0644)."""
    if token.exists():
        token.chmod(0o600)


def _quiet_data() -> None:
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # It warns at each dataset that the bars are off, which they are on purpose: Console draws them.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
