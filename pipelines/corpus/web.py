"""WARC and WET files -> the text of each page; bytes that are no record are reported.

The records are cut here, because FastWARC 0.16 ends without a word at a wrong Content-Length or a
torn gzip member and the pages behind are lost; on sound files both give the same payloads, which a
test shows. ISO 28500:2017 is the format; its section 4 has the grammar of a record.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import brotli

from pipelines.corpus.encoding import declared_charset, decoded, page_text
from pipelines.corpus.extract import extract

CHUNK = 1 << 16  # bytes read at a time
MAX_HEADER = 1 << 16  # bytes; crawlers write fewer than 2,000
MARK = b"WARC/"
_START = re.compile(rb"WARC/[01]\.\d\r?\n")
_EDGE = (b"", b"\n")  # what may stand before a record
_END = re.compile(rb"\r?\n\r?\n")
_TEXTS = frozenset({"text/html", "application/xhtml+xml", "text/plain", ""})
_CODINGS = frozenset({"gzip", "x-gzip", "deflate", "br"})


class Bytes(Protocol):
    """Where bytes are read from, in order."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


@dataclass(frozen=True)
class Record:
    """A record at byte `offset`: its header and block, or the `fault` that keeps it unread."""

    offset: int
    headers: dict[str, str]
    block: bytes
    fault: str | None = None


def records(stream: Bytes, start: int, max_bytes: int) -> Iterator[Record]:
    """Every record of a stream that stands at byte `start`, with blocks of at most `max_bytes`.

    After bytes that are no record, the next record is looked for.
    """
    window = _Window(stream, start)
    while window.skip_newlines():
        offset = window.offset
        head = window.through(_END, MAX_HEADER) if window.starts(MARK) else None
        if head is None:
            yield Record(offset, {}, b"", "not a WARC record")
            window.to_next_record(offset)
            continue
        headers = _headers(head)
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            yield Record(offset, headers, b"", f"Content-Length is no number: {length[:20]!r}")
            window.to_next_record(offset)
        elif len(length) > 18 or int(length) > max_bytes:
            yield Record(offset, headers, b"", f"longer than {max_bytes:,} bytes")
            window.to_next_record(offset)
        else:
            yield _block(window, offset, headers, int(length))


def page(record: Record, max_bytes: int) -> str | None:
    """The text of a record that holds a page; None for a record of another kind.

    Only answers with status 200 and a text type are pages.

    Raises:
        ValueError: the record is faulty, or its page cannot be decoded.
    """
    if record.fault:
        raise ValueError(record.fault)
    match record.headers.get("warc-type", "").lower():
        case "conversion":
            return decoded(record.block)
        case "response" | "resource":
            return _response(record, max_bytes)
    return None


def _response(record: Record, max_bytes: int) -> str | None:
    media, body = record.headers.get("content-type", ""), record.block
    kind = record.headers["warc-type"].lower()
    if kind == "response" or media.startswith("application/http"):
        head, end, body = _split(body)
        status = head.split(None, 2)[1:2]
        if not head.startswith(b"HTTP/") or not end:
            raise ValueError("not an HTTP response")
        if status != [b"200"]:
            return None
        headers = _headers(head)
        media = headers.get("content-type", "")
        if _media(media) not in _TEXTS:
            return None
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = _dechunked(body)
        body = _inflated(body, headers.get("content-encoding", "").lower(), max_bytes)
    if _media(media) not in _TEXTS:
        return None
    named = re.search(r"charset\s*=\s*[\"']?([\w:.-]+)", media, re.IGNORECASE)
    text = page_text(body, named[1] if named else declared_charset(body))
    return text if _media(media) == "text/plain" else extract(text)


def _split(data: bytes) -> tuple[bytes, bytes, bytes]:
    found = _END.search(data, 0, MAX_HEADER)
    return (data[: found.start()], found[0], data[found.end() :]) if found else (data, b"", b"")


