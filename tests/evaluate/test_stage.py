"""Reports hold scikit-learn's figures for the model's own predictions, row by row, every time."""

import io
import json
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sklearn

from pipelines.core.cluster import spread
from pipelines.core.errors import ArtifactError, DataError
from pipelines.engines.predictor import load
from pipelines.evaluate import stage
from pipelines.evaluate.config import EvaluateConfig, TfidfLinear

ROWS = [
    (
        f"{'abcdefghij'[row % 10]} {row}",
        ("no", "yes")[row % 3 == 0],
        ("test", "train")[row % 5 == 0],
    )
    for row in range(700)
]
TEST = [row for row in ROWS if row[2] == "test"]


def table(step):
    return pq.read_table(io.BytesIO(step.out.read("predictions.parquet"))).to_pydict()


@pytest.mark.ray
def test_a_models_report(ray_local, tiny_classifier, make_corpus, step_for):
    config = EvaluateConfig(model="@m", data="@d", resamples=50)
    inputs = {"model": tiny_classifier, "data": make_corpus(ROWS)}
    step = step_for(config, inputs)
    outcome = stage.make(config, step)
    assert outcome.measured["rows_per_s"] > 0
    found, truth = table(step), [label for _, label, _ in TEST]
    expected = load(tiny_classifier.local()).predict([text for text, _, _ in TEST])
    assert found["truth"] == truth
    assert found["label"] == [one.label for one in expected]
    assert found["score"] == pytest.approx([one.score for one in expected], abs=1e-5)
    report = json.loads(step.out.read("report.json"))
    assert report["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, found["label"]))
    macro = sklearn.f1_score(truth, found["label"], average="macro")
    assert outcome.metrics["f1_macro"] == pytest.approx(macro)
    assert outcome.metrics["accuracy_low"] <= report["accuracy"] <= outcome.metrics["accuracy_high"]
    assert outcome.counts == {"rows": len(TEST)}
    size = (tiny_classifier.local() / "model.safetensors").stat().st_size
    assert outcome.measured["size_mb"] == size / 1e6
    assert outcome.measured["latency_ms"] > 0

    # A second try finds one chunk done: it is used as it is, and the bytes are the same.
    again = step_for(config, inputs, name="again")
    again.out.write(".scored/00001.parquet", step.out.read(".scored/00001.parquet"))
    stage.make(config, again)
    for name in ("predictions.parquet", "report.json"):
        assert again.out.read(name) == step.out.read(name)
    # A third finds all done, so it has no rate to tell.
    assert "rows_per_s" not in stage.make(config, again).measured


@pytest.mark.ray
def test_a_class_that_no_row_has_and_none_is_given_does_not_count(
    ray_local, tiny_classifier, make_corpus, step_for
):
    predictor = load(tiny_classifier.local())
    texts = [text for text, _, _ in ROWS if predictor.predict([text])[0].label == "no"][:20]
    data = make_corpus([(text, "no", "test") for text in texts])
    config = EvaluateConfig(model="@m", data="@d", resamples=20)
    step = step_for(config, {"model": tiny_classifier, "data": data})
    outcome = stage.make(config, step)
    truth, found = ["no"] * len(texts), table(step)["label"]
    assert found == truth
    # scikit-learn's default is the union of the labels in truth and predictions.
    assert outcome.metrics["f1_macro"] == sklearn.f1_score(truth, found, average="macro") == 1
    assert outcome.metrics["f1_macro_low"] == 1


@pytest.mark.ray
def test_an_error_of_ours_comes_back_from_a_worker_in_words(ray_local, tiny_classifier, step_for):
    config = EvaluateConfig(model="@m", data="@d")
    orphan = step_for(config, {}).out
    orphan.write(".rows/00000.parquet", stage._parquet(pa.table({"text": ["a"]})))
    step_for(config, {})
    with pytest.raises(ArtifactError, match="another run has taken this step over") as caught:
        list(spread(partial(stage._chunk, tiny_classifier, orphan), [0]))
    assert "ray::" not in str(caught.value)


@pytest.mark.ray
def test_a_label_the_model_does_not_know_is_an_error(
    ray_local, tiny_classifier, make_corpus, step_for
):
    config = EvaluateConfig(model="@m", data="@d")
    corpus = make_corpus([*ROWS, ("a", "maybe", "test")])
    with pytest.raises(DataError, match="maybe"):
        stage.make(config, step_for(config, {"model": tiny_classifier, "data": corpus}))


def test_a_baseline_learns_from_one_split_and_is_judged_on_the_other(make_corpus, step_for):
    train = [
        (f"{word} {row}", label, "train")
        for row in range(9)
        for word, label in (("good", "p"), ("bad", "n"))
    ]
    judged = [("good indeed", "p", "test"), ("bad luck", "n", "test"), ("bad", "p", "test")]
    config = EvaluateConfig(baseline=TfidfLinear(), data="@d", resamples=20)
    step = step_for(config, {"data": make_corpus([*judged, *train])})
    outcome = stage.make(config, step)
    assert table(step)["label"] == ["p", "n", "n"]
    assert table(step)["id"] == ["made.jsonl:0", "made.jsonl:1", "made.jsonl:2"]
    assert outcome.metrics["accuracy"] == pytest.approx(2 / 3)


def test_a_row_without_a_label_is_an_error(make_corpus, step_for):
    config = EvaluateConfig(baseline=TfidfLinear(), data="@d")
    step = step_for(config, {"data": make_corpus([("a", None, "test"), ("b", "no", "train")])})
    with pytest.raises(DataError, match=r"made\.jsonl:0"):
        stage.make(config, step)
