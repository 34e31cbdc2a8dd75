"""The quantised Model loads, and its figures of before and after are those of the files."""

import json

import pytest

from pipelines.compress.config import CompressConfig, Distill, Quantize
from pipelines.compress.quantize import quantize
from pipelines.compress.stage import check, make
from pipelines.core.artifact import commit
from pipelines.core.errors import ConfigError, DataError
from pipelines.core.storage import Store
from pipelines.engines.predictor import load
from pipelines.model.config import ModelConfig
from pipelines.train.config import Optimise

ROWS = [(f"a {row} b", ("no", "yes")[row % 2], "test") for row in range(40)]
STUDENT = ModelConfig(layers=1, width=16, heads=2, feedforward=32, max_length=64)


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


def distilling(student):
    method = Distill(student=student, optimise=Optimise(steps=1))
    return CompressConfig(model="@m", data="@d", method=method)


def test_an_empty_judge_split_is_found_before_a_student_is_learnt(
    tiny_classifier, make_corpus, step_for
):
    config = distilling(STUDENT)
    corpus = make_corpus([("a b", "no", "train"), ("c d", "yes", "train")])
    step = step_for(config, {"model": tiny_classifier, "data": corpus})
    with pytest.raises(DataError, match=r"no row in split 'test'.*corpus\.holdout"):
        make(config, step)  # needs no Ray, so nothing was started
    assert not [name for name in step.out.names() if name != ".epoch"]


def test_a_student_with_too_few_positions_is_refused(tiny_classifier, make_corpus):
    config = distilling(STUDENT.model_copy(update={"max_length": 16}))
    inputs = {"model": tiny_classifier, "data": make_corpus(ROWS)}
    with pytest.raises(ConfigError, match=r"max_length=16 is less than the 32 tokens a text"):
        check(config, inputs)


@pytest.mark.parametrize("method", [Quantize(), distilling(STUDENT).method])
def test_a_model_that_is_no_classifier_is_refused(method, make_artifact, make_corpus):
    facts = json.dumps({"task": {"kind": "masked-lm"}, "max_length": 32}).encode()
    model = make_artifact("Model", "train", {"rayline.json": facts})
    config = CompressConfig(model="@m", data="@d", method=method)
    with pytest.raises(ConfigError, match=r"does masked-lm; expected a classify Model"):
        check(config, {"model": model, "data": make_corpus(ROWS)})
