"""Three trainings whose workers and drivers are killed at random; the benchmark does twenty."""

import importlib
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_trainings_end_with_the_same_weights(
    standard_docs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    faults = importlib.import_module("train_faults")
    faults.sample(standard_docs[: faults.DOCUMENTS], tmp_path)
    calm, *runs = faults.trial(tmp_path, range(3), seed=1, size="200 20")
    assert {run.digest for run in runs} == {calm.digest}
    assert sum(run.drivers_killed + run.workers_killed for run in runs) > 0
