"""A real cluster of two raylets that wants a token: submit, plain `ray job submit`, doctor."""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RAY = str(Path(sys.executable).parent / "ray")


@dataclass(frozen=True)
class Cluster:
    gcs: str
    dashboard: str
    env: dict[str, str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
        for command in (head, worker):
            nodes.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL))
            time.sleep(8 if command is head else 4)
        yield Cluster(gcs, f"http://127.0.0.1:{dashboard}", env)
    finally:
        for node in reversed(nodes):
            node.terminate()
        for node in nodes:
            node.wait(timeout=60)


def run(
    command: list[str], env: dict[str, str], cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=env, cwd=cwd, capture_output=True, text=True, timeout=400, check=False
    )


def small(storage: Path) -> list[str]:
    """Settings and options that make the quickstart a matter of seconds a step."""
    model = "{layers: 1, width: 32, heads: 2, feedforward: 64}"
    steps = [f"{step}.optimise.steps=10" for step in ("pretrain", "finetune", "scratch")]
    steps += ["student.method.optimise.steps=10", f"student.method.student={model}"]
    steps += [f"{step}.model={model}" for step in ("pretrain", "scratch")]
    return ["packages=[click, httpx, jinja2]", *steps, "labelled=200", "--storage", str(storage)]


@pytest.mark.ray
@pytest.mark.cluster
def test_submit_runs_the_workflow_on_a_cluster_that_wants_a_token(
    two_nodes: Cluster, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "submit", "quickstart", *small(tmp_path)]
    done = run([*command, "--address", two_nodes.dashboard], two_nodes.env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert (tmp_path / "infer").is_dir()


@pytest.mark.ray
@pytest.mark.cluster
def test_plain_ray_job_submit_finds_everything_made_already(
    two_nodes: Cluster, tmp_path: Path
) -> None:
    entry = ["python", "-m", "workflows.quickstart", *small(tmp_path), "--json"]
    command = [RAY, "job", "submit", "--address", two_nodes.dashboard, "--working-dir", ".", "--"]
    done = run([*command, *entry], two_nodes.env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


@pytest.mark.ray
@pytest.mark.cluster
def test_a_missing_token_is_one_clear_message(two_nodes: Cluster, tmp_path: Path) -> None:
    env = two_nodes.env | {"RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-m", "pipelines.cli", "submit", "quickstart"]
    done = run([*command, "--address", two_nodes.dashboard, "--storage", str(tmp_path)], env)
    assert done.returncode == 2
    assert "RAY_AUTH_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.ray
@pytest.mark.cluster
def test_doctor_sees_every_node_of_the_cluster(two_nodes: Cluster, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "doctor", "--address", two_nodes.gcs]
    done = run([*command, "--storage", str(tmp_path)], two_nodes.env)
    assert done.stdout.count("storage on 127.0.0.1") == 2, done.stdout + done.stderr
