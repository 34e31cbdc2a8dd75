"""A document's row: what settings change in it, and what they must not."""

from typing import Any

import pytest

from pipelines.core.errors import RaylineError
from pipelines.corpus import refine
from pipelines.corpus.config import CorpusConfig
from pipelines.corpus.dedup import Words
from pipelines.corpus.records import Document, Quarantined
from pipelines.corpus.refine import Learnt, Row, refined
from pipelines.corpus.sources import Files

TEXT = "Write to {}@example.org about the bread that is baked in this small town every morning."
# lid.176 is sure of the first (.95), hardly of the second (.55), and takes both for Swedish (.55).
CATALAN = "El pa es cou cada matí a la petita ciutat per la seva mare i després es ven al mercat."
NORWEGIAN = (
    "Brødet bakes hver morgen i den lille byen av moren hennes og blir deretter solgt på torget."
)


def test_one_that_its_weight_leaves_out_is_no_candidate_for_deduplication() -> None:
    (row,) = _rows(1, weight=0.0)
    assert (row["status"], row["reason"], row["threshold"]) == ("rejected", "sampled", 0.0)
    assert "fingerprint" not in row
    assert "[EMAIL]" in row["text"]


def test_one_is_taken_as_often_as_its_weight_says_but_once_of_the_test_split() -> None:
    rows = _rows(60, weight=2.5, holdout=0.3)
    assert {row["taken"] for row in rows if row["split"] == "train"} == {2, 3}
    assert {row["taken"] for row in rows if row["split"] == "test"} == {1}


def test_what_is_masked_does_not_move_a_document_to_another_split() -> None:
    masked, plain = _rows(60, holdout=0.5), _rows(60, holdout=0.5, mask=())
    assert {row["text"] for row in masked} != {row["text"] for row in plain}
    assert [row["split"] for row in masked] == [row["split"] for row in plain]
    assert {row["split"] for row in plain} == {"train", "test"}


def test_the_language_of_a_paragraph_is_as_unsure_as_that_of_a_document_may_be() -> None:
    text = f"{TEXT} {TEXT} {TEXT}\n\n{NORWEGIAN}"
    assert "torget" in _native(text, "en", 0.65)["text"]  # of no language, so it stays
    assert "torget" not in _native(text, "en", 0.5)["text"]


def test_a_document_without_a_paragraph_left_is_empty_and_no_candidate() -> None:
    row = _native(f"{CATALAN}\n\n{NORWEGIAN}", "sv", 0.5)
    assert (row["status"], row["reason"]) == ("rejected", "empty")
    assert CATALAN in row["text"]


def test_why_a_record_is_unreadable_is_one_of_few_and_its_detail_is_masked_and_cut() -> None:
    config = CorpusConfig(sources=(Files(paths=("a.jsonl",)),))
    rows = [
        refined(config, Quarantined("a.jsonl", row, 7, reason), Learnt(Words()))
        for row, reason in enumerate(
            (
                "no field 'text': it has ['anna@example.org', 'b']",
                f"no field 'text': it has {['key'] * 10**6}",
                "longer than 10 bytes",
            )
        )
    ]
    assert [row["reason"] for row in rows] == ["no field 'text'"] * 2 + ["longer than 10 bytes"]
    assert rows[0]["detail"] == "it has ['[EMAIL]', 'b']"
    assert len(rows[1]["detail"]) == 200
    assert (rows[2]["detail"], rows[2]["offset"]) == (None, 7)


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "I/O error"), ImportError("fasttext")])
def test_a_failing_machine_costs_no_document(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(text: str) -> str:
        raise error

    monkeypatch.setattr(refine, "clean", fail)
    with pytest.raises(RaylineError, match=r"^a.jsonl, row 0: .*give the same command again$"):
        _rows(1)


def _native(text: str, language: str, score: float) -> Row:
    config = CorpusConfig(
        sources=(Files(paths=("a.jsonl",)),),
        rules=(),
        languages=(language,),
        native_paragraphs=True,
        min_language_score=score,
    )
    return refined(config, Document("a.jsonl", 0, text), Learnt(Words()))


def _rows(count: int, weight: float = 1.0, **settings: Any) -> list[Row]:
    sources = (Files(paths=("a.jsonl",)),)
    config = CorpusConfig(sources=sources, rules=(), languages=(), **settings)
    return [
        refined(
            config, Document("a.jsonl", row, TEXT.format(f"name{row}")), Learnt(Words()), weight
        )
        for row in range(count)
    ]
