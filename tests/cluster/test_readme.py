"""Every command block of the README is run, the workflow at a test's size; both READMEs agree."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def commands(readme: str) -> list[str]:
    """Each line of each bash block, without its comment."""
    blocks = re.findall(
        r"^```bash\n(.*?)^```", (ROOT / readme).read_text(), re.MULTILINE | re.DOTALL
    )
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


COMMANDS = commands("README.md")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small: list[str]) -> Path:
    """Where a reader would type: `rayline` on the path, the quickstart made small."""
    home = tmp_path_factory.mktemp("readme")
    (home / "bin").mkdir()
    python, settings = shlex.quote(sys.executable), shlex.join(small)
    script = home / "bin" / "rayline"
    script.write_text(
        "#!/bin/sh\n"
        'case "$1 $2" in\n'
        f'"run quickstart"|"plan quickstart"|"submit quickstart") '
        f'exec {python} -m pipelines.cli "$@" {settings} ;;\n'
        f'*) exec {python} -m pipelines.cli "$@" ;;\n'
        "esac\n"
    )
    script.chmod(0o755)
    rows = '{"text": "a fine film", "label": "1"}\n{"text": "a dull film", "label": "0"}\n'
    for name in ("reviews", "held_out", "prose"):
        (home / f"{name}.jsonl").write_text(rows)
    return home


def environment(folder: Path, base: dict[str, str]) -> dict[str, str]:
    path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{base['PATH']}"
    return base | {"PATH": path, "PYTHONPATH": str(ROOT)}


def sh(command: str, folder: Path, base: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(folder, base),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_chinese_readme_has_the_same_commands() -> None:
    assert commands("README.zh-CN.md") == COMMANDS


def test_the_docs_show_no_command_that_the_readme_has_not() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert set(commands(f"docs/{page.name}")) <= set(COMMANDS), page.name


def test_both_readmes_have_the_same_headings_and_tables() -> None:
    def shape(readme: str) -> list[str]:
        text = (ROOT / readme).read_text()
        return re.findall(r"^(#+ |\|(?=-)|```\w*)", text, re.MULTILINE)

    assert shape("README.zh-CN.md") == shape("README.md")


def test_make_targets_of_the_readme_exist() -> None:
    for command in [line for line in COMMANDS if line.startswith("make ")]:
        done = subprocess.run(
            ["make", "-n", *command.split()[1:]], cwd=ROOT, capture_output=True, check=False
        )
        assert done.returncode == 0, command


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.timeout(1500)
def test_every_command_runs(folder, two_nodes, small):
    local = dict(os.environ)
    sh("rayline run quickstart", folder, local)  # what `make demo` does first
    for command in COMMANDS:
        if command.startswith(("make ", "export ")):
            continue
        if command == "rayline ui":
            answers(command, folder, local)
        elif "8265" in command:
            on_cluster = command.replace("http://127.0.0.1:8265", two_nodes.dashboard)
            on_cluster = on_cluster.replace("/mnt/shared/runs", str(folder / "runs"))
            on_cluster = on_cluster.replace("--working-dir .", f"--working-dir {ROOT}")
            if command.startswith("ray "):
                on_cluster += f" {shlex.join(small)}"
            assert "reused" in sh(on_cluster, folder, two_nodes.env)
        elif command == "rayline doctor":
            token = {key: local[key] for key in local if key != "RAY_AUTH_MODE"}
            assert "is writable here" in sh(f"{command} || true", folder, token)
        else:
            sh(command, folder, local)


def answers(command: str, folder: Path, base: dict[str, str]) -> None:
    """Start a server, wait for its page, stop it."""
    server = subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=folder, env=environment(folder, base)
    )
    try:
        for _ in range(120):
            try:
                page = urllib.request.urlopen("http://127.0.0.1:5000", timeout=5).read()
                break
            except OSError:
                time.sleep(1)
        assert b"MLflow" in page
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)
