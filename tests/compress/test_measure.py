"""Quality is agreement and accuracy on judge rows, worked out by hand."""

import numpy as np

from pipelines.compress.measure import quality


class Says:
    """A predictor whose answers are given."""

    labels = ("no", "yes")

    def __init__(self, *answers):
        self.answers = answers

    def logits(self, texts):
        assert len(texts) == len(self.answers)
        return np.eye(2, dtype=np.float32)[[self.labels.index(answer) for answer in self.answers]]


def test_agreement_is_over_all_rows_and_accuracy_over_the_labelled():
    teacher = Says("yes", "yes", "no", "no")
    student = Says("yes", "no", "no", "no")
    figures = quality(teacher, student, ["a", "b", "c", "d"], ["yes", "yes", None, "yes"])
    assert figures == {"agreement": 3 / 4, "teacher_accuracy": 2 / 3, "accuracy": 1 / 3}


def test_without_labels_there_is_no_accuracy():
    assert quality(Says("no"), Says("no"), ["a"], [None]) == {"agreement": 1.0}
