"""Raw files -> documents, one at a time; a bad record is quarantined and the rest is read on.

A `Slice` is a run of rows of one file, so that several tasks share a large one. Memory is bounded
by one chunk and one document (at most `MAX_BYTES`), whatever the file decompresses to.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.errors import DataError
from pipelines.corpus.python_docs import docstrings
from pipelines.corpus.sources import RawFile, filesystem

MAX_BYTES = 10 << 20  # of one document; a larger one is a broken export, not prose
CHUNK = 1 << 16  # bytes decompressed at a time: a torn file loses less than this before the tear
BATCH_ROWS = 1024  # Parquet rows decoded at a time
BYTES_A_DOCSTRING = 2000  # of source, measured over 19 packages: 1,500 to 3,500

_CODECS = {".gz": "gzip", ".zst": "zstd"}


@dataclass(frozen=True)
class Document:
    """A text as read: from file `source`, row `row` (line, Parquet row or docstring, from 0)."""

    source: str
    row: int
    text: str
    label: str | None = None


@dataclass(frozen=True)
class Quarantined:
    """A record that cannot be read, and why; `offset` is its byte in the decompressed file."""

    source: str
    row: int
    offset: int
    reason: str


@dataclass(frozen=True)
class Slice:
    """`rows` rows of a file from `row`, which begins at byte `offset`.

    The `last` slice is read to the end of the file, and so meets the tear of a truncated one.
    """

    raw: RawFile
    row: int
    rows: int
    offset: int
    last: bool


def slices(raw: RawFile, rows: int) -> list[Slice]:
    """A file cut into slices of `rows` rows; a Python file's are estimated from its size.

    JSON lines are read through once to find where the rows begin.
    """
    match raw.format:
        case "jsonl":
            starts, total = _starts(raw, rows)
        case "parquet":
            total = _parquet_rows(raw)
            starts = [0] * max(1, -(-total // rows))
        case "python":
            starts, total = [0], 1 + raw.size // BYTES_A_DOCSTRING
        case "text":
            starts, total = [0], 1
    return [
        Slice(raw, index * rows, min(rows, total - index * rows), offset, index == len(starts) - 1)
        for index, offset in enumerate(starts)
    ]


def documents(part: Slice) -> Iterator[Document | Quarantined]:
    """Each document of a slice, or what is wrong with it."""
    match part.raw.format:
        case "jsonl":
            return _jsonl(part)
        case "parquet":
            return _parquet(part)
        case "python":
            return _python(part.raw)
        case "text":
            return _text(part.raw)


def _jsonl(part: Slice) -> Iterator[Document | Quarantined]:
    name, row, offset = part.raw.name, part.row, part.offset
    try:
        for row, (offset, line) in enumerate(_lines(part.raw, part.offset), part.row):
            if row == part.row + part.rows and not part.last:
                return
            if line is None:
                yield Quarantined(name, row, offset, _too_long())
            elif line.strip():
                yield _record(part.raw, row, offset, line)
    except OSError as error:  # truncated or corrupt compression
        _refuse_unreachable(part.raw, error)
        yield Quarantined(name, row + 1, offset, f"unreadable from here on: {error}")


def _record(raw: RawFile, row: int, offset: int, line: bytes) -> Document | Quarantined:
    try:
        data = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        return Quarantined(raw.name, row, offset, f"not JSON: {error.msg}")
    if not isinstance(data, dict):
        return Quarantined(raw.name, row, offset, f"a JSON {type(data).__name__}, not an object")
    return _document(raw, row, offset, data)


def _document(raw: RawFile, row: int, offset: int, data: dict[str, Any]) -> Document | Quarantined:
    for field in [raw.text] if raw.label is None else [raw.text, raw.label]:
        if field not in data:
            return Quarantined(raw.name, row, offset, f"no field {field!r}; it has {sorted(data)}")
    text, label = data[raw.text], data[raw.label] if raw.label else None
    if not isinstance(text, str):
        kind = type(text).__name__
        return Quarantined(raw.name, row, offset, f"field {raw.text!r} is {kind}, expected string")
    if label is not None and not isinstance(label, str | int):
        kind = type(label).__name__
        return Quarantined(
            raw.name, row, offset, f"field {raw.label!r} is {kind}, expected string or integer"
        )
    return Document(raw.name, row, text, None if label is None else str(label))


def _parquet(part: Slice) -> Iterator[Document | Quarantined]:
    raw, row = part.raw, part.row
    columns = [raw.text] if raw.label is None else [raw.text, raw.label]
    try:
        with _open(raw) as stream:
            names = _names(stream)
            if missing := [name for name in columns if name not in names]:
                reason = f"no column {missing[0]!r}; it has {sorted(names)}"
                yield Quarantined(raw.name, row, 0, reason)
                return
            # As a dictionary, 4 GiB of one repeated string (a 523-byte file) stays one string.
            file = pq.ParquetFile(stream, read_dictionary=[raw.text])
            for row, values in _rows(file, part, columns):
                yield _cell(raw, row, values)
    except (OSError, pa.ArrowException) as error:
        _refuse_unreachable(raw, error)
        yield Quarantined(raw.name, row, 0, f"not readable Parquet: {error}")


def _names(stream: Any) -> list[str]:
    return list(pq.ParquetFile(stream).schema_arrow.names)


def _rows(file: Any, part: Slice, columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
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
    for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=columns):
        for index in range(batch.num_rows):
            if part.row <= row < end:
                yield row, {name: batch.column(name)[index] for name in columns}
            row += 1


def _cell(raw: RawFile, row: int, values: dict[str, Any]) -> Document | Quarantined:
    text = values[raw.text]
    if isinstance(text, pa.DictionaryScalar) and text.is_valid:
        text = text.value
    buffer = text.as_buffer() if hasattr(text, "as_buffer") else None
    if buffer is not None and buffer.size > MAX_BYTES:
        return Quarantined(raw.name, row, 0, _too_long())
    try:
        plain = {name: scalar.as_py() for name, scalar in values.items()}
    except UnicodeDecodeError as error:
        return Quarantined(raw.name, row, 0, f"not UTF-8: {error.reason} at byte {error.start}")
    return _document(raw, row, 0, plain)


def _text(raw: RawFile) -> Iterator[Document | Quarantined]:
    try:
        with _open(raw) as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            yield Quarantined(raw.name, 0, 0, _too_long())
        else:
            yield Document(raw.name, 0, str(data, "utf-8-sig"))
    except UnicodeDecodeError as error:
        yield Quarantined(raw.name, 0, error.start, f"not UTF-8: {error.reason}")
    except OSError as error:
        _refuse_unreachable(raw, error)
        yield Quarantined(raw.name, 0, 0, f"not readable: {error}")


def _python(raw: RawFile) -> Iterator[Document | Quarantined]:
    if raw.size > MAX_BYTES:
        yield Quarantined(raw.name, 0, 0, _too_long())
        return
    try:
        with _open(raw) as stream:
            texts = docstrings(stream.read())
    except (SyntaxError, ValueError, RecursionError) as error:
        yield Quarantined(raw.name, 0, 0, f"not Python: {type(error).__name__}")
        return
    except OSError as error:
        _refuse_unreachable(raw, error)
        raise
    for row, text in enumerate(texts):
        yield Document(raw.name, row, text, raw.label)


def _starts(raw: RawFile, rows: int) -> tuple[list[int], int]:
    """The byte at which every `rows`-th line begins, and the number of lines."""
    starts, total = [0], 0
    try:
        for total, (offset, _) in enumerate(_lines(raw), 1):
            if total > 1 and total % rows == 1 % rows:
                starts.append(offset)
    except OSError as error:  # the reader of the last slice meets it again and records it
        _refuse_unreachable(raw, error)
    return starts, total


def _parquet_rows(raw: RawFile) -> int:
    try:
        with _open(raw) as stream:
            return int(pq.ParquetFile(stream).metadata.num_rows)
    except (OSError, pa.ArrowException) as error:  # the reader records it
        _refuse_unreachable(raw, error)
        return 0


def _refuse_unreachable(raw: RawFile, error: Exception) -> None:
    """Stop the step where it is not the file's content that is wrong.

    Corrupt data has no error number, while a missing file, a lost mount or a refused permission
    has one. A remote read gives none for a lost connection either, so there every error stops.

    Raises:
        DataError: the file cannot be reached from here; recorded as bad rows, the loss would last.
    """
    if isinstance(error, OSError) and (error.errno is not None or "://" in raw.location):
        raise DataError(
            f"{raw.location}: cannot be read here: {error}; make sure that every node sees it, "
            "then run the same command: finished parts are kept"
        ) from error


def _lines(raw: RawFile, start: int = 0) -> Iterator[tuple[int, bytes | None]]:
    """(byte offset, line without its end) from byte `start`; None for a line over `MAX_BYTES`."""
    with _open(raw) as stream:
        _skip(stream, start)
        offset, held, size = start, b"", 0
        while chunk := stream.read(CHUNK):
            *ended, rest = chunk.split(b"\n")
            for piece in ended:
                size += len(piece)
                yield offset, None if size > MAX_BYTES else held + piece
                offset, held, size = offset + size + 1, b"", 0
            size += len(rest)
            held = b"" if size > MAX_BYTES else held + rest
        if size:
            yield offset, None if size > MAX_BYTES else held


def _skip(stream: Any, count: int) -> None:
    if isinstance(stream, pa.CompressedInputStream):
        for done in itertools.count(0, CHUNK):
            if done >= count:
                return
            stream.read(min(CHUNK, count - done))
    stream.seek(count)


def _open(raw: RawFile) -> Any:
    system, path = filesystem(raw.location)
    stream = system.open_input_file(path)
    codec = next((_CODECS[suffix] for suffix in _CODECS if path.endswith(suffix)), None)
    return pa.CompressedInputStream(stream, codec) if codec else stream


def _too_long() -> str:
    return f"longer than {MAX_BYTES:,} bytes"
