"""The columns of a Corpus's files, and tables of them -> Parquet bytes that repeat exactly."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]

ROW_GROUP, CHARS = 1000, 1 << 25  # of a row group; fixed, because they shape the bytes
WORK, NAMED, KEYED, DECIDED = ".work/read", ".work/names", ".work/keys", ".work/merged"
"""Folders of the parts between the two passes: records, their ids, their keys, what repeats."""

DATA = pa.schema(
    {
        "id": pa.string(),
        "text": pa.string(),
        "label": pa.string(),
        "language": pa.string(),
        "split": pa.string(),
        "source": pa.string(),
        "row": pa.int64(),
        "offset": pa.int64(),
        "epoch": pa.int32(),
    }
)
"""`data/`: kept documents, in the order of sorted source files, then rows. A document of a source
whose weight is above 1 follows itself, with `epoch` 0, 1, 2... `offset` is the byte of the
decompressed file where its record begins; null for Parquet rows and docstrings."""

REJECTED = pa.schema(
    {
        "id": pa.string(),
        "reason": pa.string(),
        "rule": pa.string(),
        "value": pa.float64(),
        "threshold": pa.float64(),
        "into": pa.string(),
        "jaccard": pa.float64(),
        "shared": pa.int64(),
        "language": pa.string(),
        "text": pa.string(),
    }
)
"""`rejected/`: documents left out. `reason` is `empty` (as read, or what the rules leave of it),
`language`, the name of the rule set, `quality`, `contaminated`, `sampled`, `merged:exact`,
`merged:near`, `repeated:paragraphs` or `repeated:lines`. For a merged one `into` is the id
of the document that stays, `jaccard` and `shared` the evidence: the part and the number of their
word n-grams that are in both. For a contaminated one `into` is the evaluation item, `value` the
share of it that the text repeats."""

QUARANTINE = pa.schema(
    {
        "source": pa.string(),
        "row": pa.int64(),
        "offset": pa.int64(),
        "reason": pa.string(),
        "detail": pa.string(),
    }
)
"""`quarantine/`: records that cannot be read. `offset` is a byte of the decompressed file, `reason`
one of few, and `detail` what is particular to the record, cut and without personal data."""

WORKING = pa.schema(
    {
        "status": pa.string(),  # candidate, rejected or quarantined
        "source": pa.string(),
        "row": pa.int64(),
        "offset": pa.int64(),
        "before": pa.string(),  # the text as read, of a few that the cleaner changed
        "text": pa.string(),
        "label": pa.string(),
        "language": pa.string(),
        "reason": pa.string(),
        "rule": pa.string(),
        "value": pa.float64(),
        "threshold": pa.float64(),
        "detail": pa.string(),  # of a quarantined one
        "into": pa.string(),  # the evaluation item that a contaminated text repeats
        "masked": pa.string(),  # JSON: personal data replaced, by type
        "split": pa.string(),  # of one that passed the rules, as is `taken`
        "taken": pa.int32(),  # how often its source's weight takes it
    }
)
"""Every record read, between the two passes; never committed."""

NAMES = pa.schema({"source": pa.string(), "row": pa.int64()})
"""The id of every record read, by its row in the part; never committed."""

KEYS = pa.schema(
    {"index": pa.int64(), "fingerprint": pa.binary(16), "bands": pa.list_(pa.uint64())}
)
"""What the duplicates of each candidate are found by, and its row in the part; never committed."""

MERGED = pa.schema(
    {
        "index": pa.int64(),
        "kept": pa.int64(),  # part << 32 | row in the part
        "jaccard": pa.float64(),
        "shared": pa.int64(),
        "exact": pa.bool_(),
    }
)
"""Which rows of a part repeat which document; never committed."""


def part(folder: str, number: int) -> str:
    """The name of a part's file."""
    return f"{folder}/part-{number:05d}.parquet"


class Writer:
    """Rows, one at a time -> a Parquet file's bytes that repeat exactly.

    Holds the file and the rows of one group: at most `ROW_GROUP`, of some `CHARS` characters.
    """

    def __init__(self, columns: pa.Schema) -> None:
        self._columns, self._sink = columns, pa.BufferOutputStream()
        self._file = pq.ParquetWriter(self._sink, columns, compression="zstd", compression_level=3)
        self._rows: list[Row] = []
        self._chars = 0

    def add(self, row: Row) -> None:
        """One more row."""
        self._rows.append({name: row.get(name) for name in self._columns.names})
        self._chars += len(str(row.get("text") or ""))
        if len(self._rows) == ROW_GROUP or self._chars > CHARS:
            self._flush()

    def done(self) -> bytes:
        """The file; nothing may be added after."""
        if self._rows:
            self._flush()
        self._file.close()
        return bytes(self._sink.getvalue())

    def _flush(self) -> None:
        self._file.write_table(pa.Table.from_pylist(self._rows, self._columns))
        self._rows, self._chars = [], 0


def parquet(rows: list[Row], columns: pa.Schema) -> bytes:
    """A Parquet file of rows."""
    writer = Writer(columns)
    for row in rows:
        writer.add(row)
    return writer.done()


def read(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """The table in a Parquet file's bytes."""
    return pq.read_table(pa.BufferReader(data), columns=columns, use_threads=False)


def rows(data: bytes, columns: list[str] | None = None) -> Iterator[Row]:
    """The rows in a Parquet file's bytes, a group at a time."""
    file = pq.ParquetFile(pa.BufferReader(data))
    for group in range(file.num_row_groups):
        yield from file.read_row_group(group, columns=columns, use_threads=False).to_pylist()


def count(data: bytes) -> int:
    """How many rows a Parquet file's bytes have."""
    return int(pq.read_metadata(pa.BufferReader(data)).num_rows)
