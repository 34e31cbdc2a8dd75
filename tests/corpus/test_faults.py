"""Three corpora whose workers and drivers are killed at random; the benchmark does a hundred."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "corpus_faults.py"


@pytest.mark.ray
@pytest.mark.slow
def test_killed_runs_end_with_the_same_bytes(standard_docs, tmp_path):
    spec = importlib.util.spec_from_file_location("corpus_faults", SCRIPT)
    faults = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(faults)
    raw = tmp_path / "raw"
    raw.mkdir()
    texts = standard_docs[:1500]
    rows = [json.dumps({"text": text}) for text in [*texts, *texts[::10]]]  # a tenth of them twice
    (raw / "docs.jsonl").write_text("\n".join(rows))
    calm, runs = faults.trial(raw, tmp_path, 3, seed=1)
    assert calm.balanced
    assert {run.digest for run in runs} == {calm.digest}
    assert all(run.balanced for run in runs)
    assert sum(run.drivers + run.workers for run in runs) > 0
