"""The same files and settings give the same corpus, byte for byte, on a disk and on a bucket."""

import gzip
import json
from itertools import islice

import pytest

from pipelines.core import cluster
from pipelines.core.config import Placement
from pipelines.core.run import run
from pipelines.core.storage import Store
from pipelines.core.workflow import Workflow
from pipelines.corpus.config import CorpusConfig
from pipelines.corpus.sources import Files

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def made(raw: str, storage: str):
    flow = Workflow("same")
    sources = (Files(paths=(raw,)),)
    flow.add("docs", CorpusConfig(sources=sources, min_words=5, holdout=0.2, shard_docs=100))
    return run(flow, Placement(storage=storage, cpus=2), [], session=cluster.session)["docs"]


def test_a_disk_and_a_bucket_give_the_same_bytes(bucket, shared_data, tmp_path):
    with gzip.open(shared_data / "pretrain/en_web_ewt.jsonl.gz") as lines:
        rows = [json.loads(line)["text"] for line in islice(lines, 150)]
    data = "".join(json.dumps({"text": text}) + "\n" for text in [*rows, *rows[:20]]).encode()
    bad = b"{not json\n" + data[:1000]
    Store.at(str(tmp_path)).write("raw/a.jsonl", data)
    Store.at(str(tmp_path)).write("raw/b.jsonl", bad)
    Store.at(f"{bucket}/corpus").write("raw/a.jsonl", data)
    Store.at(f"{bucket}/corpus").write("raw/b.jsonl", bad)
    here = made(f"{tmp_path}/raw/*.jsonl", str(tmp_path / "runs"))
    there = made(f"{bucket}/corpus/raw/*.jsonl", f"{bucket}/corpus/runs")
    assert here.manifest.counts["merged"] >= 5
    assert here.manifest.counts["quarantined"] == 2
    assert there.manifest.files == here.manifest.files
    assert there.digest == here.digest
    assert there.read("report.html") == here.read("report.html")
