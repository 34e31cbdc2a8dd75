"""A node is taken away from a training: how many steps are repeated, with a notice and without?

Two raylets on this machine, one CPU each, and a training of two workers whose checkpoints are far
apart. In the middle between two of them the second node goes: after a drain request with reason
preemption (what a spot machine's notice or a deleted pod becomes in Ray), or by SIGKILL of the
raylet alone. The training goes on with one worker. Steps repeated are those that the lost try had
taken after the checkpoint from which the next one went on. Run, and run again with the same
`--folder` to go on where it ended:

    python benchmarks/train_preempt.py --data DIR --folder DIR [--steps 1500] [--every 500]
"""

import argparse
import json
import os
import platform
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from corpus_faults import digest, family, kill
from train_faults import sample, texts_of

RESULTS = Path(__file__).with_suffix(".md")
RAY = str(Path(sys.executable).parent / "ray")
FAULTS = str(Path(__file__).with_name("train_faults.py"))
WAIT_S = 600


@dataclass(frozen=True)
class Lost:
    """What one lost node cost: steps since the last periodic checkpoint, and those repeated."""

    since: int
    repeated: int
    digest: str


@dataclass(frozen=True)
class Nodes:
    """A cluster of two raylets: its address, the environment to join it, and the second's id."""

    address: str
    env: dict[str, str]
    second: "subprocess.Popen[bytes]"
    second_id: str


@contextmanager
def nodes(folder: Path) -> Iterator[Nodes]:
    """A head and a second node, with one CPU each; ended by process id."""
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    env = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    env |= {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "OMP_NUM_THREADS": "1"}
    env |= {"PYTHONPATH": str(Path(__file__).parent.parent)}
    env.pop("RAY_ADDRESS", None)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = ["--block", "--node-ip-address=127.0.0.1", "--num-cpus=1"]
    common += ["--object-store-memory=104857600"]
    address = f"127.0.0.1:{port}"
    started: list[subprocess.Popen[bytes]] = []
    try:
        for place in (
            ["--head", f"--port={port}", "--include-dashboard=false"],
            [f"--address={address}"],
        ):
            command = [RAY, "start", *place, *common]
            started.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL))
            ids = _ids(address, env, len(started))
        yield Nodes(address, env, started[1], ids[1])
    finally:
        for node in reversed(started):
            kill(family(node.pid))
            node.wait()


def _ids(address: str, env: dict[str, str], number: int) -> list[str]:
    """Node ids, the head's first, once there are `number` of them."""
    code = (
        "import ray, json\n"
        f"ray.init(address={address!r}, log_to_driver=False, logging_level='error')\n"
        "nodes = [node for node in ray.nodes() if node['Alive']]\n"
        "nodes.sort(key=lambda node: 'node:__internal_head__' not in node['Resources'])\n"
        "print(json.dumps([node['NodeID'] for node in nodes]))"
    )
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
        )
        found = json.loads(done.stdout) if done.returncode == 0 else []
        if len(found) == number:
            return list(found)
        time.sleep(1)
    raise TimeoutError(f"no {number} nodes at {address}: {done.stderr[-1000:]}")


def lose(folder: Path, name: str, notice: bool, steps: int, every: int) -> Lost:
    """One training that loses its second node between two checkpoints."""
    store, kept = folder / name, folder / f"{name}.json"
    if kept.exists():
        return Lost(**json.loads(kept.read_text()))
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir()
    with nodes(store) as cluster, (store / "log").open("w") as log:
        command = [sys.executable, FAULTS, "--drive", folder, store, 2, steps, every]
        driver = subprocess.Popen(
            list(map(str, command)),
            env=cluster.env | {"RAY_ADDRESS": cluster.address},
            stderr=log,
        )
        try:
            _until(driver, lambda: _reached(store) >= every + every // 2)
            saved = _saved(store)
            if notice:
                _drain(cluster)
                _until(driver, lambda: "told to leave" in (store / "log").read_text())
            before = _reached(store)
            kill(family(cluster.second.pid))
            driver.wait(WAIT_S)
        finally:
            kill(family(driver.pid))
            driver.wait()
    if driver.returncode or not (store / "done").exists():
        told = (store / "log").read_text()
        raise RuntimeError(f"{name}: the driver ended with {driver.returncode}: {told[-2000:]}")
    lost = counted(store, before, saved)
    kept.write_text(json.dumps(asdict(lost)))
    return lost


def counted(store: Path, reached: int, saved: int) -> Lost:
    """What a training lost that had come to `reached`, its last checkpoint being of `saved`."""
    left = re.search(r"checkpoint of step (\d+) is written", (store / "log").read_text())
    resumed = int(left[1]) if left else saved
    reached = max(reached, resumed)
    return Lost(reached - saved, reached - resumed, digest(store))


def _drain(cluster: Nodes) -> None:
    subprocess.run(
        [
            *(RAY, "drain-node", "--address", cluster.address, "--node-id", cluster.second_id),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"),
            *("--deadline-remaining-seconds", "120"),
        ],
        env=cluster.env,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _reached(store: Path) -> int:
    """The last step that the training has told of."""
    try:
        points = json.loads((store / "work" / ".progress.json").read_text())
        return int(points[-1]["step"])
    except (OSError, ValueError, IndexError):
        return 0


def _saved(store: Path) -> int:
    """The step of the newest whole checkpoint."""
    found = (store / "work" / ".checkpoints").glob("*/manifest.json")
    return max((int(path.parent.name) for path in found), default=0)


def _until(driver: "subprocess.Popen[bytes]", true: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        if driver.poll() is not None or time.monotonic() > end:
            raise TimeoutError(f"the driver ended with {driver.returncode}, or did not get there")
        time.sleep(0.2)


def main() -> None:
    """Lose a node both ways, compare, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--every", type=int, default=500)
    options = parser.parse_args()
    folder = options.folder
    if not (folder / "tokens").exists():
        folder.mkdir(parents=True, exist_ok=True)
        sample(texts_of(options.data), folder)
    told = lose(folder, "told", True, options.steps, options.every)
    killed = lose(folder, "killed", False, options.steps, options.every)
    text = f"""# A node is taken away from a training

Written by `python benchmarks/train_preempt.py --steps {options.steps} --every {options.every}`:
{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}, one run each.

| | steps since the last periodic checkpoint | of these repeated |
|---|---:|---:|
| drain request, then the node goes | {told.since} | {told.repeated} |
| the node goes without a word | {killed.since} | {killed.repeated} |

Both went on with one worker of two, and ended with the same weights and history:
{told.digest == killed.digest}.
"""
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
