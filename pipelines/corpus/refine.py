"""A document as read -> cleaned, judged, drawn, masked and hashed: one row of `schema.WORKING`.

It is drawn by its source's weight here, before duplicates are looked for: one that is not taken
must not be what an equal one of another source goes for.
"""

import json
import logging
from dataclasses import dataclass
from typing import Any

import xxhash

from pipelines.core.errors import RaylineError
from pipelines.corpus import contamination, dedup
from pipelines.corpus.clean import clean
from pipelines.corpus.config import CorpusConfig
from pipelines.corpus.language import detect, native
from pipelines.corpus.quality import Model
from pipelines.corpus.records import Document, Quarantined
from pipelines.corpus.report import CONTAMINATED
from pipelines.corpus.rules.measure import Failure
from pipelines.corpus.rules.sets import judge
from pipelines.safety.pii import mask

log = logging.getLogger(__name__)

Row = dict[str, Any]
SAMPLED, SAMPLE_CHARS = 64, 600
DETAIL_CHARS = 200  # kept of what is particular to an unreadable record
EMPTY: Row = {"reason": "empty", "rule": "words", "value": 0.0, "threshold": 1.0}
MIXING = 1  # seed of the hash that draws documents, so that it draws others than the report


@dataclass(frozen=True)
class Learnt:
    """What a part's texts are judged by that is no setting."""

    words: dedup.Words
    quality: Model | None = None
    evaluation: contamination.Index | None = None


def refined(
    config: CorpusConfig, record: Document | Quarantined, learnt: Learnt, weight: float = 1.0
) -> Row:
    """A row of `schema.WORKING`; `weight` is that of the record's source.

    Raises:
        RaylineError: the machine fails, not the document: elsewhere it may be read.
    """
    if isinstance(record, Quarantined):
        return _quarantined(record)
    try:
        place = {"source": record.source, "row": record.row, "offset": record.offset}
        return place | _judged(config, record, learnt, weight)
    except (MemoryError, OSError, ImportError) as error:
        raise RaylineError(
            f"{record.source}, row {record.row}: {error!r}; what is finished is kept: look at this "
            "node's memory and files (rayline doctor), and give the same command again"
        ) from error
    except Exception as error:  # noqa: BLE001 (one document must not end the job)
        log.warning("%s:%d: %r", record.source, record.row, error)
        reason = f"processing failed: {type(error).__name__}"
        return _quarantined(Quarantined(record.source, record.row, record.offset or 0, reason))


def safe(reason: str) -> str:
    """Why a record cannot be read, cut and without personal data, which a file's fields may be."""
    fixed, colon, detail = reason.partition(": ")
    return fixed + colon + mask(detail[: 10 * DETAIL_CHARS])[0][:DETAIL_CHARS]


def _quarantined(bad: Quarantined) -> Row:
    fixed, _, detail = safe(bad.reason).partition(": ")
    return {"status": "quarantined"} | vars(bad) | {"reason": fixed, "detail": detail or None}


def _judged(config: CorpusConfig, document: Document, learnt: Learnt, weight: float) -> Row:
    text = clean(document.text)
    before = _sampled(document) if text != document.text else None
    chosen = split(text, config.holdout)
    language, score = detect(text)
    if score < config.min_language_score:
        language = "und"
    failure = _excluded(config, text, language, score)
    if failure is None:
        text, failure = _ruled(config, text, learnt)
    text, masked = mask(text, config.mask)
    row: Row = {"text": text, "label": document.label, "language": language, "before": before}
    if failure:
        return row | {"status": "rejected"} | failure
    taken = copies(f"{document.source}:{document.row}", weight, chosen)
    row |= {"split": chosen, "taken": taken, "masked": json.dumps(masked, sort_keys=True)}
    if not taken:
        sampled = {"reason": "sampled", "rule": "weight", "threshold": weight}
        return row | {"status": "rejected"} | sampled
    return row | {"status": "candidate"} | _keys(config, text, learnt)


def _ruled(config: CorpusConfig, text: str, learnt: Learnt) -> tuple[str, Row | None]:
    """A text less the paragraphs and lines that rules drop, and why it is left out, if it is."""
    left = text
    if config.native_paragraphs:
        left = native(text, config.languages, config.min_language_score)
        if not left.strip():
            return text, EMPTY
    verdict = judge(left, config.rules, config.min_words)
    failure = _broken(verdict.failure)
    if failure is None and not verdict.text.strip():
        return text, EMPTY
    return verdict.text, failure or _unfit(config, verdict.text, learnt)


def _keys(config: CorpusConfig, text: str, learnt: Learnt) -> Row:
    """What duplicates of a document are found by."""
    keys: Row = {"fingerprint": dedup.fingerprint(text)}
    if near := config.near_duplicates:
        grams = dedup.grams(text, near.ngram, learnt.words)
        keys["bands"] = dedup.bands(grams, near.bands, near.rows)
    return keys


def _sampled(document: Document) -> str | None:
    """The text as read but for personal data, cut, of one document in `SAMPLED`: for the report."""
    place = f"{document.source}:{document.row}".encode()
    if xxhash.xxh64_intdigest(place) % SAMPLED:
        return None
    return mask(document.text)[0][:SAMPLE_CHARS]


def _excluded(config: CorpusConfig, text: str, language: str, score: float) -> Row | None:
    """Why a text is left out before any rule looks at it: reason, rule, value and threshold."""
    if not text:
        return EMPTY
    if config.languages and language not in config.languages:
        least = config.min_language_score
        return {"reason": "language", "rule": language, "value": score, "threshold": least}
    return None


def _unfit(config: CorpusConfig, text: str, learnt: Learnt) -> Row | None:
    """Why a text that breaks no rule is left out: unlike the examples, or an evaluation item."""
    if config.quality and learnt.quality:
        score, least = learnt.quality.score(text, learnt.words), config.quality.min_score
        if score < least:
            return {"reason": "quality", "rule": "examples", "value": score, "threshold": least}
    if config.decontaminate and learnt.evaluation:
        least = config.decontaminate.min_share
        found = contamination.matches(learnt.evaluation, text, least)
        if found:
            most = max(found, key=lambda match: match.share)
            facts = {"value": most.share, "threshold": least, "into": f"{most.set} {most.item}"}
            return {"reason": CONTAMINATED, "rule": most.set} | facts
    return None


def _broken(failure: Failure | None) -> Row | None:
    """The rule that a text breaks, in the columns of a row."""
    if failure is None:
        return None
    facts = dict(vars(failure))
    return {"reason": facts.pop("rule_set")} | facts


def copies(name: str, weight: float, chosen: str) -> int:
    """How often a document of a source of this weight is taken, by the hash of its id.

    One of another split than `train` is never repeated: it would be judged on twice.
    """
    drawn = xxhash.xxh64_intdigest(name.encode(), seed=MIXING) % 10**6 < weight % 1 * 10**6
    taken = int(weight) + drawn
    return taken if chosen == "train" else min(taken, 1)


def split(text: str, holdout: float) -> str:
    """By the hash of the cleaned text, so that a document is in the same split of every corpus.

    The text is that before any rule, mask or passage changes it: settings must not move a document.
    """
    return "test" if xxhash.xxh64_intdigest(text.encode()) % 10**6 < holdout * 10**6 else "train"
