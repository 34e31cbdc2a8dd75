"""Bulk inference on Ray: order, exactly once, the same bytes after a kill."""

import dataclasses
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.artifact import Workspace
from pipelines.core.config import Placement
from pipelines.core.errors import ArtifactError, DataError
from pipelines.core.storage import Store
from pipelines.core.workflow import Step
from pipelines.engines.predictor import load
from pipelines.infer import shards, stage
from pipelines.infer.config import InferConfig

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


def texts(number):
    return [f"a{k:03d} {'bcdefgh'[: k % 7]}" for k in range(number)]


@pytest.fixture
def files(tmp_path):
    """Three raw files of 60 rows in all, among them one of each kind of bad row."""
    good = [json.dumps({"text": text}) for text in texts(56)]
    bad = ["{broken", '{"other": 1}', '{"text": 7}', '{"text": " "}']
    lines = [*good[:10], *bad, *good[10:]]
    (tmp_path / "a.jsonl").write_text("\n".join(lines[:40]))
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write("\n".join(lines[40:55]))
    pq.write_table(pa.table({"text": texts(56)[-5:]}), tmp_path / "c.parquet")
    return tuple(str(tmp_path / name) for name in ("a.jsonl", "b.jsonl.gz", "c.parquet"))


def written(step):
    """The committed files of a step, by name."""
    names = [name for name in step.out.names() if not name.startswith(".")]
    return {name: step.out.read(name) for name in names}


def rows(step):
    return [row for data in written(step).values() for row in shards.decode(data).to_pylist()]


def test_files_become_one_row_each_in_input_order(tiny_classifier, files, step_for):
    config = InferConfig(model="@m", files=files, shard_rows=25)
    step = step_for(config, {"model": tiny_classifier})
    points = []
    outcome = stage.make(config, dataclasses.replace(step, report=points.append))
    assert outcome.counts == {"rows": 60, "errors": 4, "shards": 3}
    assert outcome.measured["rows_per_s"] > 0
    assert points[-1]["rows"] == 60
    assert sorted(written(step)) == [
        "part-00000.parquet",
        "part-00001.parquet",
        "part-00002.parquet",
    ]
    found = rows(step)
    assert [row["row"] for row in found] == [*range(60)]
    assert found[0]["id"] == "a.jsonl:0"
    assert found[59]["id"] == "c.parquet:4"
    assert [row["row"] for row in found if row["error"]] == [10, 11, 12, 13]
    assert all((row["label"] is None) == (row["error"] is not None) for row in found)
    expected = load(tiny_classifier.local()).predict(texts(56))
    good = [row for row in found if not row["error"]]
    assert [row["text"] for row in good] == texts(56)
    assert [row["label"] for row in good] == [one.label for one in expected]
    # Batches of a shard hold other rows than a batch of all: sums may be taken in another order.
    assert [row["score"] for row in good] == pytest.approx(
        [one.score for one in expected], abs=1e-5
    )


def test_a_corpus_split_keeps_its_ids(tiny_classifier, make_artifact, step_for):
    sink = pa.BufferOutputStream()
    ids = [f"c:{k}" for k in range(9)]
    splits = ["test" if k % 3 == 0 else "train" for k in range(9)]
    pq.write_table(pa.table({"id": ids, "text": texts(9), "split": splits}), sink)
    data = sink.getvalue().to_pybytes()
    corpus = make_artifact(
        "Corpus", "corpus", {"data/part-00000.parquet": data, "report.json": b""}
    )
    config = InferConfig(model="@m", data="@c", split="test", shard_rows=2)
    step = step_for(config, {"model": tiny_classifier, "data": corpus})
    assert stage.make(config, step).counts == {"rows": 3, "errors": 0, "shards": 2}
    assert [row["id"] for row in rows(step)] == ["c:0", "c:3", "c:6"]


