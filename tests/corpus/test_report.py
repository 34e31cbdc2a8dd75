"""The report counts what was written: places, bytes, words, and the same samples every time."""

import json

import pytest

from pipelines.core.artifact import Workspace
from pipelines.core.errors import DataError
from pipelines.core.storage import Store
from pipelines.corpus import schema
from pipelines.corpus.report import counts, samples, summary
from pipelines.corpus.tally import SHOWN, tally

KEPT = ["one two three", "你好 世界", "x"]


def tallies(out):
    """Of both parts, as they are read back."""
    return [json.loads(json.dumps(tally(out, part))) for part in (0, 1)]


@pytest.fixture
def out(tmp_path):
    work = Workspace.take(Store.at(str(tmp_path)))
    rejected = [
        {"id": f"f:{row}", "reason": "gopher@paper", "rule": "words", "text": f"short {row}"}
        for row in range(3, 3 + 2 * SHOWN)
    ]
    rejected += [
        {"id": f"f:{row}", "reason": "merged:near", "into": "f:0", "text": "one two"}
        for row in (20, 21)
    ]
    bad = [{"source": "f", "row": 30, "offset": 5, "reason": "not JSON"}]
    kept = [
        {
            "id": f"f:{row}",
            "text": text,
            "language": "en",
            "split": "train",
            "label": "a",
            "epoch": 0,
        }
        for row, text in enumerate(KEPT)
    ]
    rows = [
        {"source": "f", "row": row, "text": text, "masked": '{"email": 2}' if row == 0 else None,
         "before": "one\u200b two three" if row == 0 else None}
        for row, text in enumerate(KEPT)
    ]  # fmt: skip
    rows += [{"source": "f", "row": row} for row in range(len(rejected) + len(bad))]
    for folder, content, columns in (
        ("data", kept, schema.DATA),
        ("rejected", rejected, schema.REJECTED),
        ("quarantine", bad, schema.QUARANTINE),
        (schema.WORK, rows, schema.WORKING),
    ):
        half = len(content) // 2  # two parts, so that their sums are summed
        for number, part in enumerate((content[:half], content[half:])):
            work.write(schema.part(folder, number), schema.parquet(part, columns))
    return work


def test_every_place_is_counted_in_documents_bytes_and_words(out):
    report = summary(tallies(out))
    assert [tuple(step.values()) for step in report["funnel"]] == [
        ("kept", "", 3, 13 + 13 + 1, 3 + 2 + 1),
        ("gopher@paper", "words", 10, 7 * 7 + 3 * 8, 20),
        ("merged:near", "", 2, 14, 4),
    ]
    assert report["lengths"] == {"1 to 1": 1, "2 to 3": 2}
    assert report["masked"] == {"email": 2}
    assert counts(report) == {
        "read": 16, "kept": 3, "rejected": 10, "merged": 2, "quarantined": 1, "train": 3,
    }  # fmt: skip


def test_a_lost_document_is_an_error(out):
    out.write(schema.part("rejected", 1), schema.parquet([], schema.REJECTED))
    with pytest.raises(DataError, match="6 documents are unaccounted for"):
        summary(tallies(out))


def test_samples_are_few_the_same_ones_and_of_every_kind(out):
    found = samples(tallies(out))
    assert len(found["rejected"]) == SHOWN + 2
    assert found == samples(tallies(out))
    assert found["cleaned"] == [
        {"id": "f:0", "before": "one\u200b two three", "after": "one two three"}
    ]
    assert found["clusters"] == [{"into": "f:0", "documents": 2, "examples": ["f:20", "f:21"]}]
