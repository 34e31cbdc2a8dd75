"""Raw files -> documents, one at a time; a bad record is quarantined and the rest is read on.

A `Slice` is a run of rows of one file, so that several tasks share a large one. How each format is
read is in `delimited.py`, `parquet.py`, `web.py` and, for the rest, here.
"""

import sys
from collections.abc import Iterator

import orjson

from pipelines.corpus import delimited, parquet, web
from pipelines.corpus.encoding import declared_charset, decoded, page_text
from pipelines.corpus.extract import extract
from pipelines.corpus.python_docs import docstrings
from pipelines.corpus.records import Document, Quarantined, Slice, document
from pipelines.corpus.sources import RawFile
from pipelines.corpus.streams import (
    MAX_BYTES,
    cut,
    lines,
    opened,
    refuse_unreachable,
    skip,
    too_long,
    within,
)

# Characters of a line of code; longer ones mark minified files and data (StarCoder, Li et al. 2023,
# section 3.1).
MAX_LINE = 1000
BINARY_HEAD = 8000  # bytes in which a NUL makes a file binary, as git's buffer_is_binary has it
BYTES_A_DOCSTRING = 2000  # of source, measured over 19 packages: 1,500 to 3,500


def slices(raw: RawFile, rows: int, size: int = sys.maxsize) -> list[Slice]:
    """A file cut into slices of `rows` rows or `size` bytes, whichever is less.

    JSON lines, CSV and WARC files are read through once to find where the rows begin; a Python
    file's rows are estimated from its size.
    """
    match raw.format:
        case "jsonl":
            return cut(raw, rows, size, lines)
        case "csv":
            return cut(raw, rows, size, delimited.rows)
        case "warc":
            return cut(raw, rows, size, _records)
        case "parquet":
            return parquet.slices(raw, rows, size)
        case "python":
            docstrings = 1 + raw.size // BYTES_A_DOCSTRING
            return [Slice(raw, 0, docstrings, 0, last=True, size=raw.size)]
        case "text" | "html" | "code":
            return [Slice(raw, 0, 1, 0, last=True, size=raw.size)]


def documents(part: Slice) -> Iterator[Document | Quarantined]:
    """Each document of a slice, or what is wrong with it."""
    match part.raw.format:
        case "jsonl":
            return _jsonl(part)
        case "parquet":
            return parquet.documents(part)
        case "python":
            return _python(part.raw)
        case "csv":
            return delimited.documents(part)
        case "warc":
            return _warc(part)
        case "text" | "html" | "code":
            return _whole(part.raw)


def _jsonl(part: Slice) -> Iterator[Document | Quarantined]:
    for row, offset, line in within(part, lines(part.raw, part.offset)):
        if isinstance(line, Quarantined):
            yield line
        elif line is None:
            yield Quarantined(part.raw.name, row, offset, too_long())
        elif line.strip():
            yield _record(part.raw, row, offset, line)


def _record(raw: RawFile, row: int, offset: int, line: bytes) -> Document | Quarantined:
    try:
        data = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        return Quarantined(raw.name, row, offset, f"not JSON: {error.msg}")
    if not isinstance(data, dict):
        return Quarantined(raw.name, row, offset, f"a JSON {type(data).__name__}, not an object")
    return document(raw, row, offset, data)


def _records(raw: RawFile, start: int = 0) -> Iterator[tuple[int, web.Record]]:
    with opened(raw) as stream:
        skip(stream, start)
        for record in web.records(stream, start, MAX_BYTES):
            yield record.offset, record


def _warc(part: Slice) -> Iterator[Document | Quarantined]:
    name = part.raw.name
    for row, offset, record in within(part, _records(part.raw, part.offset)):
        if isinstance(record, Quarantined):
            yield record
            continue
        try:
            text = web.page(record, MAX_BYTES)
        except ValueError as error:
            yield Quarantined(name, row, offset, str(error))
        else:
            if text is not None:
                yield Document(name, row, text, offset=offset)


def _whole(raw: RawFile) -> Iterator[Document | Quarantined]:
    """A file that is one document: text, a web page or source code."""
    label = raw.label if raw.format == "code" else None
    try:
        with opened(raw) as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            yield Quarantined(raw.name, 0, 0, too_long())
        else:
            yield Document(raw.name, 0, _as_text(raw, data), label, 0)
    except ValueError as error:
        yield Quarantined(raw.name, 0, 0, str(error))
    except OSError as error:
        refuse_unreachable(raw, error)
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
        yield Quarantined(raw.name, 0, 0, too_long())
        return
    try:
        with opened(raw) as stream:
            texts = docstrings(stream.read())
    except (SyntaxError, ValueError, RecursionError) as error:
        yield Quarantined(raw.name, 0, 0, f"not Python: {type(error).__name__}")
        return
    except OSError as error:
        refuse_unreachable(raw, error)
        raise
    for row, text in enumerate(texts):
        yield Document(raw.name, row, text, raw.label)
