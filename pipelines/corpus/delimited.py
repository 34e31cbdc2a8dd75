"""CSV and TSV files -> documents; a row may hold lines within quotes.

All rows of a file are read in one encoding, which its first bytes tell, whichever slice is read.
"""

import codecs
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
    raw, charset = part.raw, lines_encoding(_whole_lines(head(part.raw, HEAD)))
    try:
        header = _header(raw, charset)
    except (ValueError, csv.Error) as error:
        if part.row == 0:  # once, for all its rows
            yield Quarantined(raw.name, 0, 0, f"not CSV, from its header on: {error}")
        return
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
    """The names of the fields; none if the bytes end or break off before.

    Raises:
        ValueError: no names can be told.
        csv.Error: likewise.
    """
    try:
        _, line = next(_quoted(raw, 0), (0, b""))
    except (OSError, BombError) as error:  # whoever reads the rows meets it again and records it
        refuse_unreachable(raw, error)
        return []
    if line is None:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    return _fields(raw, charset, line)


def _whole_lines(data: bytes) -> bytes:
    """The beginning of a file without the line that it was cut in, if there is another."""
    return data if len(data) < HEAD else data.rpartition(b"\n")[0] or data


def _fields(raw: RawFile, charset: str, line: bytes) -> list[str]:
    if b"\0" in line:
        raise ValueError("binary, or UTF-16: it has NUL bytes; save it as UTF-8")
    try:
        text = line.decode(charset)
    except UnicodeDecodeError as error:
        reason = f"not {charset}, which its file is in: {error.reason} at byte {error.start}"
        raise ValueError(reason) from error
    found = list(csv.reader([text], delimiter=_mark(raw), strict=True))
    return found[0] if found else []


def _mark(raw: RawFile) -> str:
    return "\t" if ".tsv" in raw.name else ","


def _quoted(raw: RawFile, start: int) -> Iterator[tuple[int, bytes | None]]:
    """Lines joined while a quoted field is open, to at most `MAX_BYTES`."""
    mark = _mark(raw).encode()
    held: list[bytes] = []
    begun, size, open_field = start, 0, False
    for offset, line in lines(raw, start):
        if not held:
            begun, size = offset, 0
        held.append(line or b"")
        size += MAX_BYTES + 1 if line is None else len(line) + 1
        named = line if offset else (line or b"").removeprefix(codecs.BOM_UTF8)
        open_field = line is not None and is_open(named or b"", mark, open_field)
        if not open_field or size > MAX_BYTES:
            yield begun, None if size > MAX_BYTES else b"\n".join(held)
            held, open_field = [], False
    if held and size:
        yield begun, b"\n".join(held)


def is_open(line: bytes, mark: bytes, inside: bool) -> bool:
    """Whether a quoted field is open at the end of a line that begins `inside` one, or not.

    A quote opens a field at its very beginning alone (RFC 4180, section 2.5): one within, as an
    inch's, is a character like others. Within a quoted field two quotes are one character.
    """
    if not inside:
        line = mark + line
    place = 0
    while True:
        if inside:
            end = line.find(b'"', place)
            while end >= 0 and line.startswith(b'""', end):
                end = line.find(b'"', end + 2)
            if end < 0:
                return True
            inside, place = False, end + 1
        else:
            begin = line.find(mark + b'"', place)
            if begin < 0:
                return False
            inside, place = True, begin + 2
