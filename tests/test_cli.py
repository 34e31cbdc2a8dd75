"""The command line: fast and light where it must be, one clear message on every wrong input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import cli
from pipelines.core.artifact import Workspace, commit
from pipelines.core.storage import Store

HEAVY = ("ray", "torch", "transformers", "mlflow")


def rayline(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=cwd, check=False
    )


@pytest.mark.parametrize(
    "line",
    [
        ["--help"],
        ["run", "--help"],
        ["plan", "quickstart"],
        ["sweep", "quickstart", "pretrain.optimise.learning_rate=1e-3,5e-4", "--plan"],
        ["schema", "train"],
        ["schema", "quickstart"],
        ["show", "nothing"],
    ],
)
def test_light_verbs_import_no_heavy_library(line: list[str], tmp_path: Path) -> None:
    if line[0] in ("plan", "show", "sweep"):
        line = [*line, "--storage", str(tmp_path)]
    code = (
        "import sys\nfrom pipelines import cli\n"
        f"try:\n    cli.main({line!r})\n"
        "except SystemExit: pass\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print('LOADED', loaded)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert "LOADED []" in done.stdout, done.stdout[-500:] + done.stderr[-2000:]


def test_a_misspelt_setting_names_the_nearest_one_and_exits_2(tmp_path: Path) -> None:
    done = rayline("plan", "quickstart", "pretrain.optimise.stesp=5", "--storage", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "rayline: command line: pretrain: unknown setting optimise.stesp; did you mean steps?"
    )


def test_a_misspelt_step_names_the_nearest_one(tmp_path: Path) -> None:
    done = rayline("plan", "quickstart", "pretrian.optimise.steps=5", "--storage", str(tmp_path))
    assert done.returncode == 2
    assert "unknown setting or step pretrian; did you mean pretrain?" in done.stderr


def test_a_misspelt_key_in_a_file_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 1\nlabeled: 500\n")
    done = rayline("plan", "quickstart", "--config", str(file), "--storage", str(tmp_path))
    assert done.returncode == 2
    assert f"{file}:2: unknown setting or step labeled; did you mean labelled?" in done.stderr


def test_a_key_deep_in_a_file_names_its_own_line_whatever_the_command_line_sets(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 1\npretrain:\n  warm_start: false\n  optimise:\n    stesp: 5\n")
    line = ["pretrain.optimise.seed=3", "--config", str(file), "--storage", str(tmp_path)]
    done = rayline("plan", "quickstart", *line)
    assert done.returncode == 2
    assert f"{file}:5: pretrain: unknown setting optimise.stesp; did you mean steps?" in done.stderr


def test_an_item_of_a_list_and_a_group_of_another_kind_can_be_set(tmp_path: Path) -> None:
    line = ["docs.sources.0.max_files=3", "mobile.format.kind=onnx", "--storage", str(tmp_path)]
    done = rayline("plan", "quickstart", *line)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe", "not a readable YAML file"), (b"1: 2", "the key 1 is no")],
)
def test_a_file_that_is_no_settings_file_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    for path, expected in ((file, message), (tmp_path, "not a readable YAML file")):
        done = rayline("plan", "quickstart", "--config", str(path))
        assert done.returncode == 2
        assert f"{path}: {expected}" in done.stderr
        assert "Traceback" not in done.stderr


def test_what_a_workflow_serves_is_its_own_not_a_namesake_of_another(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    work = Workspace.take(store.below(".work/mobile"))
    work.write("model.tflite", b"of another workflow")
    facts = {"kind": "Bundle", "stage": "export", "name": "mobile", "fingerprint": "0" * 64}
    facts |= {"identity": {}, "inputs": {}, "workflow": "sentiment"}
    commit(work, store.below("export/mobile-00000000"), facts)
    done = rayline("infer", "quickstart", "texts.jsonl", "--storage", str(tmp_path))
    assert done.returncode == 3
    assert "mobile: neither an artifact's path nor a step" in done.stderr
    done = rayline("infer", "sentiment", "texts.jsonl", "--storage", str(tmp_path))
    assert "texts.jsonl" in done.stderr  # found, so that its input is looked for


def test_only_a_workflow_that_is_sent_along_can_be_submitted(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("")
    done = rayline("submit", str(mine))
    assert done.returncode == 2
    assert "expected a workflow of workflows/" in done.stderr


def test_a_wrong_value_says_which_and_why(tmp_path: Path) -> None:
    done = rayline("plan", "quickstart", "pretrain.optimise.steps=0", "--storage", str(tmp_path))
    assert done.returncode == 2
    assert "optimise.steps=0" in done.stderr
    assert "greater than or equal to 1" in done.stderr


def test_a_missing_raw_file_is_named_before_anything_starts(tmp_path: Path) -> None:
    done = rayline(
        "run", "sentiment", "reviews=absent.jsonl", "text=absent.jsonl", "held_out=absent.jsonl",
        "--storage", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 4
    assert "absent.jsonl" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_workflow_names_the_nearest_one() -> None:
    done = rayline("plan", "quikstart")
    assert done.returncode == 2
    assert "did you mean quickstart?" in done.stderr


def test_a_missing_argument_is_a_usage_error() -> None:
    done = rayline("run")
    assert done.returncode == 2
    assert "rayline:" in done.stderr
    assert "Traceback" not in done.stderr


def test_plan_of_a_fresh_store_runs_everything(tmp_path: Path) -> None:
    done = rayline("plan", "quickstart", "--json", "--storage", str(tmp_path))
    steps = json.loads(done.stdout)
    assert {step["action"] for step in steps} == {"RUN"}
    assert steps[0] == {"step": "docs", "action": "RUN", "reason": "not made yet"}
    assert steps[1]["reason"] == "its input docs runs"


def test_a_sweep_says_how_many_points_it_has_before_it_starts_any(tmp_path: Path) -> None:
    grid = ["pretrain.optimise.learning_rate=1e-3,5e-4", "pretrain.optimise.batch_rows=16,32,64"]
    done = rayline("sweep", "quickstart", *grid, "--plan", "--storage", str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0] == "6 points, 6 to run:"
    assert lines[1].startswith(
        "  pretrain.optimise.learning_rate=1e-3  pretrain.optimise.batch_rows=16: "
    )
    assert lines[2].startswith("    pretrain: 1.55 M parameters, at most 1.23 M tokens")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_point_of_a_sweep_is_refused_before_any_starts(tmp_path: Path) -> None:
    grid = "pretrain.optimise.batch_rows=16,0"
    done = rayline("sweep", "quickstart", grid, "--storage", str(tmp_path))
    assert done.returncode == 2
    assert "optimise.batch_rows=0" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_plan_tells_what_each_training_will_cost(tmp_path: Path) -> None:
    done = rayline("plan", "quickstart", "--storage", str(tmp_path))
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("pretrain: ")]
    assert "parameters, at most" in line
    assert line.endswith("time not known before a first training in this store")
    assert "\nfinetune: " in done.stdout  # whose shape is that of the model it starts from


def test_schema_prints_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["schema", "serve"])
    assert json.loads(capsys.readouterr().out)["properties"]["port"]["maximum"] == 65535


def test_placement_is_not_a_setting_of_any_step() -> None:
    done = rayline("plan", "quickstart", "workers=3")
    assert done.returncode == 2
    assert "unknown setting or step workers" in done.stderr


def test_no_cluster_at_the_address_is_a_clear_error(tmp_path: Path) -> None:
    where = ["--address", "127.0.0.1:1", "--storage", str(tmp_path)]
    done = rayline("run", "quickstart", *where)
    assert done.returncode == 2
    assert "no Ray cluster answers at 127.0.0.1:1" in done.stderr
    assert "ray start --head" in done.stderr
    assert "Traceback" not in done.stderr
