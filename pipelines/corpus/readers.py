"""Raw files -> documents, one at a time; a bad record is quarantined and the rest is read on.

A `Slice` is a run of rows of one file, so that several tasks share a large one. Memory is bounded
by one chunk and one document (at most `MAX_BYTES`), whatever the file decompresses to; so is time,
by `BOMB` bytes without a record. What a header or footer claims is never allocated unchecked.
"""

import csv
import itertools
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.errors import DataError
from pipelines.corpus import pages, web
from pipelines.corpus.encoding import declared_charset, decoded, page_text
from pipelines.corpus.extract import extract
from pipelines.corpus.python_docs import docstrings
from pipelines.corpus.sources import RawFile, filesystem

MAX_BYTES = 10 << 20  # of one document; a larger one is a broken export, not prose
ROWS_A_BYTE, MAX_ROWS = 100_000, 1 << 32  # one repeated value takes 20,000 rows a byte
CHUNK = 1 << 16  # bytes decompressed at a time: a torn file loses less than this before the tear
BOMB = 1 << 30  # bytes of one record: no export has it, and a bomb's rest is not worth the hours
MAX_LINE = (
    1000  # characters of a line of code; longer ones mark minified files and data (StarCoder,
)
# Li et al. 2023, section 3.1)
FOOTER = 100 << 20  # bytes of one name or list of a Parquet footer
BINARY_HEAD = 8000  # bytes in which a NUL makes a file binary, as git's buffer_is_binary has it
BYTES_A_DOCSTRING = 2000  # of source, measured over 19 packages: 1,500 to 3,500

_CODECS = {".gz": "gzip", ".zst": "zstd"}
T = TypeVar("T")
csv.field_size_limit(MAX_BYTES)  # Python's own limit is 128 KiB, less than a long article


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

    JSON lines, CSV and WARC files are read through once to find where the rows begin.
    """
    match raw.format:
        case "jsonl":
            starts, total = _starts(raw, rows, _lines)
        case "csv":
            starts, total = _starts(raw, rows, _csv_rows)
        case "warc":
            starts, total = _starts(raw, rows, _records)
        case "parquet":
            total = _parquet_rows(raw)
            starts = [0] * max(1, -(-total // rows))
        case "python":
            starts, total = [0], 1 + raw.size // BYTES_A_DOCSTRING
        case "text" | "html" | "code":
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
        case "csv":
            return _csv(part)
        case "warc":
            return _warc(part)
        case "text" | "html" | "code":
            return _whole(part.raw)


def _jsonl(part: Slice) -> Iterator[Document | Quarantined]:
    for row, offset, line in _within(part, _lines(part.raw, part.offset)):
        if isinstance(line, Quarantined):
            yield line
        elif line is None:
            yield Quarantined(part.raw.name, row, offset, _too_long())
        elif line.strip():
            yield _record(part.raw, row, offset, line)


def _within(
    part: Slice, found: Iterator[tuple[int, T]]
) -> Iterator[tuple[int, int, T | Quarantined]]:
    """(row, offset, what is there) of a slice's rows; Quarantined from where it is unreadable."""
    row, offset = part.row, part.offset
    try:
        for row, (offset, item) in enumerate(found, part.row):
            if row == part.row + part.rows and not part.last:
                return
            yield row, offset, item
    except (OSError, _BombError) as error:  # truncated or corrupt compression
        _refuse_unreachable(part.raw, error)
        reason = f"unreadable from here on: {error}"
        yield row + 1, offset, Quarantined(part.raw.name, row + 1, offset, reason)


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
            if reason := _misfit(_footer(stream).schema_arrow, columns):
                yield Quarantined(raw.name, row, 0, reason)
                return
            # As a dictionary, 4 GiB of one repeated string (a 523-byte file) stays one string.
            # Delta-coded strings have no such decoder; they are decoded a few rows at a time.
            file = _footer(stream)
            _claimed(raw, file)
            if not pages.has_deltas(file.metadata):
                file = _footer(stream, read_dictionary=[raw.text])
            for row, values in _rows(file, stream, part, columns):
                yield _cell(raw, row, values)
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        _refuse_unreachable(raw, error)
        yield Quarantined(raw.name, row, 0, f"not readable Parquet: {error}")


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
            return f"no column {name!r}; it has {sorted(schema.names)}"
        if pa.types.is_nested(kind := schema.field(name).type):
            return f"column {name!r} is {str(kind)[:100]}, expected string"
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


def _csv(part: Slice) -> Iterator[Document | Quarantined]:
    raw, header = part.raw, _csv_header(part.raw)
    for row, offset, line in _within(part, _csv_rows(raw, part.offset)):
        if isinstance(line, Quarantined):
            yield line
        elif line is None:
            reason = f"a row, or an unclosed quote, of more than {MAX_BYTES:,} bytes"
            yield Quarantined(raw.name, row, offset, reason)
        elif line.strip():
            yield _csv_record(raw, row, offset, header, line)


