"""Labelled texts in; a TF-IDF and linear-SVM classifier out: the floor a model has to beat.

Words and pairs of words, sublinear term counts, and one linear separator a class (Joachims 1998),
with scikit-learn's defaults: strong on topics, fitted in seconds on one core.
"""

from collections.abc import Sequence

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from pipelines.core.errors import DataError

ORDER = 0  # seeds the solver's coordinate order, which moves the last digits of the weights


def fit(texts: Sequence[str], labels: Sequence[str]) -> Pipeline:
    """The classifier that learnt from `texts` and their `labels`.

    Raises:
        DataError: there are fewer than two labels.
    """
    if len(set(labels)) < 2:
        raise DataError(
            f"the baseline's rows have {len(set(labels))} label(s), expected two or more: give it "
            "more rows (baseline.max_rows) or another split (baseline.split)"
        )
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    return make_pipeline(words, LinearSVC(random_state=ORDER)).fit(texts, labels)


def predict(classifier: Pipeline, texts: Sequence[str]) -> tuple[list[str], list[float]]:
    """The label of each text, and its distance from the separating plane (its own class's)."""
    labels = [str(label) for label in classifier.predict(texts)]
    distances = classifier.decision_function(texts)
    best = distances.max(axis=1) if distances.ndim > 1 else abs(distances)
    return labels, [float(distance) for distance in best]
