"""Examples of wanted and unwanted texts -> a model that scores any text in [0, 1].

A linear model of hashed word 1- and 2-grams, as fastText's classifier (Joulin et al. 2016,
arXiv 1607.01759) with a dimension of one, which is what DCLM (arXiv 2406.11794, section 4.4) found
to choose pretraining data best. A CJK character is a word. It is learnt by logistic regression
with a fixed seed on one thread, so the same examples in the same order give the same bytes; the
file is safetensors, with nothing in it that runs.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from pipelines.core.errors import DataError
from pipelines.corpus import dedup

VERSION = "1"
NGRAMS = (1, 2)
BITS = 18  # buckets are 2^18: 1 MB; fastText's two million serve millions of examples
CHARS = 20_000  # of a text that are read
STRENGTH = 1e4  # scikit-learn's C; features are shares of a text's n-grams, hence small
MIN_EXAMPLES = 10  # of each kind
Buckets = NDArray[np.int64]
_PROBE = "The quick brown fox, 42 of them. 敏捷的狐狸。"


@dataclass(frozen=True)
class Model:
    """A weight for each bucket of n-grams, and the bias."""

    weights: NDArray[np.float32]
    bias: float

    def score(self, text: str, words: dedup.Words) -> float:
        """How much a text is like the wanted examples, in [0, 1], to 4 digits; 0.5 if empty.

        Args:
            text: cleaned.
            words: hashes of words seen so far, shared by the texts of a shard.
        """
        buckets = _buckets(text, words)
        if not len(buckets):
            return 0.5
        logit = float(self.weights[buckets].mean(dtype=np.float64)) + self.bias
        return round(float(1 / (1 + np.exp(-np.clip(logit, -30, 30)))), 4)

    def to_bytes(self) -> bytes:
        """One safetensors file."""
        facts = {"version": VERSION, "bias": self.bias, "probe": _probe()}
        return bytes(save({"weights": self.weights}, {"facts": json.dumps(facts, sort_keys=True)}))


def load(path: str) -> Model:
    """The model in a local file written from `to_bytes`.

    Raises:
        DataError: the file hashes words in another way than this version.
    """
    with safe_open(path, framework="numpy") as file:
        facts = json.loads((file.metadata() or {}).get("facts", "{}"))
        if (facts.get("version"), facts.get("probe")) != (VERSION, _probe()):
            raise DataError(
                f"{path}: not a quality model of version {VERSION}, or one that hashes words "
                "otherwise; train it again from its examples"
            )
        return Model(file.get_tensor("weights"), facts["bias"])


def train(wanted: Iterable[str], unwanted: Iterable[str], seed: int = 0) -> Model:
    """The model that tells wanted from unwanted texts, both kinds weighing the same.

    Raises:
        DataError: fewer than `MIN_EXAMPLES` texts of a kind.
    """
    from scipy.sparse import csr_matrix  # noqa: PLC0415 (sklearn takes 1 s to import)
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    words = dedup.Words()
    rows: list[tuple[Buckets, NDArray[np.float64]]] = []
    counts = []
    for kind, texts in (("unwanted", unwanted), ("wanted", wanted)):
        found = [_shares(buckets) for text in texts if len(buckets := _buckets(text, words))]
        if len(found) < MIN_EXAMPLES:
            raise DataError(
                f"quality: {len(found)} {kind} texts with words, expected at least {MIN_EXAMPLES} "
                "(some thousands make a good model); add examples"
            )
        rows += found
        counts.append(len(found))
    columns, shares = (np.concatenate(part) for part in zip(*rows, strict=True))
    begins = np.cumsum([0, *(len(part) for part, _ in rows)])
    features = csr_matrix((shares, columns, begins), shape=(len(rows), 1 << BITS))
    learner = LogisticRegression(
        C=STRENGTH, solver="liblinear", class_weight="balanced", random_state=seed
    )
    learner.fit(features, np.repeat([0, 1], counts))
    weights = learner.coef_[0].astype(np.float32)
    return Model(weights, float(np.float32(learner.intercept_[0])))


def _shares(buckets: Buckets) -> tuple[Buckets, NDArray[np.float64]]:
    """The distinct buckets of a text, and the share of its n-grams in each."""
    distinct, counts = np.unique(buckets, return_counts=True)
    return distinct, counts / len(buckets)


def _buckets(text: str, words: dedup.Words) -> Buckets:
    """The bucket of every n-gram of a text, with repeats."""
    text = text[:CHARS]
    keys = [dedup.grams(text, ngram, words) for ngram in NGRAMS]
    return (np.concatenate(keys) >> np.uint64(64 - BITS)).astype(np.int64)


def _probe() -> str:
    """A digest of the buckets of a fixed text: a change of the hash shows in it."""
    return xxhash.xxh3_64_hexdigest(_buckets(_PROBE, dedup.Words()).astype("<i8").tobytes())
