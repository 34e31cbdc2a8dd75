"""Parquet files -> documents; what a footer claims is never allocated unchecked."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.corpus import pages
from pipelines.corpus.records import Document, Quarantined, Slice, document
from pipelines.corpus.sources import RawFile
from pipelines.corpus.streams import MAX_BYTES, opened, refuse_unreachable, too_long

ROWS_A_BYTE, MAX_ROWS = 100_000, 1 << 32  # one repeated value takes 20,000 rows a byte
FOOTER = 100 << 20  # bytes of one name or list of a Parquet footer


def slices(raw: RawFile, rows: int, size: int) -> list[Slice]:
    """A file cut every `rows` rows, or fewer if these are more than `size` bytes unpacked.

    Never fewer than a tenth: a row group is unpacked for every slice that touches it.
    """
    total, unpacked = _measured(raw)
    mean = max(1, unpacked // max(1, total))
    rows = min(rows, max(size // mean, -(-rows // 10)))
    count = max(1, -(-total // rows))
    return [
        Slice(raw, n * rows, min(rows, total - n * rows), 0, n == count - 1, rows * mean)
        for n in range(count)
    ]


def documents(part: Slice) -> Iterator[Document | Quarantined]:
    """Each document of a slice, or what is wrong with its row or with the file."""
    raw, following = part.raw, part.row
    columns = [raw.text] if raw.label is None else [raw.text, raw.label]
    try:
        with opened(raw) as stream:
            if reason := _misfit(_footer(stream).schema_arrow, columns):
                yield Quarantined(raw.name, following, 0, reason)
                return
            # As a dictionary, 4 GiB of one repeated string (a 523-byte file) stays one string.
            # Delta-coded strings have no such decoder; they are decoded a few rows at a time.
            file = _footer(stream)
            _claimed(raw, file)
            if not pages.has_deltas(file.metadata):
                file = _footer(stream, read_dictionary=[raw.text])
            for row, values in _rows(file, stream, part, columns):
                following = row + 1
                yield _cell(raw, row, values)
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        refuse_unreachable(raw, error)
        yield Quarantined(raw.name, following, 0, f"not readable Parquet: {error}")


def _measured(raw: RawFile) -> tuple[int, int]:
    """Rows, and bytes of the text column unpacked, as the footer has them."""
    try:
        with opened(raw) as stream:
            file = _footer(stream)
            groups = map(file.metadata.row_group, range(file.num_row_groups))
            columns = (group.column(n) for group in groups for n in range(group.num_columns))
            texts = (column for column in columns if column.path_in_schema == raw.text)
            return _claimed(raw, file), sum(column.total_uncompressed_size for column in texts)
    except (OSError, ValueError, pa.ArrowException) as error:  # the reader records it
        refuse_unreachable(raw, error)
        return 0, 0


def _footer(stream: Any, **options: Any) -> Any:
    return pq.ParquetFile(
        stream, thrift_string_size_limit=FOOTER, thrift_container_size_limit=FOOTER, **options
    )


def _claimed(raw: RawFile, file: Any) -> int:
    """The rows that a footer claims.

    Raises:
        ValueError: more than the file can hold.
    """
    rows = int(file.metadata.num_rows)
    if rows > min(ROWS_A_BYTE * raw.size, MAX_ROWS):
        raise ValueError(f"its footer claims {rows:,} rows, the file has {raw.size:,} bytes")
    return rows


def _misfit(schema: Any, columns: list[str]) -> str | None:
    """Why a file's columns are not those to read."""
    for name in columns:
        if name not in schema.names:
            return f"no column {name!r}: it has {sorted(schema.names)}"
        if pa.types.is_nested(kind := schema.field(name).type):
            return f"column {name!r} is not of strings: it is {str(kind)[:100]}"
    return None


def _rows(
    file: Any, stream: Any, part: Slice, columns: list[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row, its Arrow scalars), from the row groups that the slice touches."""
    end = part.row + part.rows
    first, groups, skipped = 0, [], 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if first < end and first + count > part.row:
            groups.append(group)
        elif first + count <= part.row:
            skipped += count
        first += count
    row = skipped
    size = pages.batch_rows(stream, file.metadata, groups, columns)
    for batch in file.iter_batches(size, row_groups=groups, columns=columns, use_threads=False):
        for index in range(batch.num_rows):
            if row >= end:
                return
            if row >= part.row:
                yield row, {name: batch.column(name)[index] for name in columns}
            row += 1


def _cell(raw: RawFile, row: int, values: dict[str, Any]) -> Document | Quarantined:
    text = values[raw.text]
    if isinstance(text, pa.DictionaryScalar) and text.is_valid:
        text = text.value
    buffer = text.as_buffer() if hasattr(text, "as_buffer") else None
    if buffer is not None and buffer.size > MAX_BYTES:
        return Quarantined(raw.name, row, 0, too_long())
    try:
        plain = {name: scalar.as_py() for name, scalar in values.items()}
    except UnicodeDecodeError as error:
        return Quarantined(raw.name, row, 0, f"not UTF-8: {error.reason} at byte {error.start}")
    return document(raw, row, None, plain)