def _media(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _headers(head: bytes) -> dict[str, str]:
    """Header fields by lower-case name; the first of a name counts."""
    fields: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return fields


def _dechunked(body: bytes) -> bytes:
    """RFC 9112, 7.1. Some archives keep the header though the body was joined: then as it is."""
    parts: list[bytes] = []
    place = 0
    while True:
        end = body.find(b"\n", place, place + 100)
        size = body[place:end].split(b";")[0].strip()
        if end < 0 or not re.fullmatch(rb"[0-9a-fA-F]{1,8}", size):
            if parts:
                raise ValueError("chunked transfer coding is broken")
            return body
        count = int(size, 16)
        if not count:
            return b"".join(parts)
        if end + 1 + count > len(body):
            raise ValueError("chunked transfer coding is cut short")
        parts.append(body[end + 1 : end + 1 + count])
        place = end + 1 + count
        place += 2 if body[place : place + 2] == b"\r\n" else 1


def _inflated(body: bytes, coding: str, max_bytes: int) -> bytes:
    """The body without its content coding, of which no more than `max_bytes` are unpacked."""
    if coding not in _CODINGS:
        return body
    if coding.endswith("gzip") and not body.startswith(b"\x1f\x8b"):
        return body  # unpacked by the crawler, which kept the header
    try:
        if coding == "br":
            unpacked = brotli.Decompressor().process(body, output_buffer_limit=max_bytes + 1)
        elif coding.endswith("gzip"):
            unpacked = zlib.decompressobj(31).decompress(body, max_bytes + 1)
        else:
            bits = 15 if body[:1] == b"\x78" else -15
            unpacked = zlib.decompressobj(bits).decompress(body, max_bytes + 1)
    except (zlib.error, brotli.error) as error:
        raise ValueError(f"content coding {coding} is broken: {error}") from error
    if len(unpacked) > max_bytes:
        raise ValueError(f"longer than {max_bytes:,} bytes")
    return bytes(unpacked)


def _block(window: "_Window", offset: int, headers: dict[str, str], length: int) -> Record:
    """The record whose header ends here, checked by what follows its block."""
    block, whole = window.take(length)
    if not whole:
        fault = f"cut short: {len(block):,} of {length:,} bytes"
    elif window.at_end_of_record():
        return Record(offset, headers, block)
    else:
        fault = f"Content-Length is not where the record ends: {length:,} bytes"
    window.put_back(block)
    window.to_next_record(offset)
    return Record(offset, headers, b"", fault)


class _Window:
    """The bytes of a stream from `offset` on, of which a bounded run is held."""

    def __init__(self, stream: Bytes, offset: int) -> None:
        self.stream, self.offset, self.held, self.ended = stream, offset, b"", False

    def fill(self, size: int) -> bool:
        """Whether `size` bytes are held, after reading for them."""
        parts, count = [self.held], len(self.held)
        while count < size and not self.ended:
            chunk = self.stream.read(CHUNK)
            self.ended = not chunk
            parts.append(chunk)
            count += len(chunk)
        self.held = b"".join(parts)
        return count >= size

    def drop(self, size: int) -> bytes:
        """The next `size` bytes, which are held."""
        taken, self.held = self.held[:size], self.held[size:]
        self.offset += len(taken)
        return taken

    def take(self, size: int) -> tuple[bytes, bool]:
        """The next `size` bytes, or those that are left, and whether they are all."""
        whole = self.fill(size)
        return self.drop(size), whole

    def put_back(self, data: bytes) -> None:
        self.held = data + self.held
        self.offset -= len(data)

    def skip_newlines(self) -> bool:
        """Whether anything comes after the line ends here."""
        while self.fill(1):
            rest = self.held.lstrip(b"\r\n")
            self.drop(len(self.held) - len(rest))
            if rest:
                return True
        return False

    def starts(self, mark: bytes) -> bool:
        """Whether `mark` comes next."""
        self.fill(len(mark))
        return self.held.startswith(mark)

    def through(self, end: re.Pattern[bytes], limit: int) -> bytes | None:
        """The bytes through the first match of `end`, unless it is further than `limit`."""
        for size in (4096, limit):
            self.fill(size)
            if found := end.search(self.held, 0, limit):
                return self.drop(found.end())
        return None

    def at_end_of_record(self) -> bool:
        """Whether two line ends, or the end of the file, come next."""
        self.fill(4)
        return not self.held.strip(b"\r\n") or _END.match(self.held) is not None

    def to_next_record(self, begun: int) -> None:
        """Skip to where a record starts, but not to the one that began at byte `begun`."""
        if self.offset == begun:
            self.fill(1)
            self.drop(1)
        while self.fill(CHUNK) or self.held:
            place = -1  # found by the word first: a regular expression would take 0.1 s a megabyte
            while (place := self.held.find(MARK, place + 1)) >= 0:
                if _START.match(self.held, place) and self.held[max(0, place - 1) : place] in _EDGE:
                    self.drop(place)
                    return
            self.drop(len(self.held) if self.ended else max(1, len(self.held) - 16))
