"""Classification figures against scikit-learn's and against hand-worked ones."""

import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from pipelines.tasks import metrics
from pipelines.tasks.metrics import classification_report, intervals

LABELS = ["ant", "bee", "cat", "dog"]


def drawn(rows: int, seed: int) -> tuple[list[str], list[str]]:
    """Truth, and predictions that are right about half the time; `dog` is never predicted."""
    random = np.random.default_rng(seed)
    truth = [LABELS[n] for n in random.integers(4, size=rows)]
    guess = [LABELS[n] for n in random.integers(3, size=rows)]
    keep = random.random(rows) < 0.5
    pairs = zip(truth, guess, keep, strict=True)
    return truth, [a if kept and a != "dog" else b for a, b, kept in pairs]


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_averages_are_scikit_learns(average: str) -> None:
    truth, predicted = drawn(200, 1)
    report = classification_report(truth, predicted, LABELS, resamples=10, seed=0)
    expected = precision_recall_fscore_support(
        truth, predicted, labels=LABELS, average=average, zero_division=0
    )
    found = [report[name][average] for name in ("precision", "recall", "f1")]
    assert found == pytest.approx(list(expected[:3]))
    assert report["accuracy"] == accuracy_score(truth, predicted)


def test_classes_and_confusion_are_scikit_learns() -> None:
    truth, predicted = drawn(200, 2)
    report = classification_report(truth, predicted, LABELS, resamples=10, seed=0)
    expected = precision_recall_fscore_support(truth, predicted, labels=LABELS, zero_division=0)
    for place, label in enumerate(LABELS):
        names = ("precision", "recall", "f1", "rows")
        found = [report["per_class"][label][name] for name in names]
        assert found == pytest.approx([column[place] for column in expected])
    assert report["confusion"] == confusion_matrix(truth, predicted, labels=LABELS).tolist()


def test_the_interval_has_the_binomials_width() -> None:
    truth = ["ant"] * 400
    predicted = ["ant"] * 320 + ["bee"] * 80
    report = classification_report(truth, predicted, ["ant", "bee"], resamples=4000, seed=0)
    low, high = report["intervals"]["accuracy"]
    # 0.8 +- 1.96 * sqrt(0.8 * 0.2 / 400); 4,000 resamples blur a quantile by about 0.002.
    assert (low, high) == pytest.approx((0.7608, 0.8392), abs=0.005)


@pytest.mark.parametrize("cells", [1, 7 * 9, 40 * 9])
def test_blocks_of_resamples_change_no_digit(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predicted = np.arange(100) % 3, (np.arange(100) // 2) % 3
    whole = intervals(truth, predicted, 3, 50, 1)
    monkeypatch.setattr(metrics, "CELLS", cells)  # blocks of 1, 7 and 40 resamples
    assert intervals(truth, predicted, 3, 50, 1) == whole


def test_many_labels_take_little_memory() -> None:
    labels = 600  # 200 resamples at once would be 576 MB
    truth = np.arange(1200) % labels
    tracemalloc.start()
    intervals(truth, truth, labels, 200, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.2 * 8 * metrics.CELLS  # a block is drawn before the last one is let go


def test_the_same_seed_gives_the_same_interval_and_another_does_not() -> None:
    truth, predicted = np.arange(100) % 3, (np.arange(100) // 2) % 3
    first, again, other = (intervals(truth, predicted, 3, 50, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
