"""A real cluster of two raylets on this machine that wants a token."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ports import free_port

RAY = str(Path(sys.executable).parent / "ray")
SHAPE = "{layers: 1, width: 32, heads: 2, feedforward: 64}"
SMALL = [
    "packages=[click, httpx, jinja2, pydantic]",
    "labelled=100",
    *(f"{step}.optimise.steps=10" for step in ("pretrain", "finetune", "scratch")),
    *(f"{step}.model={SHAPE}" for step in ("pretrain", "scratch")),
    "student.method.optimise.steps=10",
    f"student.method.student={SHAPE}",
]
"""Settings that make the quickstart a matter of seconds a step."""


@dataclass(frozen=True)
class Cluster:
    gcs: str
    dashboard: str
    env: dict[str, str]


def wait_for_cpus(number: int, gcs: str, env: dict[str, str]) -> None:
    """Until the cluster has as many CPUs, which is as many nodes here."""
    status = [RAY, "status", "--address", gcs]
    for _ in range(60):
        done = subprocess.run(status, env=env, capture_output=True, text=True, check=False)
        if f"/{number}.0 CPU" in done.stdout:
            return
        time.sleep(1)
    raise AssertionError(f"no {number} nodes after a minute: {done.stdout} {done.stderr}")


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """`ray start --head` and a second raylet, both with a token; stopped by process id."""
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    env = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    env.pop("RAY_ADDRESS", None)
    gcs, dashboard = f"127.0.0.1:{free_port()}", free_port()
    common = ["--node-ip-address=127.0.0.1", "--num-cpus=1", "--object-store-memory=104857600"]
    head = [RAY, "start", "--head", "--block", f"--port={gcs.split(':')[1]}", *common]
    head += [f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"]
    worker = [RAY, "start", "--block", f"--address={gcs}", *common]
    nodes = []
    try:
        for number, command in enumerate((head, worker), start=1):
            nodes.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL))
            wait_for_cpus(number, gcs, env)
        yield Cluster(gcs, f"http://127.0.0.1:{dashboard}", env)
    finally:
        for node in reversed(nodes):
            node.terminate()
        for node in nodes:
            node.wait(timeout=60)


@pytest.fixture(scope="session")
def small() -> list[str]:
    """Settings that make the quickstart a matter of seconds a step."""
    return list(SMALL)