def _csv_record(
    raw: RawFile, row: int, offset: int, header: list[str], line: bytes
) -> Document | Quarantined:
    try:
        fields = _fields(raw, line)
    except (ValueError, csv.Error) as error:
        return Quarantined(raw.name, row, offset, f"not CSV: {error}")
    if len(fields) != len(header):
        reason = f"{len(fields)} fields, and the header has {len(header)}"
        return Quarantined(raw.name, row, offset, reason)
    return _document(raw, row, offset, dict(zip(header, fields, strict=True)))


def _csv_header(raw: RawFile) -> list[str]:
    try:
        _, line = next(_quoted(raw, 0), (0, b""))
        return _fields(raw, line or b"")
    except (OSError, ValueError, csv.Error, _BombError) as error:
        _refuse_unreachable(raw, error)
        return []  # every row then has too many fields, and says so


def _fields(raw: RawFile, line: bytes) -> list[str]:
    mark = "\t" if ".tsv" in raw.name else ","
    rows = list(csv.reader([decoded(line)], delimiter=mark, strict=True))
    return rows[0] if rows else []


def _csv_rows(raw: RawFile, start: int = 0) -> Iterator[tuple[int, bytes | None]]:
    """(byte offset, row) of each row but the header; a row may hold lines within quotes."""
    return itertools.islice(_quoted(raw, start), 0 if start else 1, None)


def _quoted(raw: RawFile, start: int) -> Iterator[tuple[int, bytes | None]]:
    """Lines joined while a quote is open, to at most `MAX_BYTES`."""
    held: list[bytes] = []
    begun = size = quotes = 0
    for offset, line in _lines(raw, start):
        if not held:
            begun, size, quotes = offset, 0, 0
        held.append(line or b"")
        size += MAX_BYTES + 1 if line is None else len(line) + 1
        quotes += 0 if line is None else line.count(b'"')
        if quotes % 2 == 0 or size > MAX_BYTES:
            yield begun, None if size > MAX_BYTES else b"\n".join(held)
            held = []
    if held and size:
        yield begun, b"\n".join(held)


def _records(raw: RawFile, start: int = 0) -> Iterator[tuple[int, web.Record]]:
    with _open(raw) as stream:
        _skip(stream, start)
        for record in web.records(stream, start, MAX_BYTES):
            yield record.offset, record


def _warc(part: Slice) -> Iterator[Document | Quarantined]:
    name = part.raw.name
    for row, offset, record in _within(part, _records(part.raw, part.offset)):
        if isinstance(record, Quarantined):
            yield record
            continue
        try:
            text = web.page(record, MAX_BYTES)
        except ValueError as error:
            yield Quarantined(name, row, offset, str(error))
        else:
            if text is not None:
                yield Document(name, row, text)


def _whole(raw: RawFile) -> Iterator[Document | Quarantined]:
    """A file that is one document: text, a web page or source code."""
    label = raw.label if raw.format == "code" else None
    try:
        with _open(raw) as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            yield Quarantined(raw.name, 0, 0, _too_long())
        else:
            yield Document(raw.name, 0, _as_text(raw, data), label)
    except ValueError as error:
        yield Quarantined(raw.name, 0, 0, str(error))
    except OSError as error:
        _refuse_unreachable(raw, error)
        yield Quarantined(raw.name, 0, 0, f"not readable: {error}")


def _as_text(raw: RawFile, data: bytes) -> str:
    match raw.format:
        case "html":
            return extract(page_text(data, declared_charset(data)))
        case "code":
            if b"\0" in data[:BINARY_HEAD]:
                raise ValueError("binary: it has NUL bytes")
            text = decoded(data)
            if (longest := max(map(len, text.split("\n")))) > MAX_LINE:
                raise ValueError(f"minified or data: a line of {longest:,} characters")
            return text
        case _:
            return decoded(data)


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


def _starts(
    raw: RawFile, rows: int, read: Callable[[RawFile], Iterator[tuple[int, object]]]
) -> tuple[list[int], int]:
    """The byte at which every `rows`-th row begins, and the number of rows."""
    starts, total = [0], 0
    try:
        for total, (offset, _) in enumerate(read(raw), 1):
            if total > 1 and total % rows == 1 % rows:
                starts.append(offset)
    except (
        OSError,
        _BombError,
    ) as error:  # the reader of the last slice meets it again and records it
        _refuse_unreachable(raw, error)
    return starts, total


def _parquet_rows(raw: RawFile) -> int:
    try:
        with _open(raw) as stream:
            return _claimed(raw, _footer(stream))
    except (OSError, ValueError, pa.ArrowException) as error:  # the reader records it
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
            if size > BOMB:
                raise _BombError(f"a record of more than {BOMB:,} bytes")
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
    """The file's stream, decompressed.

    Raises:
        DataError: it is no regular file; opening a pipe would wait for ever.
    """
    system, path = filesystem(raw.location)
    if "://" not in raw.location and not stat.S_ISREG(Path(path).stat().st_mode):
        raise DataError(f"{path}: not a regular file; name files or folders of files")
    stream = system.open_input_file(path)
    codec = next((_CODECS[suffix] for suffix in _CODECS if path.endswith(suffix)), None)
    return pa.CompressedInputStream(stream, codec) if codec else stream


class _BombError(Exception):
    """More bytes without a record than any real file has."""


def _too_long() -> str:
    return f"longer than {MAX_BYTES:,} bytes"
