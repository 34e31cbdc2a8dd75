"""Runs recorded in a real MLflow database; the UI's own server is asked in the slow test."""

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import ClassVar

import pytest

from pipelines.core.config import Input, StageConfig
from pipelines.core.errors import ConfigError
from pipelines.core.storage import Store
from pipelines.core.tracking import FLUSH_POINTS, open_tracker, tracking_uri
from pipelines.core.workflow import Outcome, Workflow
from tests.ports import free_port


class TrainedConfig(StageConfig):
    stage: ClassVar[str] = "fake"
    makes: ClassVar[str] = "Model"

    corpus: str = Input("Corpus", description="learnt from")
    points: int = 120

    def act(self, step):
        step.out.write("weights", b"w")
        for number in range(self.points):
            step.report({"step": number, "loss": 5 - number / 100, "phase": "warm-up"})
        return Outcome(counts={"weights": 1}, measured={"tokens_per_s": 1000.5})


class PackedConfig(StageConfig):
    stage: ClassVar[str] = "fake"
    makes: ClassVar[str] = "Bundle"

    model: str = Input("Model", description="packed")
    bits: int = 8

    def act(self, step):
        step.out.write("model.onnx", f"{self.bits} bits".encode())
        return Outcome()


class JudgedConfig(StageConfig):
    stage: ClassVar[str] = "fake"
    makes: ClassVar[str] = "Report"

    model: str = Input("Model", "Bundle", description="judged")
    data: str = Input("Corpus", description="judged on")
    rows: int = 10

    accuracy: ClassVar[dict[bytes, float]] = {}  # of the model file, as if it were measured

    def act(self, step):
        model = step.inputs["model"]
        accuracy = self.accuracy[model.read(model.files()[0])]
        step.out.write("report.json", json.dumps(accuracy).encode())
        return Outcome(metrics={"accuracy": accuracy})


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """A migrated, empty database: 5 s of migrations, once."""
    import mlflow

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def storage(tmp_path, empty_database, monkeypatch) -> str:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return str(tmp_path)


@pytest.fixture
def line(fake, storage, monkeypatch):
    """Run corpus -> model -> bundle -> report, tracked; returns what was made."""
    stage = sys.modules["pipelines.fake.stage"]
    plain = stage.make
    monkeypatch.setattr(
        stage, "make", lambda config, step: getattr(config, "act", lambda s: plain(config, s))(step)
    )
    accuracy = {b"w": 0.7, b"8 bits": 0.8, b"4 bits": 0.9, b"2 bits": 0.6, b"16 bits": 0.9}
    monkeypatch.setattr(JudgedConfig, "accuracy", accuracy)

    def make(bits=8, rows=10, raw=None, points=120, place=storage):
        workflow = Workflow("line")
        corpus = workflow.add("docs", fake.WordsConfig(raw=raw))
        model = workflow.add("base", TrainedConfig(corpus=corpus, points=points))
        bundle = workflow.add("small", PackedConfig(model=model, bits=bits))
        workflow.add("judged", JudgedConfig(model=bundle, data=corpus, rows=rows))
        with open_tracker("line", place, {"docs": {"words": 2}}) as tracker:
            return fake.run_flow(workflow, place, tracker)

    return make


@pytest.fixture
def client(storage):
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{storage}/mlflow.db")


def runs(client):
    """Every run in order of its start, with its inputs."""
    experiment = client.get_experiment_by_name("line").experiment_id
    found = client.search_runs([experiment], order_by=["attributes.start_time ASC"])
    return [client.get_run(run.info.run_id) for run in found]


def run_of(client, step):
    return [run for run in runs(client) if run.info.run_name == step][-1]


def aliases(client):
    return {k: str(v) for k, v in client.get_registered_model("line-small").aliases.items()}


def test_one_parent_run_an_invocation_and_one_child_a_step(line, client):
    line()
    parent, *children = runs(client)
    assert parent.info.run_name == "line"
    assert [run.info.run_name for run in children] == ["docs", "base", "small", "judged"]
    for run in children:
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}


