"""A grid as ordinary workflows: what is shared is made once, what fails ranks last."""

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import cli
from pipelines.core import cluster, sweep
from pipelines.core import run as running
from pipelines.core.artifact import Artifact
from pipelines.core.config import Placement
from pipelines.core.errors import ConfigError, DataError, StorageError
from pipelines.core.storage import Store
from pipelines.core.sweep import Point, Score

WORKFLOW = '''
import sys
from types import SimpleNamespace
from pipelines.core.config import Config

class Settings(Config):
    """None but one."""
    sign: str = " "

fake = SimpleNamespace(**sys.modules["pipelines.fake.stage"].make.__globals__)

def build(settings):
    flow = fake.flow(separator=settings.sign)
    flow.add("again", fake.JoinConfig(corpus="@words", separator="!"))
    flow.compare({"one": "@again"})
    return flow
'''


@pytest.fixture
def workflow(tmp_path: Path, fake: ModuleType) -> str:
    """A workflow file: words -> joined, words -> again."""
    file = tmp_path / "flow.py"
    file.write_text(WORKFLOW)
    return str(file)


def values(found: list[Point]) -> list[dict[str, str]]:
    return [dict(point.values) for point in found]


def test_points_may_differ_in_the_files_or_the_artifact_alone(
    workflow: str, tmp_path: Path
) -> None:
    paths = [tmp_path / "one" / "x", tmp_path / "two" / "x", tmp_path / "copy" / "x"]
    for path, text in zip(paths, ("a", "b", "a"), strict=True):
        path.parent.mkdir()
        path.write_text(text)
    one, two, copy = map(str, paths)
    assert len(sweep.points(workflow, [f"words.raw={one},{two}"], None, "joined")) == 2
    with pytest.raises(ConfigError, match="are the same up to the last step"):
        sweep.points(workflow, [f"words.raw={one},{copy}"], None, "joined")
    assert len(sweep.points(workflow, ["joined.corpus=runs/a,runs/b"], None, "joined")) == 2


def test_a_grid_is_every_combination_in_the_order_given(workflow: str) -> None:
    settings = ["joined.separator=x,y", "words.words=[a,b],[c]"]
    found = sweep.points(workflow, settings, None, "joined")
    assert values(found) == [
        {"joined.separator": "x", "words.words": "[a,b]"},
        {"joined.separator": "x", "words.words": "[c]"},
        {"joined.separator": "y", "words.words": "[a,b]"},
        {"joined.separator": "y", "words.words": "[c]"},
    ]
    assert found[2].flow.steps["joined"].separator == "y"
    assert found[2].flow.steps["words"].words == ("a", "b")


def test_a_point_ends_with_its_last_step_and_has_none_that_it_is_not_made_from(
    workflow: str,
) -> None:
    by_key = sweep.points(workflow, ["joined.separator=x,y"], None, None)
    assert list(by_key[0].flow.steps) == ["words", "joined"]
    named = sweep.points(workflow, ["words.words=[a],[b]"], None, "again")
    assert list(named[0].flow.steps) == ["words", "again"]


