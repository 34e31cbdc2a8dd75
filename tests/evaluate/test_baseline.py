"""The floor separates what words separate, and says when it cannot."""

import pytest

from pipelines.core.errors import DataError
from pipelines.evaluate.baseline import fit, predict

TEXTS = ["good film", "good plot", "bad film", "bad plot", "dull plot", "dull film"]
LABELS = ["pos", "pos", "neg", "neg", "meh", "meh"]


def test_words_that_decide_decide():
    labels, scores = predict(fit(TEXTS, LABELS), ["a good one", "quite bad", "dull"])
    assert labels == ["pos", "neg", "meh"]
    assert all(isinstance(score, float) for score in scores)


def test_pairs_of_words_decide_too():
    texts = ["not good", "good not", "not good film", "good not film"]
    labels, _ = predict(fit(texts, ["neg", "pos", "neg", "pos"]), ["not good", "good not"])
    assert labels == ["neg", "pos"]


def test_with_two_labels_the_score_is_the_winners():
    labels, scores = predict(fit(TEXTS[:4], LABELS[:4]), ["good", "bad"])
    assert labels == ["pos", "neg"]
    assert min(scores) > 0


def test_the_same_rows_give_the_same_scores():
    assert predict(fit(TEXTS, LABELS), TEXTS) == predict(fit(TEXTS, LABELS), TEXTS)


def test_one_label_is_not_enough():
    with pytest.raises(DataError, match="1 label"):
        fit(["a b", "c d"], ["same", "same"])