def test_lineage_links_data_by_digest_and_models_as_inputs_and_outputs(line, client, tmp_path):
    raw = tmp_path / "raw.txt"
    raw.write_text("three")
    made = line(raw=str(raw))

    def data(step):
        return {
            (entry.tags[0].value, entry.dataset.name, entry.dataset.digest)
            for entry in run_of(client, step).inputs.dataset_inputs
        }

    docs, judged = made["docs"].digest[:36], made["judged"].digest[:36]
    assert {entry[:2] for entry in data("docs")} == {("output", "docs"), ("raw", "docs-raw")}
    assert ("output", "docs", docs) in data("docs")
    assert data("base") == {("corpus", "docs", docs)}
    assert data("judged") == {("data", "docs", docs), ("output", "judged", judged)}

    (base,) = run_of(client, "base").outputs.model_outputs
    (small,) = run_of(client, "small").outputs.model_outputs
    assert [m.model_id for m in run_of(client, "small").inputs.model_inputs] == [base.model_id]
    assert [m.model_id for m in run_of(client, "judged").inputs.model_inputs] == [small.model_id]
    model = client.get_logged_model(base.model_id)
    assert model.name == "base"
    assert model.tags["rayline.uri"] == made["base"].uri
    assert model.tags["rayline.digest"] == made["base"].digest
    assert model.tags["rayline.fingerprint"] == made["base"].manifest.fingerprint


def test_figures_and_settings_are_recorded(line, client):
    line()
    base = run_of(client, "base")
    assert base.data.params == {"points": "120"}
    assert base.data.metrics["weights"] == 1
    assert base.data.metrics["tokens_per_s"] == 1000.5
    curve = client.get_metric_history(base.info.run_id, "loss")
    assert [(point.step, point.value) for point in curve] == [
        (number, 5 - number / 100) for number in range(120)
    ]
    names = {file.path for file in client.list_artifacts(base.info.run_id)}
    assert names == {"config.json", "artifact.json"}
    (small,) = run_of(client, "small").outputs.model_outputs
    found = client.search_logged_models(
        [base.info.experiment_id], "metrics.accuracy > 0.75 AND tags.`rayline.step` = 'small'"
    )
    assert [model.model_id for model in found] == [small.model_id]


def test_points_are_written_in_batches_while_the_step_runs(storage, client, fake):
    with (
        contextlib.suppress(KeyboardInterrupt),
        open_tracker("line", storage, {}) as tracker,
    ):
        tracker.started("base", fake.WordsConfig(), {})
        for number in range(FLUSH_POINTS + 5):
            tracker.progress("base", {"step": number, "loss": 1.0})
        run = run_of(client, "base").info.run_id
        written = len(client.get_metric_history(run, "loss"))
        assert FLUSH_POINTS <= written < FLUSH_POINTS + 5
        tracker.failed("base", KeyboardInterrupt())
        assert len(client.get_metric_history(run, "loss")) == FLUSH_POINTS + 5
        raise KeyboardInterrupt
    assert {run.info.status for run in runs(client)} == {"KILLED"}


def test_a_reused_step_has_no_run_but_names_its_producer(line, client):
    line()
    producer = run_of(client, "base").info.run_id
    line()
    assert len(runs(client)) == 5 + 1
    assert runs(client)[-1].data.tags["rayline.reused.base"] == producer


def test_lineage_spans_invocations(line, client):
    line()
    (base,) = run_of(client, "base").outputs.model_outputs
    line(bits=4)
    assert len([run for run in runs(client) if run.info.run_name == "base"]) == 1
    assert [m.model_id for m in run_of(client, "small").inputs.model_inputs] == [base.model_id]


def test_an_input_made_before_there_was_a_database_is_linked_too(line, client, storage):
    made = line()
    Path(storage, "mlflow.db").rename(Path(storage, "lost.db"))
    line(bits=4)
    (base,) = run_of(client, "small").inputs.model_inputs
    tags = client.get_logged_model(base.model_id).tags
    assert tags["rayline.digest"] == made["base"].digest


def test_a_failed_step_is_a_failed_run_with_its_reason(storage, client, fake):
    with (
        contextlib.suppress(ValueError),
        open_tracker("line", storage, {}) as tracker,
    ):
        tracker.started("base", fake.WordsConfig(), {})
        error = ValueError("loss is nan at step 7")
        tracker.failed("base", error)
        raise error
    parent, base = runs(client)
    assert (parent.info.status, base.info.status) == ("FAILED", "FAILED")
    assert base.data.tags["rayline.error"] == "ValueError: loss is nan at step 7"


def test_a_run_whose_cluster_does_not_start_has_failed(line, client, storage):
    made = line()
    with (
        contextlib.suppress(ConfigError),
        open_tracker("line", storage, {}) as tracker,
    ):
        tracker.reused("base", made["base"])
        raise ConfigError("no Ray could be started")
    assert runs(client)[-1].info.status == "FAILED"
    assert runs(client)[-1].data.tags["rayline.error"] == "ConfigError: no Ray could be started"


