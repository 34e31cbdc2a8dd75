"""Which record of which file every token comes from.

Beside the arrays of a shard lies `documents-00000.parquet`, one row a document:

    place   int64   its place in the corpus part, as in the shard's rows or pieces
    id      string  its id in the Corpus
    source  string  the raw file's name, and
    row     int64   the record in it
    offset  int64   the byte where that record starts, where the Corpus says so

`trace` names the origin of each range of tokens of a row.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.tokens.shards import Tokens, documents_file

SCHEMA = pa.schema(
    {
        "place": pa.int64(),
        "id": pa.string(),
        "source": pa.string(),
        "row": pa.int64(),
        "offset": pa.int64(),
    }
)
ORIGIN = ("id", "source", "row", "offset")
ROW_GROUP = 10_000  # fixed, because it shapes the bytes

Record = dict[str, Any]


class Origin(NamedTuple):
    """Tokens `start` to `end` of a row, which are those from `first` on of a document."""

    start: int
    end: int
    first: int
    id: str
    source: str
    row: int
    offset: int | None


def parquet(records: Iterable[Record]) -> bytes:
    """The file of a shard's documents."""
    stream = pa.BufferOutputStream()
    table = pa.Table.from_pylist(list(records), SCHEMA)
    pq.write_table(table, stream, row_group_size=ROW_GROUP, compression="zstd")
    return bytes(stream.getvalue().to_pybytes())


def trace(tokens: Tokens, number: int) -> list[Origin]:
    """Where each piece of row `number` comes from, in the row's order."""
    pieces = tokens.pieces(number)
    file = Path(tokens.folder, documents_file(tokens.shard_of(number)))
    wanted = sorted({piece.place for piece in pieces})
    found = pq.read_table(file, filters=[("place", "in", wanted)]).to_pylist()
    by_place = {record["place"]: record for record in found}
    return [
        Origin(
            piece.start,
            piece.end,
            piece.first,
            *(by_place[piece.place][name] for name in ORIGIN),
        )
        for piece in pieces
    ]
