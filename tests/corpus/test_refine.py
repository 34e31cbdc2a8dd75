"""A document's row: what settings change in it, and what they must not."""

from typing import Any

from pipelines.corpus.config import CorpusConfig
from pipelines.corpus.dedup import Words
from pipelines.corpus.records import Document
from pipelines.corpus.refine import Learnt, Row, refined
from pipelines.corpus.sources import Files

TEXT = "Write to {}@example.org about the bread that is baked in this small town every morning."


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


def _rows(count: int, weight: float = 1.0, **settings: Any) -> list[Row]:
    sources = (Files(paths=("a.jsonl",)),)
    config = CorpusConfig(sources=sources, rules=(), languages=(), **settings)
    return [
        refined(
            config, Document("a.jsonl", row, TEXT.format(f"name{row}")), Learnt(Words()), weight
        )
        for row in range(count)
    ]
