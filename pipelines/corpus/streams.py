"""A raw file -> its bytes and lines, decompressed, within bounds whatever the file claims.

Memory is bounded by one chunk and one line (at most `MAX_BYTES`), time by `BOMB` bytes without a
record.
"""

import itertools
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from pipelines.core.errors import DataError
from pipelines.corpus.listing import filesystem
from pipelines.corpus.records import Quarantined, Slice
from pipelines.corpus.sources import RawFile

MAX_BYTES = 10 << 20  # of one document; a larger one is a broken export, not prose
CHUNK = 1 << 16  # bytes decompressed at a time: a torn file loses less than this before the tear
BOMB = 1 << 30  # bytes of one record: no export has it, and a bomb's rest is not worth the hours

# Slices of a compressed file, each of which unpacks all before it: ten cost 5.5 times one reading.
MOST_PACKED = 10

_CODECS = {".gz": "gzip", ".zst": "zstd"}
T = TypeVar("T")


def opened(raw: RawFile) -> Any:
    """The file's stream, decompressed.

    Raises:
        DataError: it is no regular file; opening a pipe would wait for ever.
    """
    system, path = filesystem(raw.location)
    if "://" not in raw.location and not stat.S_ISREG(Path(path).stat().st_mode):
        raise DataError(f"{path}: not a regular file; name files or folders of files")
    stream = system.open_input_file(path)
    codec = _codec(path)
    return pa.CompressedInputStream(stream, codec) if codec else stream


def _codec(path: str) -> str | None:
    return next((_CODECS[suffix] for suffix in _CODECS if path.endswith(suffix)), None)


def lines(raw: RawFile, start: int = 0) -> Iterator[tuple[int, bytes | None]]:
    """(byte offset, line without its end) from byte `start`; None for a line over `MAX_BYTES`."""
    with opened(raw) as stream:
        skip(stream, start)
        offset, held, size = start, b"", 0
        while chunk := stream.read(CHUNK):
            *ended, rest = chunk.split(b"\n")
            for piece in ended:
                size += len(piece)
                yield offset, None if size > MAX_BYTES else held + piece
                offset, held, size = offset + size + 1, b"", 0
            size += len(rest)
            if size > BOMB:
                raise BombError(f"a record of more than {BOMB:,} bytes")
            held = b"" if size > MAX_BYTES else held + rest
        if size:
            yield offset, None if size > MAX_BYTES else held


def head(raw: RawFile, size: int) -> bytes:
    """The first `size` bytes, or those before a tear."""
    data = b""
    try:
        with opened(raw) as stream:
            while len(data) < size and (chunk := stream.read(min(CHUNK, size - len(data)))):
                data += chunk
    except OSError as error:  # the reader of the rows meets it again and records it
        refuse_unreachable(raw, error)
    return data


def cut(
    raw: RawFile, rows: int, size: int, read: Callable[[RawFile], Iterator[tuple[int, object]]]
) -> list[Slice]:
    """A file that is read through, cut where `rows` rows or `size` bytes are full.

    A compressed one is cut at no more than every n-th of these places, for there is no way into it.
    """
    starts, row, end = [(0, 0)], -1, 0
    try:
        for row, (offset, item) in enumerate(read(raw)):
            end = offset + (len(item) if isinstance(item, bytes) else 0)
            if row - starts[-1][0] >= rows or offset - starts[-1][1] >= size:
                starts.append((row, offset))
    except (OSError, BombError) as error:  # the last slice's reader meets it again and records it
        refuse_unreachable(raw, error)
    if _codec(filesystem(raw.location)[1]):
        starts = starts[:: -(-len(starts) // MOST_PACKED)]
    ends = [*starts[1:], (row + 1, max(end, raw.size))]
    return [
        Slice(raw, start[0], stop[0] - start[0], start[1], start == starts[-1], stop[1] - start[1])
        for start, stop in zip(starts, ends, strict=True)
    ]


def within(
    part: Slice, found: Iterator[tuple[int, T]]
) -> Iterator[tuple[int, int, T | Quarantined]]:
    """(row, offset, what is there) of a slice's rows; Quarantined from where it is unreadable."""
    row, offset = part.row - 1, part.offset
    try:
        for row, (offset, item) in enumerate(found, part.row):
            if row == part.row + part.rows and not part.last:
                return
            yield row, offset, item
    except (OSError, BombError) as error:  # truncated or corrupt compression
        refuse_unreachable(part.raw, error)
        reason = f"unreadable from here on: {error}"
        yield row + 1, offset, Quarantined(part.raw.name, row + 1, offset, reason)


def refuse_unreachable(raw: RawFile, error: Exception) -> None:
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


class BombError(Exception):
    """More bytes without a record than any real file has."""


def too_long() -> str:
    """Why a record is not read whole."""
    return f"longer than {MAX_BYTES:,} bytes"


def skip(stream: Any, count: int) -> None:
    """Go to byte `count`, by reading where the stream cannot seek."""
    if isinstance(stream, pa.CompressedInputStream):
        for done in itertools.count(0, CHUNK):
            if done >= count:
                return
            stream.read(min(CHUNK, count - done))
    stream.seek(count)