def test_no_row_is_an_error_that_names_the_split(tiny_classifier, make_artifact, step_for):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": ["a"], "text": ["a"], "split": ["train"]}), sink)
    data = sink.getvalue().to_pybytes()
    corpus = make_artifact("Corpus", "corpus", {"data/part-00000.parquet": data})
    config = InferConfig(model="@m", data="@c", split="tset")
    with pytest.raises(DataError, match="no row in @c, split 'tset'"):
        stage.make(config, step_for(config, {"model": tiny_classifier, "data": corpus}))


def test_a_shard_that_is_there_is_not_predicted_again(tiny_classifier, files, step_for):
    config = InferConfig(model="@m", files=files, shard_rows=25)
    step = step_for(config, {"model": tiny_classifier})
    stage.make(config, step)
    whole = written(step)
    kept = Path(step.out.store.locate("part-00000.parquet"))
    before = kept.stat().st_mtime_ns
    Path(step.out.store.locate("part-00002.parquet")).unlink()
    again = step_for(config, {"model": tiny_classifier})
    assert stage.make(config, again).counts == {"rows": 60, "errors": 4, "shards": 3}
    assert written(again) == whole
    assert kept.stat().st_mtime_ns == before


def test_a_worker_of_a_driver_that_was_replaced_cannot_write(tiny_classifier, files, step_for):
    config = InferConfig(model="@m", files=files, shard_rows=25)
    orphan = step_for(config, {"model": tiny_classifier})
    step_for(config, {"model": tiny_classifier})
    with pytest.raises(ArtifactError, match="another run has taken this step over"):
        stage.make(config, orphan)


def test_a_broken_model_is_named_without_a_trace(tiny_classifier, make_artifact, files, step_for):
    contents = {name: tiny_classifier.read(name) for name in tiny_classifier.files()}
    contents["model.safetensors"] = contents["model.safetensors"][:100]
    broken = make_artifact("Model", "train", contents)
    config = InferConfig(model="@m", files=files)
    with pytest.raises(ArtifactError, match=r"^[^\n]*model.safetensors: not a readable") as caught:
        stage.make(config, step_for(config, {"model": broken}))
    assert "Traceback" not in str(caught.value)


DRIVER = """
import json, sys
from pipelines.core import cluster
from pipelines.core.artifact import Workspace, open_artifact
from pipelines.core.config import Placement
from pipelines.core.storage import Store
from pipelines.core.workflow import Step
from pipelines.infer import stage
from pipelines.infer.config import InferConfig

model, work, *files = sys.argv[1:]
config = InferConfig(model=model, files=tuple(files), shard_rows=4)
placement = Placement(storage=work + "-store", cpus=1)
with cluster.session(placement):
    out = Workspace.take(Store.at(work))
    step = Step("s", {"model": open_artifact(model)}, out, placement, lambda facts: None)
    print(json.dumps(stage.make(config, step).counts))
"""


def test_kill_9_in_mid_run_and_again_gives_the_bytes_of_an_undisturbed_run(
    tiny_classifier, files, step_for, tmp_path
):
    config = InferConfig(model="@m", files=files, shard_rows=4)
    undisturbed = step_for(config, {"model": tiny_classifier})
    stage.make(config, undisturbed)
    work = tmp_path / "killed"
    command = [sys.executable, "-c", DRIVER, tiny_classifier.uri, str(work), *files]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    driver = subprocess.Popen(command, env=environment, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(work.glob("part-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    first = len(list(work.glob("part-*.parquet")))
    assert 0 < first < 15, "the kill came too early or too late to show anything"
    placement = Placement(storage=str(tmp_path))
    out = Workspace.take(Store.at(str(work)))
    step = Step("s", {"model": tiny_classifier}, out, placement, lambda facts: None)
    assert stage.make(config, step).counts == {"rows": 60, "errors": 4, "shards": 15}
    assert written(step) == written(undisturbed)
    assert [row["row"] for row in rows(step)] == [*range(60)]