@pytest.mark.parametrize(
    ("settings", "until", "message"),
    [
        (["joined.separator=x"], None, "nothing to sweep"),
        (["joined.separator=x,,y"], None, "a value is empty"),
        (["joined.separatr=x,y"], None, "did you mean separator"),
        (["joind.separator=x,y"], None, "did you mean joined"),
        (["joined.separator=x,y"], "joind", "no such step; did you mean joined"),
        (["joined.separator=x,x"], None, "are the same up to the last step"),
        (["joined.separator=x,y"], "words", "are the same up to the last step"),
        (["sign=x,y"], None, "add --until STEP"),
        (["joined.separator"], None, "expected key=value"),
        ([f"joined.separator={','.join(map(str, range(501)))}"], None, "501 combinations"),
    ],
)
def test_a_grid_that_cannot_be_meant_is_refused_before_anything_starts(
    workflow: str, settings: list[str], until: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep.points(workflow, settings, None, until)


def test_what_points_share_is_made_once_and_a_second_sweep_makes_nothing(
    workflow: str, fake: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "journal"
    monkeypatch.setenv("FAKE_JOURNAL", str(journal))
    found = sweep.points(workflow, ["joined.separator=x,y,z"], None, None)

    def execute(point: Point) -> dict[str, Artifact]:
        return fake.run_flow(point.flow, str(tmp_path / "store"))

    first = sweep.run(found, "accuracy", execute)
    assert journal.read_text().split() == ["words", "joined", "joined", "joined"]
    assert [score.value for score in first] == [0.5, 0.5, 0.5]
    assert len({score.uri for score in first}) == 3
    assert sweep.run(found, "accuracy", execute) == first
    assert len(journal.read_text().split()) == 4


def test_a_point_that_fails_leaves_the_others_and_says_why(
    workflow: str, fake: ModuleType, tmp_path: Path
) -> None:
    found = sweep.points(workflow, ["joined.separator=x,y"], None, None)

    def execute(point: Point) -> dict[str, Artifact]:
        if point.values["joined.separator"] == "x":
            raise DataError("loss nan\nin step 3")
        return fake.run_flow(point.flow, str(tmp_path))

    scores = sweep.ranked(sweep.run(found, "accuracy", execute), "accuracy")
    assert [score.value for score in scores] == [0.5, None]
    shown = sweep.render(scores, "accuracy").splitlines()
    assert shown[0].split() == ["joined.separator", "accuracy", "seconds", "path"]
    assert shown[-1].split() == ["x", "-", "-", "loss", "nan"]


def test_a_storage_that_is_gone_ends_the_sweep(workflow: str) -> None:
    found = sweep.points(workflow, ["joined.separator=x,y"], None, None)

    def execute(point: Point) -> dict[str, Artifact]:
        raise StorageError("gone")

    with pytest.raises(StorageError, match="gone"):
        sweep.run(found, "accuracy", execute)


def test_a_metric_that_no_point_has_names_those_there_are(
    workflow: str, fake: ModuleType, tmp_path: Path
) -> None:
    found = sweep.points(workflow, ["joined.separator=x,y"], None, None)
    with pytest.raises(ConfigError, match="--by acuracy: no point has it; did you mean accuracy"):
        sweep.run(found, "acuracy", lambda point: fake.run_flow(point.flow, str(tmp_path)))


def test_a_metric_that_is_not_finite_is_missing(make_artifact: Callable[..., Artifact]) -> None:
    point = Point({"a": "1"}, sweep.Workflow("none"))
    made = make_artifact("Report", "evaluate", {"r": b""}, metrics={"loss": math.nan})
    (score,) = sweep.run([point], "loss", lambda _: {"step": made})
    assert score.value is None
    assert score.error == "no finite loss"


@given(st.lists(st.none() | st.floats(-1e9, 1e9), min_size=1))
def test_missing_ranks_worst_whichever_way_is_best(found: list[float | None]) -> None:
    scores = [Score({"at": str(at)}, value) for at, value in enumerate(found)]
    there = sorted(value for value in found if value is not None)
    gone = [None] * found.count(None)
    low = [score.value for score in sweep.ranked(scores, "validation_loss")]
    assert low == [*there, *gone]
    high = [score.value for score in sweep.ranked(scores, "accuracy")]
    assert high == [*reversed(there), *gone]
    assert [s.value for s in sweep.ranked(scores, "accuracy", highest=False)] == low


def test_the_table_is_kept_in_the_store(tmp_path: Path) -> None:
    scores = [Score({"a.rate": "1e-3", "b": "2"}, 0.25, 3.0, "there"), Score({"a.rate": "9"}, None)]
    place = sweep.keep(scores, "loss", "flow", Store.at(str(tmp_path)))
    assert place == f"{tmp_path}/sweeps/flow-rate-b.json"
    rows = json.loads(Path(place).read_text())
    assert [row["value"] for row in rows] == [0.25, None]
    assert rows[0] | {"error": ""} == {
        "values": {"a.rate": "1e-3", "b": "2"},
        "value": 0.25,
        "seconds": 3.0,
        "uri": "there",
        "error": "",
        "metric": "loss",
    }


def test_a_sweep_is_one_table_on_the_terminal_and_one_parent_run_in_mlflow(
    workflow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    import mlflow

    opened = []

    @contextlib.contextmanager
    def session(placement: Placement) -> Iterator[None]:
        opened.append(placement.storage)
        yield

    monkeypatch.setattr(cluster, "session", session)
    storage = str(tmp_path / "store")
    line = ["sweep", workflow, "joined.separator=x,y", "--by", "accuracy", "--storage", storage]
    cli.main(line)
    told = capsys.readouterr()
    assert told.out.count(f"{storage}/fake/joined-") == 2
    assert f"the same as JSON: {storage}/sweeps/fake-separator.json" in told.out
    assert told.err.startswith("2 points, 2 to run:\n  joined.separator=x: 2 steps run\n")
    assert opened
    mlflow.set_tracking_uri(f"sqlite:///{storage}/mlflow.db")
    client = mlflow.MlflowClient()
    (experiment,) = [e for e in client.search_experiments() if e.name == "fake"]
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert sorted(run.info.run_name for run in runs) == ["fake", "joined", "joined", "words"]
    assert len(parents) == 1
    cli.main([*line, "--json"])
    again = capsys.readouterr()
    assert again.err.startswith("2 points, 0 to run:")
    assert [row["value"] for row in json.loads(again.out)] == [0.5, 0.5]


def test_a_sweep_in_which_every_point_failed_exits_as_bad_data(
    workflow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise DataError("loss nan")

    monkeypatch.setattr(running, "run", fails)
    line = ["sweep", workflow, "joined.separator=x,y", "--storage", str(tmp_path / "store")]
    with pytest.raises(SystemExit) as stop:
        cli.main(line)
    assert stop.value.code == 4
    assert "no point has a loss: loss nan" in capsys.readouterr().err
