"""The columns of a Corpus's files, and tables of them -> Parquet bytes that repeat exactly."""

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP = 1000  # rows; fixed, because it shapes the bytes
WORK = ".work/read"  # the folder of the parts between the two passes

DATA = pa.schema(
    {
        "id": pa.string(),
        "text": pa.string(),
        "label": pa.string(),
        "language": pa.string(),
        "split": pa.string(),
        "source": pa.string(),
        "row": pa.int64(),
    }
)
"""`data/`: kept documents, in the order of sorted source files, then rows."""

REJECTED = pa.schema(
    {
        "id": pa.string(),
        "reason": pa.string(),
        "rule": pa.string(),
        "value": pa.float64(),
        "threshold": pa.float64(),
        "into": pa.string(),
        "jaccard": pa.float64(),
        "language": pa.string(),
        "text": pa.string(),
    }
)
"""`rejected/`: documents left out. `reason` is `empty`, `language`, the name of the rule set,
`merged:exact` or `merged:near`; `into` is the id of the document that stays for a merged one."""

QUARANTINE = pa.schema(
    {"source": pa.string(), "row": pa.int64(), "offset": pa.int64(), "reason": pa.string()}
)
"""`quarantine/`: records that cannot be read. `offset` is a byte of the decompressed file."""

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
        "masked": pa.string(),  # JSON: personal data replaced, by type
        "fingerprint": pa.binary(16),
        "bands": pa.list_(pa.uint64()),
    }
)
"""Every record read, between the two passes; never committed."""

MERGED = pa.schema(
    {
        "part": pa.int64(),
        "index": pa.int64(),
        "into": pa.string(),
        "jaccard": pa.float64(),
        "exact": pa.bool_(),
    }
)
"""Which rows of the working parts repeat which document; never committed."""


def part(folder: str, number: int) -> str:
    """The name of a part's file."""
    return f"{folder}/part-{number:05d}.parquet"


def parquet(rows: list[dict[str, object]], schema: pa.Schema) -> bytes:
    """A Parquet file of rows."""
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(rows, schema)
    pq.write_table(table, sink, row_group_size=ROW_GROUP, compression="zstd", compression_level=3)
    return bytes(sink.getvalue())


def read(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """The table in a Parquet file's bytes."""
    return pq.read_table(pa.BufferReader(data), columns=columns, use_threads=False)
