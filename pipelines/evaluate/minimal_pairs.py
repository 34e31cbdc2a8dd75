"""Minimal pairs of sentences -> how often a language model finds the acceptable one likelier.

Source: Warstadt et al. 2020 (BLiMP), sections 3 and 4: whole sentences are compared, with no
correction for length. A decoder sums log probabilities; an encoder sums them with each token masked
in turn (Salazar et al. 2020, section 3.3).
"""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from pipelines.core.config import Json
from pipelines.core.errors import ConfigError, DataError
from pipelines.evaluate.likelihood import Scores, log_likelihoods, pseudo_log_likelihoods
from pipelines.model.config import FAMILIES
from pipelines.tasks.special import Special
from pipelines.tokenizer.load import encode_texts


class Pair(NamedTuple):
    """Two sentences that differ in one thing, the first acceptable, and what they are about."""

    phenomenon: str
    good: str
    bad: str


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file of BLiMP's JSON lines, plain or gzip.

    Raises:
        DataError: a line is not such a record.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    pairs = []
    with opened(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                names = ("linguistics_term", "sentence_good", "sentence_bad")
                pairs.append(Pair(*(row[name] for name in names)))
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{path}:{number}: not a minimal pair: {error!r}; expected linguistics_term, "
                    "sentence_good and sentence_bad, as in BLiMP"
                ) from None
    return pairs


def judge_pairs(
    model: Any, tokenizer: PreTrainedTokenizerFast, pairs: Sequence[Pair], begin: int | None = None
) -> Json:
    """Share of pairs whose acceptable sentence is likelier; equal ones count as wrong.

    Args:
        model: an encoder or decoder with its language head.
        tokenizer: the model's.
        pairs: at least one.
        begin: see `log_likelihoods`; for a decoder only.

    Returns:
        `pairs`, `accuracy`, `standard_error` of it, and `by_phenomenon`.

    Raises:
        ConfigError: the model is an encoder-decoder.
    """
    texts = [pair.good for pair in pairs] + [pair.bad for pair in pairs]
    scores = _scores(model.eval(), tokenizer, encode_texts(tokenizer, texts), begin)
    right = scores[: len(pairs)] > scores[len(pairs) :]
    names = np.array([pair.phenomenon for pair in pairs])
    accuracy = float(right.mean())
    return {
        "pairs": len(pairs),
        "accuracy": accuracy,
        "standard_error": float((accuracy * (1 - accuracy) / len(pairs)) ** 0.5),
        "by_phenomenon": {
            name: float(right[names == name].mean()) for name in sorted(set(names.tolist()))
        },
    }


def _scores(
    model: Any, tokenizer: PreTrainedTokenizerFast, rows: list[list[int]], begin: int | None
) -> Scores:
    match FAMILIES[model.config.model_type]:
        case "decoder":
            return log_likelihoods(model, rows, begin)
        case "encoder":
            return pseudo_log_likelihoods(model, rows, Special.of(tokenizer))
        case "encoder-decoder":
            raise ConfigError(
                f"minimal pairs: a {model.config.model_type} is an encoder-decoder, which scores "
                "no whole sentence; give an encoder or a decoder"
            )
