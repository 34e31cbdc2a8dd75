"""Cutting rows into shards, and predicting one shard."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.errors import ArtifactError
from pipelines.infer import shards


@dataclass(frozen=True)
class Prediction:
    """A label and its probability."""

    label: str
    score: float


class Length:
    """Labels a text by its length; fails on any batch that holds the text `poison`."""

    def predict(self, texts):
        if "poison" in texts:
            raise ValueError("poison text")
        return [Prediction(str(len(text)), 1 / len(text)) for text in texts]


def rows(*texts):
    return [{"id": f"f:{k}", "text": text, "error": None} for k, text in enumerate(texts)]


def shard(*texts):
    (table,) = shards.cut(rows(*texts), 100)
    return table


def test_rows_are_cut_in_order_and_numbered():
    tables = list(shards.cut(rows("a", "b", "c", "d", "e"), 2))
    assert [table["row"].to_pylist() for table in tables] == [[0, 1], [2, 3], [4]]
    assert tables[2].to_pylist() == [{"row": 4, "id": "f:4", "text": "e", "error": None}]


@given(st.lists(st.text(), max_size=30), st.integers(1, 40))
def test_every_row_is_in_exactly_one_shard(texts, size):
    tables = list(shards.cut(rows(*texts), size))
    assert [row for table in tables for row in table["row"].to_pylist()] == [*range(len(texts))]
    assert [text for table in tables for text in table["text"].to_pylist()] == texts
    assert all(len(table) == size for table in tables[:-1])


def test_each_row_has_its_prediction():
    found = shards.predictions(shard("aa", "bbbb"), Length()).to_pylist()
    assert found == [
        {"row": 0, "id": "f:0", "text": "aa", "label": "2", "score": 0.5, "error": None},
        {"row": 1, "id": "f:1", "text": "bbbb", "label": "4", "score": 0.25, "error": None},
    ]


def test_a_row_without_text_is_kept_with_its_error():
    bad = {"id": "f:9", "text": "", "error": "not JSON"}
    (table,) = shards.cut([*rows("aa", " \n"), bad], 3)
    found = shards.predictions(table, Length()).to_pylist()
    assert [row["label"] for row in found] == ["2", None, None]
    assert [row["error"] for row in found] == [None, shards.EMPTY, "not JSON"]


def test_a_text_that_breaks_the_model_does_not_take_the_others_with_it():
    found = shards.predictions(shard("aa", "poison", "bbbb"), Length()).to_pylist()
    assert [row["label"] for row in found] == ["2", None, "4"]
    assert found[1]["error"] == "the model failed on this text: ValueError"


class Raises:
    """Fails on every text."""

    def __init__(self, error):
        self.error = error

    def predict(self, texts):
        raise self.error


def test_a_model_that_fails_on_every_text_stops_the_run_with_its_error():
    with pytest.raises(ArtifactError, match="failed on all 2 texts of a shard: ValueError: no op"):
        shards.predictions(shard("aa", " ", "bbbb"), Raises(ValueError("no op")))


def test_one_text_alone_is_the_row_s_error():
    (row,) = shards.predictions(shard("poison"), Length()).to_pylist()
    assert row["error"] == "the model failed on this text: ValueError"


def test_memory_that_runs_out_is_not_a_row_s_error():
    with pytest.raises(MemoryError):
        shards.predictions(shard("aa"), Raises(MemoryError()))


def test_a_shard_of_bad_rows_alone_needs_no_model():
    found = shards.predictions(shard("", " "), Length())
    assert found["error"].to_pylist() == [shards.EMPTY, shards.EMPTY]
    assert shards.counts(found) == {"rows": 2, "errors": 2}


def test_rows_and_errors_are_counted():
    assert shards.counts(shards.predictions(shard("a", "", "b"), Length())) == {
        "rows": 3,
        "errors": 1,
    }


def test_the_file_has_one_row_group_and_nothing_of_this_run(tmp_path):
    table = shards.predictions(shard("aa", ""), Length())
    data = shards.encode(table)
    assert data == shards.encode(shards.decode(data))
    file = pq.ParquetFile(pa.BufferReader(data))
    assert file.schema_arrow.equals(shards.OUTPUT)
    assert file.num_row_groups == 1
    assert b"pandas" not in data


@pytest.mark.parametrize(("split", "ids"), [("", ["a", "b", "c"]), ("test", ["b"]), ("dev", [])])
def test_a_corpus_gives_its_rows_in_order_or_those_of_one_split(tmp_path, split, ids):
    for name, part in {"0": ["a", "b"], "1": ["c"]}.items():
        splits = ["test" if one == "b" else "train" for one in part]
        table = pa.table({"id": part, "text": part, "split": splits, "label": part})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    found = shards.from_corpus(tmp_path, ["0.parquet", "1.parquet"], split)
    assert [row["id"] for row in found] == ids
