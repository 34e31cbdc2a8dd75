"""What is known of an input, the speed a store has seen, and how a prediction is told."""

from collections.abc import Callable
from types import ModuleType

import pytest

from pipelines.core import predict
from pipelines.core.artifact import Artifact
from pipelines.core.plan import plan
from pipelines.core.predict import Book, Facts, Prediction, Rate
from pipelines.core.storage import Store


def test_facts_are_found_of_steps_to_come_and_of_artifacts_alike(
    fake: ModuleType, tmp_path: pytest.TempPathFactory
) -> None:
    flow, store = fake.flow(), Store.at(str(tmp_path))
    before = Book(store, {step.name: step for step in plan(flow, store)})
    pending = before["@joined"]
    assert pending is not None
    assert (pending.stage, pending.counts, pending.inputs) == ("fake", {}, {"corpus": "@words"})
    made = fake.run_flow(flow, str(tmp_path))
    after = Book(store, {step.name: step for step in plan(flow, store)})
    assert after["@words"] == Facts.made(made["words"])
    joined = after["@joined"]
    assert joined is not None
    assert joined.config == pending.config
    found = after[joined.inputs["corpus"]]  # by its path in the store
    assert found is not None
    assert found.counts == {"words": 2}
    assert after["@nothing"] is None
    assert after["nothing"] is None
    assert after[made["words"].uri] == after["@words"]
    assert after["/nowhere/at/all"] is None


def test_speed_is_of_the_training_of_the_nearest_size_and_of_one_process(
    make_artifact: Callable[..., Artifact], tmp_path: pytest.TempPathFactory
) -> None:
    book = Book(Store.at(str(tmp_path)))
    assert book.rate(1000) is None
    sizes = {"small": (1_000, 8.0, 2.0), "large": (1_000_000, 90.0, 1.0)}
    for name, (size, speed, processes) in sizes.items():
        measured = {"flops_per_s": speed, "processes": processes}
        counts = {"parameters": size}
        facts = {"counts": counts, "measured": measured, "name": name}
        make_artifact("Model", "train", {"model": name.encode()}, **facts)
    make_artifact("Model", "train", {"model": b""}, name="old", counts={"parameters": 40_000})
    assert book.rate(20_000) == Rate(4.0, "small")
    assert book.rate(40_000) == Rate(90.0, "large")


def test_a_prediction_says_what_it_does_not_know() -> None:
    found = Prediction(1_500_000, 4_900_000, 3.6e13, 0.62e9, 2, most=True)
    assert predict.told("pretrain", found, None) == (
        "pretrain: 1.5 M parameters, at most 4.9 M tokens, 36 TFLOP, about 620 MB a worker, "
        "time not known before a first training in this store"
    )
    assert found.seconds(None) is None
    rate = Rate(5e10, "earlier")
    assert found.seconds(rate) == 360
    assert predict.told("pretrain", found, rate).endswith(
        "about 6 min at 100 GFLOP/s (as earlier had)"
    )
    assert predict.compared("pretrain", 360.0, 450.0) == (
        "pretrain: predicted 6 min, took 7.5 min (1.25 times)"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5 s"), (119, "119 s"), (7199, "120 min"), (7200, "2 h"), (2.5 * 86400, "2.5 days")],
)
def test_durations_are_in_the_unit_a_person_would_use(seconds: float, text: str) -> None:
    assert predict.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (999, "999"), (1000, "1 k"), (2.5e10, "25 G"), (3e25, "30 Y")]
)
def test_amounts_have_at_most_three_digits(value: float, text: str) -> None:
    assert predict.amount(value) == text
