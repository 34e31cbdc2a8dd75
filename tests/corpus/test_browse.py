"""Browsing a corpus: records by reason, rule or id, and a hint where there is none."""

import json

import pytest

from pipelines.core.errors import DataError
from pipelines.corpus import browse, schema


@pytest.fixture
def corpus(make_artifact):
    rejected = [
        {
            "id": "a.jsonl:0",
            "reason": "gopher@paper",
            "rule": "words",
            "value": 3.0,
            "text": "x\ny",
        },
        {
            "id": "a.jsonl:4",
            "reason": "merged:near",
            "into": "a.jsonl:1",
            "jaccard": 0.9,
            "text": "z",
        },
    ]
    kept = [{"id": "a.jsonl:1", "text": "kept text", "source": "a.jsonl", "row": 1}]
    bad = [{"source": "a.jsonl", "row": 2, "offset": 7, "reason": "not JSON", "detail": "x"}]
    report = {
        "funnel": [{"reason": "kept", "rule": "", "documents": 1, "bytes": 9, "words": 2}],
        "problems": {"not JSON": 1},
    }
    files = {
        "data/part-00000.parquet": schema.parquet(kept, schema.DATA),
        "rejected/part-00000.parquet": schema.parquet(rejected, schema.REJECTED),
        "quarantine/part-00000.parquet": schema.parquet(bad, schema.QUARANTINE),
        "report.json": json.dumps(report).encode(),
    }
    return make_artifact("Corpus", "corpus", files)


@pytest.mark.parametrize(
    ("reason", "ids"),
    [
        ("", ["a.jsonl:0", "a.jsonl:4", "a.jsonl:2"]),
        ("gopher@paper", ["a.jsonl:0"]),
        ("words", ["a.jsonl:0"]),
        ("merged", ["a.jsonl:4"]),
        ("not JSON", ["a.jsonl:2"]),
    ],
)
def test_records_are_found_by_reason_rule_or_how_it_begins(corpus, reason, ids):
    assert [row["id"] for row in browse.rejects(corpus, reason, 10)] == ids


def test_no_more_than_the_limit_is_shown(corpus):
    assert len(browse.rejects(corpus, "", 2)) == 2


def test_a_reason_that_does_not_occur_is_an_error_with_the_nearest(corpus):
    with pytest.raises(DataError, match=r"left out for 'gofer@paper'; did you mean gopher@paper\?"):
        browse.rejects(corpus, "gofer@paper", 10)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("a.jsonl:1", "data"), ("a.jsonl:4", "rejected"), ("a.jsonl:2", "quarantine")],
)
def test_a_document_is_found_wherever_it_went(corpus, name, folder):
    assert browse.document(corpus, name)[0] == folder


def test_a_document_that_is_not_there_is_an_error(corpus):
    with pytest.raises(DataError, match=r"no document 'a.jsonl:9'"):
        browse.document(corpus, "a.jsonl:9")


def test_a_record_is_shown_with_its_figures_and_the_start_of_its_text(corpus):
    row = browse.document(corpus, "a.jsonl:0")[1]
    assert browse.shown(row, 3) == (
        "id a.jsonl:0  reason gopher@paper  rule words  value 3.0\n    x ⏎…"
    )


def test_the_funnel_names_every_place(corpus):
    lines = browse.funnel(corpus).splitlines()
    assert lines[2].split() == ["kept", "1", "9", "2"]
    assert lines[3].split() == ["unreadable", "not", "JSON", "1", "-", "-"]
