"""Labelled rows: which are used, how they are numbered, framed and scored."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import xxhash

from pipelines.core.artifact import Artifact
from pipelines.core.errors import DataError
from pipelines.tasks.classify import ClassifyTask, encode, labelled, number, select
from pipelines.tasks.protocol import Batch
from pipelines.tokenizer.load import open_tokenizer


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Forty rows in two parts; every fifth is in `test`."""
    (tmp_path / "data").mkdir()
    for part in range(2):
        rows = range(20 * part, 20 * part + 20)
        table = pa.table(
            {
                "id": [f"file:{row}" for row in rows],
                "text": [f"text {row}" for row in rows],
                "label": [None if row == 7 else "odd" if row % 2 else "even" for row in rows],
                "split": ["test" if row % 5 == 0 else "train" for row in rows],
            }
        )
        pq.write_table(table, tmp_path / "data" / f"part-{part:05d}.parquet")
    return tmp_path


def test_a_split_comes_in_corpus_order(corpus: Path) -> None:
    ids = select(corpus, "test")["id"].to_pylist()
    assert ids == [f"file:{row}" for row in range(0, 40, 5)]
    assert select(corpus, "").num_rows == 40


def test_fewer_rows_are_those_of_the_smallest_hashes(corpus: Path) -> None:
    found = select(corpus, "train", 5)["id"].to_pylist()
    names = [f"file:{row}" for row in range(40) if row % 5]
    smallest = sorted(names, key=lambda name: xxhash.xxh64(name.encode()).intdigest())[:5]
    assert found == [name for name in names if name in smallest]


def test_a_sample_holds_the_smaller_ones(corpus: Path) -> None:
    small, large = (set(select(corpus, "train", n)["id"].to_pylist()) for n in (5, 12))
    assert small < large


def test_an_empty_split_is_an_error(corpus: Path) -> None:
    with pytest.raises(DataError, match="no row in split 'tset'"):
        select(corpus, "tset")


def test_a_row_without_a_label_is_named(corpus: Path) -> None:
    with pytest.raises(DataError, match=r"1 of 32 rows have no label, the first is file:7"):
        labelled(select(corpus, "train"), "corpus")


def test_labels_are_numbered_by_the_models_names() -> None:
    assert number(["b", None, "a"], ["a", "b"], "x").tolist() == [1, -100, 0]
    with pytest.raises(DataError, match=r"'c' is not one the model knows \(a, b\)"):
        number(["b", "c"], ["a", "b"], "corpus")


def test_texts_are_framed_cut_and_cannot_forge_specials(tiny_classifier: Artifact) -> None:
    tokenizer = open_tokenizer(tiny_classifier.uri)
    first, second = encode(tokenizer, ["a [SEP] b", "abcdefghij"], max_length=6)
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert (first[0], first[-1]) == (cls, sep)
    assert sep not in first[1:-1]
    assert len(second) == 6
    assert second[-1] == sep


def task(lengths: list[int], labels: list[int]) -> ClassifyTask:
    rows = [np.full(length, place, np.int64) for place, length in enumerate(lengths)]
    return ClassifyTask(rows, np.array(labels), pad_id=99)


def whole(lengths: list[int], labels: list[int]) -> Batch:
    return task(lengths, labels).batch(np.arange(len(lengths)), 0)


def test_rows_are_padded_to_the_longest_up_to_a_multiple_of_8() -> None:
    batch = whole([3, 9], [0, 1])
    assert batch.tensors["input_ids"].shape == (2, 16)
    assert batch.tensors["attention_mask"].sum(1).tolist() == [len(b) for b in rows_of(batch)]
    assert batch.tokens == 12


def rows_of(batch: Batch) -> list[list[int]]:
    return [[i for i in row if i != 99] for row in batch.tensors["input_ids"].tolist()]


def test_rows_of_one_length_need_no_mask() -> None:
    batch = whole([8, 8], [0, 1])
    assert "attention_mask" not in batch.tensors


def test_the_loss_is_that_of_a_hand_made_batch_and_skips_rows_without_labels() -> None:
    batch = whole([8, 8, 8], [1, -100, 0])
    places = {row: place for place, row in enumerate(batch.rows)}
    logits = torch.zeros(3, 2)
    logits[places[0]] = torch.tensor([0.0, 2.0])
    logits[places[2]] = torch.tensor([0.0, 1.0])
    sums = task([8], [0]).sums(lambda **given: SimpleNamespace(logits=logits), batch)
    # -ln(e^2 / (1 + e^2)) for the first, -ln(1 / (1 + e)) for the third.
    assert float(sums["label_loss"]) == pytest.approx(0.126928 + 1.313262, abs=1e-5)
    assert float(sums["label_accuracy"]) == 1
    assert batch.counts == {"label_loss": 2, "label_accuracy": 2}