def test_a_bundle_is_registered_where_it_lies_and_the_best_is_champion(line, client):
    made = line(bits=8)["small"]
    version = client.get_model_version("line-small", "1")
    assert version.source == made.uri
    assert version.tags["rayline.digest"] == made.digest
    assert aliases(client) == {"candidate": "1", "champion": "1"}
    line(bits=2)  # worse
    assert aliases(client) == {"candidate": "2", "champion": "1"}
    line(bits=4)  # better
    assert aliases(client) == {"candidate": "3", "champion": "3", "previous": "1"}
    line(bits=16)  # as good: the newer one
    assert aliases(client) == {"candidate": "4", "champion": "4", "previous": "3"}
    line(bits=8, rows=99)  # judged in another way: not comparable
    assert aliases(client) == {"candidate": "4", "champion": "4", "previous": "3"}


def test_no_file_of_a_model_is_copied(line, storage):
    made = line()
    weights = made["base"].read("weights")
    copies = [p for p in Path(storage, "mlflow-artifacts").rglob("*") if p.is_file()]
    assert copies
    assert not [path for path in copies if path.read_bytes() == weights]


def test_a_run_never_dies_of_tracking(line, storage, caplog):
    Path(storage, "mlflow.db").write_bytes(b"this is no database" * 100)
    with caplog.at_level(logging.WARNING, "pipelines.core.tracking"):
        made = line()
    assert sorted(made) == ["base", "docs", "judged", "small"]
    (record,) = [r for r in caplog.records if r.name == "pipelines.core.tracking"]
    assert "not tracked" in record.getMessage()
    assert "MLFLOW_TRACKING_URI" in record.getMessage()


def test_a_server_that_is_down_costs_a_warning_and_seconds(line, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    began = time.monotonic()
    assert line()
    assert time.monotonic() - began < 60
    assert len([r for r in caplog.records if "not tracked" in r.getMessage()]) == 1


def test_where_runs_are_recorded(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(Store.at("/mnt/runs")) == "sqlite:////mnt/runs/mlflow.db"
    assert tracking_uri(Store.at("s3://bucket/runs")) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert tracking_uri(Store.at("/mnt/runs")) == "http://mlflow:5000"


@contextlib.contextmanager
def server(folder: str):
    """`mlflow server` on the database in `folder`, at a free port of loopback."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    with Path(folder, "server.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, Path(folder, "server.log").read_text()
                assert time.monotonic() < deadline, "mlflow server did not start in 120 s"
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def ask(url, body=None):
    request = urllib.request.Request(url, method="POST" if body else "GET")
    request.add_header("Content-Type", "application/json")
    data = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(request, data, timeout=60) as response:
        return json.loads(response.read())


@pytest.mark.slow
def test_the_ui_server_shows_the_lineage(line, storage):
    made = line()
    with server(storage) as url:
        api = f"{url}/api/2.0/mlflow"
        found = ask(f"{api}/runs/search", {"experiment_ids": ["1"], "max_results": 50})["runs"]
        ids = {run["info"]["run_name"]: run["info"]["run_id"] for run in found}
        small = ask(f"{api}/runs/get?run_id={ids['small']}")["run"]
        models = ask(f"{api}/logged-models/search", {"experiment_ids": ["1"]})["models"]
        champion = ask(f"{api}/registered-models/alias?name=line-small&alias=champion")
    digests = {
        model["info"]["model_id"]: tag["value"]
        for model in models
        for tag in model["info"]["tags"]
        if tag["key"] == "rayline.digest"
    }
    taken = [digests[entry["model_id"]] for entry in small["inputs"]["model_inputs"]]
    given = [digests[entry["model_id"]] for entry in small["outputs"]["model_outputs"]]
    assert taken == [made["base"].digest]
    assert given == [made["small"].digest]
    assert champion["model_version"]["source"] == made["small"].uri


@pytest.mark.slow
def test_a_server_records_the_same_and_refuses_no_local_bundle(
    line, storage, empty_database, tmp_path, monkeypatch
):
    import mlflow

    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    with server(str(folder)) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        made = line()
        client = mlflow.MlflowClient(url)
        version = client.get_model_version_by_alias("line-small", "champion")
        assert version.tags["rayline.uri"] == made["small"].uri
        assert version.source.startswith("models:/m-")
        assert len(runs(client)) == 5
