"""The quantised Model loads, and its figures of before and after are those of the files."""

import pytest

from pipelines.compress.config import CompressConfig, Quantize
from pipelines.compress.quantize import quantize
from pipelines.compress.stage import make
from pipelines.core.artifact import commit
from pipelines.core.storage import Store
from pipelines.engines.predictor import load

ROWS = [(f"a {row} b", ("no", "yes")[row % 2], "test") for row in range(40)]


@pytest.mark.ray
def test_a_model_is_quantised_and_measured(
    ray_local, tiny_classifier, make_corpus, step_for, tmp_path
):
    config = CompressConfig(model="@m", data="@d", method=Quantize(), judge_rows=30)
    step = step_for(config, {"model": tiny_classifier, "data": make_corpus(ROWS)})
    outcome = make(config, step)
    facts = {"kind": "Model", "stage": "compress", "name": "int8", "fingerprint": "0" * 64}
    target = Store.at(str(tmp_path / "made"))
    model = commit(step.out, target, facts | {"identity": {}, "inputs": {}})

    before = load(tiny_classifier.local())
    metrics, measured = outcome.metrics, outcome.measured
    assert metrics["parameters"] == metrics["teacher_parameters"]
    assert metrics["parameters"] == sum(
        weight.numel() for weight in before.engine.model.parameters()
    )
    assert metrics["size_mb"] < metrics["teacher_size_mb"]
    assert 0.9 <= metrics["agreement"] <= 1
    assert 0 < metrics["max_weight_error"] <= 0.5 / 127 + 1e-6
    assert measured["speedup"] == measured["teacher_latency_ms"] / measured["latency_ms"]
    quantize(tiny_classifier.local(), tmp_path / "expected")
    for file in (tmp_path / "expected").iterdir():
        assert model.read(file.name) == file.read_bytes()
