"""True and predicted labels in; accuracy, precision, recall, F1 and their intervals out.

Pure numpy. Definitions are scikit-learn's, with 0 where a figure would divide by zero.
"""

from collections.abc import Sequence

import numpy as np

from pipelines.core.config import Json

LEVEL = 0.95  # of the bootstrap intervals
CELLS = 10**7  # of confusion tables drawn at once: 80 MB


def classification_report(
    truth: Sequence[str],
    predicted: Sequence[str],
    labels: Sequence[str],
    resamples: int,
    seed: int,
) -> Json:
    """Every figure of a classifier, as JSON.

    Args:
        truth: the right label of each row.
        predicted: the label given to each row.
        labels: all labels, in the order of the confusion matrix.
        resamples: bootstrap resamples of the rows.
        seed: of the resampling.

    Returns:
        `rows`, `labels`, `accuracy`, `precision`, `recall` and `f1` (each `micro` and `macro`),
        `per_class`, `confusion` (rows are truth), and `intervals`: [low, high] of 95 % for
        `accuracy` and `macro_f1`.
    """
    places = {label: place for place, label in enumerate(labels)}
    truth_N = np.array([places[label] for label in truth], dtype=np.int64)
    predicted_N = np.array([places[label] for label in predicted], dtype=np.int64)
    table_LL = confusion(truth_N, predicted_N, len(labels))
    precision_L, recall_L, f1_L = per_class(table_LL)
    accuracy = float(np.trace(table_LL) / max(1, table_LL.sum()))
    return {
        "rows": len(truth_N),
        "labels": list(labels),
        "accuracy": accuracy,
        # With one label a row, every miss is one false positive and one false negative.
        "precision": {"micro": accuracy, "macro": float(precision_L.mean())},
        "recall": {"micro": accuracy, "macro": float(recall_L.mean())},
        "f1": {"micro": accuracy, "macro": float(f1_L.mean())},
        "per_class": {
            label: {
                "precision": float(precision_L[place]),
                "recall": float(recall_L[place]),
                "f1": float(f1_L[place]),
                "rows": int(table_LL[place].sum()),
            }
            for label, place in places.items()
        },
        "confusion": table_LL.tolist(),
        "intervals": intervals(truth_N, predicted_N, len(labels), resamples, seed),
    }


def confusion(truth_N: np.ndarray, predicted_N: np.ndarray, num_labels: int) -> np.ndarray:
    """Rows by truth and prediction, int64 (L, L)."""
    cells = np.bincount(truth_N * num_labels + predicted_N, minlength=num_labels**2)
    return cells.reshape(num_labels, num_labels)


def per_class(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of each class, (..., L) each, of confusion tables (..., L, L)."""
    right = np.diagonal(table, axis1=-2, axis2=-1).astype(np.float64)
    given, true = table.sum(-2), table.sum(-1)
    return (
        right / np.maximum(1, given),
        right / np.maximum(1, true),
        2 * right / np.maximum(1, given + true),
    )


def intervals(
    truth_N: np.ndarray, predicted_N: np.ndarray, num_labels: int, resamples: int, seed: int
) -> dict[str, list[float]]:
    """Percentile bootstrap intervals over rows (Efron 1979).

    Drawing N rows with replacement is drawing the cells of the confusion table from a multinomial,
    which costs L * L numbers a resample in place of N. Blocks of resamples are drawn one after the
    other: at 1,000 labels all at once would take 8 GB.
    """
    table_LL = confusion(truth_N, predicted_N, num_labels)
    rows = len(truth_N)
    if not rows:
        return {}
    random = np.random.Generator(np.random.PCG64(seed))
    figures = {"accuracy": np.empty(resamples), "macro_f1": np.empty(resamples)}
    block = max(1, CELLS // num_labels**2)
    for start in range(0, resamples, block):
        part = slice(start, min(start + block, resamples))
        drawn = random.multinomial(rows, table_LL.ravel() / rows, size=part.stop - start)
        tables_RLL = drawn.reshape(-1, num_labels, num_labels)
        figures["accuracy"][part] = np.trace(tables_RLL, axis1=1, axis2=2) / rows
        figures["macro_f1"][part] = per_class(tables_RLL)[2].mean(-1)
    tail = (1 - LEVEL) / 2
    return {
        name: [float(edge) for edge in np.quantile(figure_R, [tail, 1 - tail])]
        for name, figure_R in figures.items()
    }
