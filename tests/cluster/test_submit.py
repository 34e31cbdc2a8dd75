"""A real cluster of two raylets that wants a token: submit, plain `ray job submit`, doctor."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RAY = str(Path(sys.executable).parent / "ray")
pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.slow]


def run(
    command: list[str], env: dict[str, str], cwd: Path = ROOT
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, env=env, cwd=cwd, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "runs"


def test_submit_runs_the_workflow_on_a_cluster_that_wants_a_token(two_nodes, small, storage):
    command = [sys.executable, "-m", "pipelines.cli", "submit", "quickstart", *small]
    command += ["--storage", str(storage), "--address", two_nodes.dashboard]
    done = run(command, two_nodes.env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert (storage / "infer").is_dir()


def test_plain_ray_job_submit_finds_everything_made_already(two_nodes, small, storage):
    entry = ["python", "-m", "workflows.quickstart", *small, "--storage", str(storage)]
    command = [RAY, "job", "submit", "--address", two_nodes.dashboard, "--working-dir", "."]
    done = run([*command, "--", *entry], two_nodes.env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert done.stdout.count("reused") >= 16


def test_a_missing_token_is_one_clear_message(two_nodes, tmp_path):
    env = two_nodes.env | {"RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-m", "pipelines.cli", "submit", "quickstart"]
    done = run([*command, "--address", two_nodes.dashboard, "--storage", str(tmp_path)], env)
    assert done.returncode == 2
    assert "RAY_AUTH_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_sees_every_node_of_the_cluster(two_nodes, tmp_path):
    command = [sys.executable, "-m", "pipelines.cli", "doctor", "--address", two_nodes.gcs]
    done = run([*command, "--storage", str(tmp_path)], two_nodes.env)
    assert len(re.findall(r"ok +storage on ", done.stdout)) == 2, done.stdout + done.stderr
