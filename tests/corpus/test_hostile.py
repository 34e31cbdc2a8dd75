"""Hostile files: each is read rightly or quarantined with its reason, and memory stays bounded.

All are read by one fresh process, which tells what came of each file and how far its memory rose.
"""

import bz2
import gzip
import json
import os
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipelines.core.errors import DataError
from pipelines.corpus.sources import Code, Files, expand

MIB = 1 << 20
GOOD = b'{"text": "good"}\n'
READ = "read"  # what is expected where all is well: documents and nothing quarantined


def gzip_bomb(path, mib, lines=False):
    """A member of zeros, or of as many good lines as fit, made without holding it."""
    piece = GOOD * (MIB // len(GOOD)) if lines else b"0" * MIB
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for _ in range(mib):
            stream.write(piece)


def zstd_bomb(path, mib):
    with path.open("wb") as raw, zstandard.ZstdCompressor(3).stream_writer(raw) as stream:
        for _ in range(mib):
            stream.write(b"0" * MIB)


def flipped(data, place):
    changed = bytearray(data)
    changed[place] ^= 0xFF
    return bytes(changed)


def warc(body, length=None, head=b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"):
    block = head + body
    size = str(len(block) if length is None else length).encode()
    return b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: %s\r\n\r\n%s\r\n\r\n" % (
        size,
        block,
    )


def parquet(table, **options):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


def similar(count, mib):
    """Long strings that differ in their last byte: packed they are nothing, unpacked they are."""
    return pa.table(
        {"text": pa.array([b"x" * (mib * MIB) + b"%d" % n for n in range(count)]).cast("string")}
    )


LINES = GOOD * 3000
GZIP = gzip.compress(b"".join(b'{"text": "%d"}\n' % (n * 7919**3) for n in range(5000)), mtime=0)
ZSTD = zstandard.compress(LINES)


def claiming(data, rows):
    """The file of 100 rows whose footer claims `rows`: both are zigzag varints of field 3."""
    size = struct.unpack("<I", data[-8:-4])[0]
    varint, left = b"", 2 * rows
    while left > 127:
        varint, left = varint + bytes([left % 128 + 128]), left // 128
    footer = data[-8 - size : -8].replace(b"\x16\xc8\x01", b"\x16" + varint + bytes([left]))
    return data[: -8 - size] + footer + struct.pack("<I", len(footer)) + b"PAR1"


FINE = parquet(pa.table({"text": ["good"] * 100}))
PAGE = b"<p>" + b"A sentence of some words which are enough. " * 20

# name: (bytes, reason that a quarantined record must give, or READ)
FILES: dict[str, tuple[bytes, str]] = {
    "empty.jsonl": (b"", "nothing"),
    "empty.jsonl.gz": (b"", "nothing"),
    "empty.parquet": (b"", "not readable Parquet"),
    "empty.csv": (b"", "nothing"),
    "empty.warc": (b"", "nothing"),
    "empty.html": (b"", READ),
    "newlines.jsonl": (b"\n" * 100_000, "nothing"),
    "nul.jsonl": (b"\0" * 1000 + b"\n" + GOOD, "not JSON"),
    "nul-in-text.jsonl": (b'{"text": "a\\u0000b"}\n', READ),
    "deep.jsonl": (b'{"text":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "not JSON"),
    "deep-open.jsonl": (b"[" * MIB + b"\n" + GOOD, "not JSON"),
    "twice.jsonl": (b'{"text": "a", "text": "b"}\n', READ),
    "surrogate.jsonl": (b'{"text": "\\ud800"}\n', "not JSON"),
    "number.jsonl": (b'{"text": 1e999}\n', "not JSON"),
    "digits.jsonl": (b'{"text": ' + b"9" * 100_000 + b"}\n", "not JSON|field 'text' is float"),
    "bom.jsonl": (b"\xef\xbb\xbf" + GOOD, READ),
    "utf16.jsonl": (GOOD.decode().encode("utf-16"), "not JSON"),
    "latin.jsonl": (b'{"text": "caf\xe9"}\n', "not JSON"),
    "overlong.jsonl": (b'{"text": "\xc0\xaf"}\n', "not JSON"),
    "huge-line.jsonl": (b'{"text": "' + b"x" * (30 * MIB) + b'"}\n' + GOOD, "longer than"),
    "huge-key.jsonl": (b'{"' + b"k" * (9 * MIB) + b'": 1}\n' + GOOD, "no field 'text'"),
    "many-keys.jsonl": (
        b"{" + b",".join(b'"%d":1' % n for n in range(200_000)) + b"}\n",
        "no field 'text'",
    ),
    "carriage.jsonl": (GOOD.replace(b"\n", b"\r\n") * 3, READ),
    "members.jsonl.gz": (gzip.compress(GOOD) * 3, READ),
    "garbage-after.jsonl.gz": (gzip.compress(GOOD) + b"garbage" * 99, "unreadable from here on"),
    "crc.jsonl.gz": (flipped(GZIP, -6), "unreadable from here on"),
    "length.jsonl.gz": (flipped(GZIP, -2), "unreadable from here on"),
    "flipped.jsonl.gz": (flipped(GZIP, len(GZIP) // 2), "unreadable from here on|not JSON"),
    "header.jsonl.gz": (flipped(GZIP, 0), "unreadable from here on"),
    "not-gzip.jsonl.gz": (LINES, "unreadable from here on"),
    "bzip.jsonl.gz": (bz2.compress(LINES), "unreadable from here on"),
    "second-torn.jsonl.gz": (gzip.compress(GOOD) + GZIP[:-400], "unreadable from here on"),
    **{
        f"cut-{cut}.jsonl.gz": (GZIP[: len(GZIP) * cut // 10], "unreadable") for cut in range(1, 10)
    },
    **{f"cut-{cut}.jsonl.zst": (ZSTD[: len(ZSTD) * cut // 3], "unreadable") for cut in (1, 2)},
    "frames.jsonl.zst": (zstandard.compress(GOOD) * 3, READ),
    "flipped.jsonl.zst": (flipped(ZSTD, 6), "unreadable from here on|not JSON"),
    "text.parquet": (b"PAR1 but no Parquet PAR1", "not readable Parquet"),
    "cut.parquet": (FINE[:-20], "not readable Parquet"),
    "footer-huge.parquet": (FINE[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1", "not readable Pa"),
    "footer-zero.parquet": (FINE[:-8] + struct.pack("<I", 0) + b"PAR1", "not readable Parquet"),
    "footer-junk.parquet": (FINE[:-60] + b"\xff" * 52 + FINE[-8:], "not readable Parquet"),
    "rows-claimed.parquet": (claiming(FINE, 2**50), "its footer claims 1,125,899,906,842,624 rows"),
    "page-junk.parquet": (FINE[:4] + b"\xff" * 40 + FINE[44:], "not readable Parquet"),
    "nested.parquet": (
        parquet(pa.table({"text": [[["x"]]]})),
        "column 'text' is not of strings: it is list",
    ),
    "struct.parquet": (
        parquet(pa.table({"text": [{"a": "x"}]})),
        "column 'text' is not of strings: it is struct",
    ),
    "null.parquet": (parquet(pa.table({"text": [None, "x"]})), "field 'text' is NoneType"),
    "binary.parquet": (parquet(pa.table({"text": [b"\xff\xfe"]})), "field 'text' is bytes"),
    "repeated.parquet": (
        parquet(pa.table({"text": pa.array(["x" * MIB] * 600)}), compression="zstd"),
        READ,
    ),
    "quote.csv": (b'text\n"never closed\n' + b"line\n" * 100, "not CSV"),
    "quote-huge.csv": (b'text\n"' + (b"line " * 50 + b"\n") * 80_000, "an unclosed quote"),
    "field.csv": (b"text\n" + b"x" * (11 * MIB) + b"\nlast\n", "a row, or an unclosed quote"),
    "nul.csv": (b"text\na\0b\nlast\n", "not CSV"),
    "ragged.csv": (b"text,label\na\na,b,c\na,b\n", "fields as the header: .*, expected 2"),
    "columns.csv": (b"," * 500_000 + b"\n1\n", "fields as the header: 1, expected 500001"),
    "utf16.csv": ("text\nhello\n".encode("utf-16"), "not CSV|fields|no field"),
    "headless.csv": (b"a,b\n1,2\n", "no field 'text'"),
    "binary.txt": (bytes(range(256)) * 100, "binary"),
    "big.txt": (b"x" * (11 * MIB), "longer than"),
    "utf16.txt": ("any text".encode("utf-16"), READ),
    "utf16-odd.txt": ("any text".encode("utf-16") + b"x", "not utf-16"),
    "utf32-cut.txt": (b"\xff\xfe\0\0a", "not utf-32"),
    "controls.txt": (b"\x81\x8d\x8f\x90\x9d\x1b\x01", "not UTF-8"),
    "nested.html": (b"<div>" * 100_000 + b"x", "too many tags"),
    "nested-less.html": (b"<div>" * 10_000 + b"x", "nested deeper than"),
    "nested-tables.html": (b"<table><tr><td>" * 5000 + b"x", "nested deeper than"),
    "nested-open.html": (b"<b><i><a href=x><font>" * 3000 + PAGE, "nested deeper than"),
    "attributes.html": (b"<p " + b"a=1 " * 500_000 + b">" + PAGE, READ),
    "attribute.html": (b'<p class="' + b"x" * (3 * MIB) + b'">' + PAGE, READ),
    "entities.html": (b"&amp;" * 500_000, READ),
    "entity.html": (b"&#" + b"9" * MIB + b";", READ),
    "doctype.html": (b'<!DOCTYPE x [<!ENTITY a "&b;&b;">]>' + PAGE, READ),
    "comment.html": (b"<!--" * 30_000 + PAGE, READ),
    "less-than.html": (b"<" * MIB, "too many tags"),
    "big.html": (b"<p>x y z</p>" * 500_000, "too long an HTML page"),
    "charset.html": (b"<meta charset=no-such-charset>" + PAGE + b"\xe9", READ),
    "charset-zlib.html": (b"<meta charset=zlib>" + PAGE + b"\xe9", READ),
    "charset-idna.html": (b"<meta charset=idna>" + PAGE + b"\xe9", READ),
    "nul.html": (b"\0" + PAGE, "binary"),
    "long.warc": (warc(b"a") + warc(b"x", 10**12) + warc(b"b"), "longer than"),
    "short.warc": (warc(b"a") + warc(b"xyz" * 9, 70) + warc(b"b"), "is not where the record ends"),
    "negative.warc": (warc(b"x", -1) + warc(b"b"), "no number"),
    "cut.warc": (warc(b"a") + warc(b"x" * 1000)[:-500], "cut short"),
    "no-header.warc": (b"x" * (3 * MIB) + b"\r\n" + warc(b"b"), "not a WARC record"),
    "headers.warc": (b"WARC/1.0\r\n" + b"A: b\r\n" * 50_000 + warc(b"b"), "not a WARC record"),
    "chunks.warc": (
        warc(
            b"5\r\nhello\r\nFFFFFFFF\r\nx",
            None,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        "chunked transfer coding",
    ),
    "packed.warc": (
        warc(
            gzip.compress(b"x" * 30 * MIB),
            None,
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
        ),
        "longer than",
    ),
    "member.warc.gz": (
        gzip.compress(warc(b"a")) + gzip.compress(warc(b"b" * 999))[:-30],
        "unreadable",
    ),
    "crc.warc.gz": (
        gzip.compress(warc(b"a")) + flipped(gzip.compress(warc(b"b")), -6),
        "unreadable",
    ),
    "..%2f..%2fetc%2fpasswd.txt": (b"only a name", READ),
    "line\nbreak.txt": (b"only a name", READ),
}


def make(folder):
    """Write every file; returns the reason expected of each."""
    for name, (data, _) in FILES.items():
        (folder / name).write_bytes(data)
    expected = {name: reason for name, (_, reason) in FILES.items()}
    gzip_bomb(folder / "bomb.jsonl.gz", 1500)
    gzip_bomb(folder / "bomb.csv.gz", 1500)
    gzip_bomb(folder / "bomb.warc.gz", 100)
    zstd_bomb(folder / "bomb.jsonl.zst", 1500)
    expected |= {
        "bomb.jsonl.gz": "unreadable from here on: a record of more than",
        "bomb.csv.gz": "unreadable from here on: a record of more than",
        "bomb.jsonl.zst": "unreadable from here on: a record of more than",
        "bomb.warc.gz": "not a WARC record",
    }
    page = {"compression": "zstd", "use_dictionary": False, "data_page_size": 1 << 30}
    (folder / "page.parquet").write_bytes(parquet(similar(90, 1), write_batch_size=1000, **page))
    expected["page.parquet"] = "a page unpacks to"
    rows = {"use_dictionary": False, "compression": "zstd", "data_page_size": MIB}
    (folder / "rows.parquet").write_bytes(parquet(similar(400, 2), write_batch_size=1, **rows))
    expected["rows.parquet"] = READ
    delta = {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}}
    (folder / "delta.parquet").write_bytes(parquet(similar(300, 3), compression="zstd", **delta))
    expected["delta.parquet"] = READ
    return expected


CHILD = """
import json, resource, sys, time
from pathlib import Path
from pipelines.corpus.readers import documents, slices
from pipelines.corpus.records import Document
from pipelines.corpus.sources import Files, expand

def outcome(path):
    (raw,) = expand((Files(paths=(str(path),)),))
    count, reasons = 0, set()
    for part in slices(raw, 1000):
        for record in documents(part):
            if isinstance(record, Document):
                count += 1
            else:
                assert record.source == raw.name and record.offset >= 0
                reasons.add(record.reason)
    return {"documents": count, "reasons": sorted(reasons)}

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

folder = Path(sys.argv[1])
warm = folder / "warm.html"  # loads what is loaded once
warm.write_bytes(b"<p>short")
outcome(warm)
warm.unlink()
base, found = peak_mib(), {}
for path in sorted(folder.iterdir()):
    began = time.process_time()
    seen = outcome(path)
    found[path.name] = seen | {"seconds": time.process_time() - began, "rise": peak_mib() - base}
print(json.dumps({"files": found, "rise": peak_mib() - base}))
"""


@pytest.fixture(scope="module")
def survived(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    expected = make(folder)
    command = [sys.executable, "-c", CHILD, str(folder)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return expected, json.loads(done.stdout)


def test_at_least_sixty_hostile_files_cost_at_most_512_mib(survived):
    expected, found = survived
    assert len(expected) == len(found["files"]) >= 60
    assert found["rise"] <= 512


def test_each_hostile_file_is_read_or_quarantined_with_its_reason(survived):
    expected, found = survived
    wrong = {}
    for name, reason in expected.items():
        seen = found["files"][name]
        fine = {
            READ: seen["documents"] > 0 and not seen["reasons"],
            "nothing": not seen["documents"] and not seen["reasons"],
        }.get(reason, any(re.search(reason, given) for given in seen["reasons"]))
        if not fine:
            wrong[name] = (reason, seen)
    assert not wrong


def test_no_hostile_file_takes_more_than_thirty_seconds(survived):
    slow = {name: seen["seconds"] for name, seen in survived[1]["files"].items()}
    assert {name: took for name, took in slow.items() if took > 30} == {}


def test_what_is_no_file_is_passed_by_in_a_folder(tmp_path):
    (tmp_path / "good.jsonl").write_bytes(GOOD)
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.jsonl"))
        assert [raw.name for raw in expand((Files(paths=(str(tmp_path),)),))] == ["good.jsonl"]


@pytest.mark.parametrize("name", ["pipe.jsonl", "folder.jsonl"])
def test_what_is_no_file_is_refused_when_it_is_named(tmp_path, name):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(DataError, match=r"no such file|cannot be read"):
        expand((Files(paths=(str(tmp_path / name),)),))


def test_links_out_of_the_folder_and_in_circles_are_not_followed(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    for folder in (outside, inside):
        folder.mkdir()
    (outside / "secret.jsonl").write_bytes(GOOD)
    (inside / "good.jsonl").write_bytes(GOOD)
    (inside / "loop").symlink_to(inside)
    (inside / "out").symlink_to(outside)
    (inside / "link.jsonl").symlink_to(outside / "secret.jsonl")
    (inside / "self.jsonl").symlink_to(inside / "self.jsonl")
    (inside / "gone.jsonl").symlink_to(inside / "nowhere")
    for source in (Files(paths=(str(inside),)), Files(paths=(str(inside / "**/*.jsonl"),))):
        assert [raw.name for raw in expand((source,))] == ["good.jsonl"]
    code = Code(paths=(str(inside),), suffixes=(".jsonl",))
    assert [raw.name for raw in expand((code,))] == ["good.jsonl"]
