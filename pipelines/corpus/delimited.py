"""CSV and TSV files -> documents; a row may hold lines within quotes.

All rows of a file are read in one encoding, which its first bytes tell, whichever slice is read.
"""

import csv
import itertools
from collections.abc import Iterator

from pipelines.corpus.encoding import lines_encoding
from pipelines.corpus.records import Document, Quarantined, Slice, document
from pipelines.corpus.sources import RawFile
from pipelines.corpus.streams import (
    MAX_BYTES,
    BombError,
    head,
    lines,
    refuse_unreachable,
    within,
)

HEAD = 1 << 20  # bytes that tell the encoding: of an English table few rows say anything

csv.field_size_limit(MAX_BYTES)  # Python's own limit is 128 KiB, less than a long article


def documents(part: Slice) -> Iterator[Document | Quarantined]:
    """Each document of a slice, or what is wrong with its row."""
    raw, charset = part.raw, lines_encoding(head(part.raw, HEAD))
    header = _header(raw, charset)
    for row, offset, line in within(part, rows(raw, part.offset)):
        if isinstance(line, Quarantined):
            yield line
        elif line is None:
            reason = f"a row, or an unclosed quote, of more than {MAX_BYTES:,} bytes"
            yield Quarantined(raw.name, row, offset, reason)
        elif line.strip():
            yield _record(raw, row, offset, charset, header, line)


def rows(raw: RawFile, start: int = 0) -> Iterator[tuple[int, bytes | None]]:
    """(byte offset, row) of each row but the header; a row may hold lines within quotes."""
    return itertools.islice(_quoted(raw, start), 0 if start else 1, None)


def _record(
    raw: RawFile, row: int, offset: int, charset: str, header: list[str], line: bytes
) -> Document | Quarantined:
    try:
        fields = _fields(raw, charset, line)
    except (ValueError, csv.Error) as error:
        return Quarantined(raw.name, row, offset, f"not CSV: {error}")
    if len(fields) != len(header):
        reason = f"not as many fields as the header: {len(fields)}, expected {len(header)}"
        return Quarantined(raw.name, row, offset, reason)
    return document(raw, row, offset, dict(zip(header, fields, strict=True)))


def _header(raw: RawFile, charset: str) -> list[str]:
    try:
        _, line = next(_quoted(raw, 0), (0, b""))
        return _fields(raw, charset, line or b"")
    except (OSError, ValueError, csv.Error, BombError) as error:
        refuse_unreachable(raw, error)
        return []  # every row then has too many fields, and says so


def _fields(raw: RawFile, charset: str, line: bytes) -> list[str]:
    if b"\0" in line:
        raise ValueError("binary, or UTF-16: it has NUL bytes; save it as UTF-8")
    try:
        text = line.decode(charset)
    except UnicodeDecodeError as error:
        reason = f"not {charset}, which its file is in: {error.reason} at byte {error.start}"
        raise ValueError(reason) from error
    mark = "\t" if ".tsv" in raw.name else ","
    found = list(csv.reader([text], delimiter=mark, strict=True))
    return found[0] if found else []


def _quoted(raw: RawFile, start: int) -> Iterator[tuple[int, bytes | None]]:
    """Lines joined while a quote is open, to at most `MAX_BYTES`."""
    held: list[bytes] = []
    begun = size = quotes = 0
    for offset, line in lines(raw, start):
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
