"""Input rows -> shards of a fixed number of rows -> predictions, row for row; no Ray in it.

A shard is a Parquet file of `INPUT`; what is predicted from it is one of `OUTPUT`, with the same
rows in the same order. Both have the same bytes however often they are made.
"""

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.config import Json
from pipelines.core.errors import ArtifactError
from pipelines.engines.predictor import Prediction, Predictor

INPUT = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("error", pa.string()),
    ]
)
OUTPUT = pa.schema(
    [
        *(INPUT.field(name) for name in ("row", "id", "text")),
        pa.field("label", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("error", pa.string()),
    ]
)
EMPTY = "the text is empty"


def name(shard: int) -> str:
    """The file of shard number `shard`."""
    return f"part-{shard:05d}.parquet"


def from_corpus(folder: Path, files: Sequence[str], split: str) -> Iterator[Json]:
    """`id` and `text` of a Corpus' rows, in order; of one `split` if it is not empty."""
    for file in files:
        for batch in pq.ParquetFile(folder / file).iter_batches(columns=["id", "text", "split"]):
            for row in batch.to_pylist():
                if split in ("", row["split"]):
                    yield {"id": row["id"], "text": row["text"], "error": None}


def cut(rows: Iterable[Json], shard_rows: int) -> Iterator[pa.Table]:
    """Tables of `INPUT` with `shard_rows` rows each, the last with what is left.

    Args:
        rows: `id`, `text` and `error` (None, or why the row has no text), in input order.
        shard_rows: rows a table.
    """
    numbered = (_numbered(number, row) for number, row in enumerate(rows))
    while shard := list(itertools.islice(numbered, shard_rows)):
        yield pa.Table.from_pylist(shard, INPUT)


def predictions(shard: pa.Table, predictor: Predictor) -> pa.Table:
    """A table of `OUTPUT` with a prediction, or an error, for every row of `shard`.

    Raises:
        ArtifactError: the model fails on all of several texts, so it is not they that are bad.
    """
    rows = shard.to_pylist()
    good = [row for row in rows if row["error"] is None]
    for row, found in zip(good, _predicted([row["text"] for row in good], predictor), strict=True):
        row.update({"error": found} if isinstance(found, str) else _columns(found))
    return pa.Table.from_pylist(rows, OUTPUT)


def encode(table: pa.Table) -> bytes:
    """`table` as Parquet; equal tables give equal bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=max(len(table), 1))
    return buffer.getvalue()


def decode(data: bytes) -> pa.Table:
    """The table in Parquet bytes."""
    return pq.read_table(pa.BufferReader(data))


def counts(table: pa.Table) -> dict[str, int]:
    """Rows of a table of `OUTPUT`, and those among them with an error."""
    return {"rows": len(table), "errors": len(table) - table["error"].null_count}


def _numbered(number: int, row: Json) -> Json:
    error = row["error"] or (None if row["text"].strip() else EMPTY)
    return {"row": number, "id": row["id"], "text": row["text"], "error": error}


def _predicted(texts: list[str], predictor: Predictor) -> list[Prediction | str]:
    """A prediction a text; when one makes the batch fail, each alone, and the culprit's error."""
    if not texts:
        return []
    try:
        return list(predictor.predict(texts))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (a bad row is recorded, it does not stop the rest)
        if len(texts) == 1:
            return [f"the model failed on this text: {type(error).__name__}"]
        first = error
    alone = [found for text in texts for found in _predicted([text], predictor)]
    if all(isinstance(found, str) for found in alone):
        raise ArtifactError(
            f"the model failed on all {len(texts)} texts of a shard: {type(first).__name__}: "
            f"{first}; it is the model or its engine that is broken: make it again"
        ) from first
    return alone


def _columns(found: Prediction) -> Json:
    return {"label": found.label, "score": float(found.score)}
