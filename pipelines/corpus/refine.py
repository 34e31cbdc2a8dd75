"""A document as read -> cleaned, judged, masked and hashed: one row of `schema.WORKING`."""

import json
import logging
from typing import Any

import xxhash

from pipelines.corpus import dedup
from pipelines.corpus.clean import clean
from pipelines.corpus.config import CorpusConfig
from pipelines.corpus.language import detect
from pipelines.corpus.readers import Document, Quarantined
from pipelines.corpus.rules.measure import Failure
from pipelines.corpus.rules.sets import judge
from pipelines.safety.pii import mask

log = logging.getLogger(__name__)

Row = dict[str, Any]
SAMPLED, SAMPLE_CHARS = 64, 600


def refined(config: CorpusConfig, record: Document | Quarantined, words: dedup.Words) -> Row:
    """A row of `schema.WORKING`."""
    if isinstance(record, Quarantined):
        return {"status": "quarantined"} | vars(record)
    try:
        return {"source": record.source, "row": record.row} | _judged(config, record, words)
    except Exception as error:  # noqa: BLE001 (one document must not end the job)
        log.warning("%s:%d: %r", record.source, record.row, error)
        reason = f"processing failed: {type(error).__name__}"
        bad = Quarantined(record.source, record.row, 0, reason)
        return {"status": "quarantined"} | vars(bad)


def _judged(config: CorpusConfig, document: Document, words: dedup.Words) -> Row:
    text = clean(document.text)
    before = _sampled(document) if text != document.text else None
    language, score = detect(text)
    if score < config.min_language_score:
        language = "und"
    failure = _excluded(config, text, language, score)
    if failure is None:
        verdict = judge(text, config.rules, config.min_words)
        text, failure = verdict.text, _broken(verdict.failure)
    text, masked = mask(text, config.mask)
    row: Row = {"text": text, "label": document.label, "language": language, "before": before}
    if failure:
        return row | {"status": "rejected"} | failure
    row |= {"status": "candidate", "masked": json.dumps(masked, sort_keys=True)}
    row["fingerprint"] = dedup.fingerprint(text)
    if near := config.near_duplicates:
        shingles = dedup.shingles(text, near.ngram, words)
        row["bands"] = dedup.bands(shingles, near.bands, near.rows)
    return row


def _sampled(document: Document) -> str | None:
    """The text as read but for personal data, cut, of one document in `SAMPLED`: for the report."""
    place = f"{document.source}:{document.row}".encode()
    if xxhash.xxh64_intdigest(place) % SAMPLED:
        return None
    return mask(document.text)[0][:SAMPLE_CHARS]


def _excluded(config: CorpusConfig, text: str, language: str, score: float) -> Row | None:
    """Why a text is left out before any rule looks at it: reason, rule, value and threshold."""
    if not text:
        return {"reason": "empty", "rule": "words", "value": 0.0, "threshold": 1.0}
    if config.languages and language not in config.languages:
        least = config.min_language_score
        return {"reason": "language", "rule": language, "value": score, "threshold": least}
    return None


def _broken(failure: Failure | None) -> Row | None:
    """The rule that a text breaks, in the columns of a row."""
    if failure is None:
        return None
    facts = dict(vars(failure))
    return {"reason": facts.pop("rule_set")} | facts


def split(text: str, holdout: float) -> str:
    """By the text's hash, so that a document is in the same split of every corpus."""
    return "test" if xxhash.xxh64_intdigest(text.encode()) % 10**6 < holdout * 10**6 else "train"
