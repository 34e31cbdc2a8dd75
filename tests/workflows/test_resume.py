"""The driver is killed in every step, and what comes out is what an undisturbed run makes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TINY = Path(__file__).parent / "tiny.py"


def start(storage: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pipelines.cli", "run", str(TINY), "--json"]
    return subprocess.Popen(
        [*command, "--storage", str(storage), "--cpus", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(storage: Path) -> dict[str, str]:
    """Run to the end; each step's digest."""
    process = start(storage)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err[-3000:]
    return {name: made["digest"] for name, made in json.loads(out).items()}


def kill_in(step: str, storage: Path, after_s: float) -> bool:
    """Start a run, SIGKILL its driver `after_s` into `step`; whether that was in time."""
    process = start(storage)
    assert process.stderr is not None
    for line in process.stderr:
        if f"] {step}: " in line and "reused" not in line:
            time.sleep(after_s)
            break
    in_time = process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return in_time


def seconds(storage: Path) -> dict[str, float]:
    manifests = [json.loads(path.read_text()) for path in storage.glob("*/*/artifact.json")]
    return {manifest["name"]: manifest["seconds"] for manifest in manifests}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1500)
def test_a_driver_killed_in_every_step_ends_with_the_same_bytes(tmp_path: Path) -> None:
    undisturbed = finish(tmp_path / "calm")
    took = seconds(tmp_path / "calm")
    chance = random.Random(os.environ.get("RAYLINE_TEST_SEED", "7"))
    killed = [
        step
        for step in undisturbed
        if kill_in(step, tmp_path / "killed", chance.uniform(0, took[step]))
    ]
    assert finish(tmp_path / "killed") == undisturbed
    assert len(killed) >= len(undisturbed) - 2  # a kill may come just after a very short step
