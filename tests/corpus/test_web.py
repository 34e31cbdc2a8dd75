"""WARC and WET: the records FastWARC finds on sound files, and no silence on damaged ones."""

import gzip
import io
import itertools
import zlib

import brotli
import pytest
from fastwarc.warc import ArchiveIterator

from pipelines.corpus import web
from pipelines.corpus.readers import documents, slices
from pipelines.corpus.records import Document
from pipelines.corpus.sources import Files, expand

HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
LIMIT = 1 << 20


def record(block, kind=b"response", length=None):
    length = len(block) if length is None else length
    head = b"WARC/1.0\r\nWARC-Type: %s\r\nContent-Length: %s\r\n\r\n"
    return head % (kind, str(length).encode()) + block + b"\r\n\r\n"


def page(body, headers=b""):
    return record(HTTP + headers + b"\r\n" + body)


def read(data):
    """The text or the fault of each page."""
    found = []
    for item in web.records(io.BytesIO(data), 0, LIMIT):
        try:
            found.append(web.page(item, LIMIT))
        except ValueError as error:
            found.append(f"! {error}")
    return found


def test_only_pages_are_documents():
    assert read(
        record(b"software: x", b"warcinfo")
        + record(b"GET / HTTP/1.1\r\n\r\n", b"request")
        + page(b"hello")
        + record(b"HTTP/1.1 404 Not Found\r\n\r\nlost")
        + record(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n\x89PNG")
        + record("from a WET 文".encode(), b"conversion")
    ) == [None, None, "hello", None, None, "from a WET 文"]


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        (b"gzip", gzip.compress),
        (b"deflate", zlib.compress),
        (b"deflate", lambda body: zlib.compress(body)[2:-4]),
        (b"br", brotli.compress),
        (b"gzip", lambda body: body),  # unpacked already, as some crawlers do
    ],
)
def test_content_codings_are_undone(coding, pack):
    assert read(page(pack(b"hello"), b"Content-Encoding: " + coding + b"\r\n")) == ["hello"]


def test_chunks_are_joined_unless_they_were():
    chunked = b"Transfer-Encoding: chunked\r\n"
    assert read(page(b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", chunked)) == ["hello"]
    assert read(page(b"hello", chunked)) == ["hello"]
    assert read(page(b"3\r\nhel\r\nZZ\r\nlo", chunked)) == ["! chunked transfer coding is broken"]
    assert read(page(b"FF\r\nhel", chunked)) == ["! chunked transfer coding is cut short"]


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br"])
def test_a_packed_bomb_is_cut_where_it_passes_the_limit(coding):
    pack = {b"gzip": gzip.compress, b"deflate": zlib.compress, b"br": brotli.compress}[coding]
    bomb = page(pack(b"x" * (LIMIT * 20)), b"Content-Encoding: " + coding + b"\r\n")
    assert read(bomb + page(b"next")) == ["! longer than 1,048,576 bytes", "next"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (record(b"HTTP/1.1 200 OK\r\n\r\nx", length=10_000), "cut short: "),
        (
            record(b"HTTP/1.1 200 OK\r\n\r\nx", length=60),
            "Content-Length is not where the record ends: 60",
        ),
        (
            record(b"HTTP/1.1 200 OK\r\n\r\nxyz", length=3),
            "Content-Length is not where the record ends: 3",
        ),
        (record(b"x", length=-5), "Content-Length is no number: '-5'"),
        (record(b"x", length="abc"), "Content-Length is no number: 'abc'"),
        (record(b"x", length=10**12), "longer than 1,048,576 bytes"),
        (record(b"x", length=10**30), "longer than 1,048,576 bytes"),
        (record(b"garbage, no HTTP\r\n\r\n"), "not an HTTP response"),
        (b"garbage\r\n" * 20, "not a WARC record"),
        (b"WARC/1.0\r\n" + b"A: b\r\n" * 20_000, "not a WARC record"),
        (page(b"\x1f\x8bbroken", b"Content-Encoding: gzip\r\n"), "content coding gzip is broken"),
        (page(b"a\0b"), "binary: it has NUL bytes"),
    ],
)
def test_a_bad_record_is_told_and_the_next_is_read(bad, reason):
    before, fault, after = read(page(b"before") + bad + page(b"after"))
    assert (before, after) == ("before", "after")
    assert fault.startswith(f"! {reason}")


@pytest.mark.parametrize("rows", [1, 2, 5, 100])
@pytest.mark.parametrize("name", ["f.warc", "f.warc.gz", "f.wet.gz"])
def test_every_cut_gives_the_same_pages(tmp_path, name, rows):
    pages = [page(b"text %d" % number) for number in range(7)]
    begins = [0, *itertools.accumulate(map(len, pages))]
    packed = b"".join(map(gzip.compress, pages)) if name.endswith("gz") else b"".join(pages)
    (tmp_path / name).write_bytes(packed)
    (raw,) = expand((Files(paths=(str(tmp_path / name),)),))
    assert [found for part in slices(raw, rows) for found in documents(part)] == [
        Document(name, number, f"text {number}", offset=begins[number]) for number in range(7)
    ]


@pytest.mark.parametrize("name", ["chatnoir-resiliparse-warcfile", "dolma-sample-0000"])
def test_real_archives_have_the_records_that_fastwarc_finds(shared_data, name):
    path = shared_data / f"html/warc/{name}.warc.gz"
    with gzip.open(path) as stream:
        ours = [found.block for found in web.records(stream, 0, 10 << 20)]
    with path.open("rb") as stream:
        theirs = [found.reader.read() for found in ArchiveIterator(stream, parse_http=False)]
    assert ours == theirs
    (raw,) = expand((Files(paths=(str(path),)),))
    whole = [found for part in slices(raw, 10**6) for found in documents(part)]
    assert whole == [found for part in slices(raw, 30) for found in documents(part)]
    assert sum(isinstance(found, Document) for found in whole) > 5
