"""Readers: every format gives the same documents, and damage costs only the damaged record."""

import csv
import gzip
import io
import itertools
import tempfile
from pathlib import Path

import fsspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.errors import DataError
from pipelines.corpus.readers import documents, slices
from pipelines.corpus.records import Document, Quarantined, Slice
from pipelines.corpus.sources import Code, Files, PythonDocs, expand
from pipelines.corpus.streams import MAX_BYTES

ROWS = [{"text": f"text {number} 文", "label": number % 3} for number in range(25)]
LINES = b"".join(orjson.dumps(row) + b"\n" for row in ROWS)


def read(path, rows=10, **settings):
    source = Files(paths=(str(path),), **settings)
    cut = [part for raw in expand((source,)) for part in slices(raw, rows)]
    return [record for part in cut for record in documents(part)]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
@pytest.mark.parametrize("rows", [1, 7, 25, 100])
def test_every_format_and_every_cut_gives_the_same_documents(tmp_path, suffix, rows):
    path = tmp_path / f"f{suffix}"
    match suffix:
        case ".jsonl":
            path.write_bytes(LINES)
        case ".jsonl.gz":
            path.write_bytes(gzip.compress(LINES))
        case ".jsonl.zst":
            path.write_bytes(zstandard.compress(LINES))
        case _:
            pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=6)
    begins = [0, *itertools.accumulate(map(len, LINES.splitlines(keepends=True)))]
    assert read(path, rows, label="label") == [
        Document(
            path.name,
            number,
            row["text"],
            str(row["label"]),
            None if suffix == ".parquet" else begins[number],
        )
        for number, row in enumerate(ROWS)
    ]


def test_a_slice_ends_where_its_bytes_are_full(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_bytes(LINES)
    (raw,) = expand((Files(paths=(str(path),)),))
    found = slices(raw, 1000, 100)
    assert len(found) > 5
    assert all(part.size < 100 + len(LINES.splitlines()[-1]) + 1 for part in found)
    assert sum(part.size for part in found) == len(LINES)
    assert [record.row for part in found for record in documents(part)] == list(range(25))


def test_rows_of_parquet_are_cut_by_their_mean_size(tmp_path):
    path = tmp_path / "f.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS * 40), path)
    (raw,) = expand((Files(paths=(str(path),)),))
    found = slices(raw, 500, 1)  # never fewer than a tenth of 500
    assert [part.rows for part in found] == [50] * 20
    assert [record.row for part in found for record in documents(part)] == list(range(1000))


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_a_compressed_file_is_cut_into_ten_slices_at_most(tmp_path, suffix):
    """Each unpacks all that is before it: a cut every row would be quadratic in the file."""
    path = tmp_path / f"f{suffix}"
    path.write_bytes(gzip.compress(LINES) if suffix == ".jsonl.gz" else zstandard.compress(LINES))
    (raw,) = expand((Files(paths=(str(path),)),))
    found = slices(raw, 1)
    assert [part.rows for part in found] == [3] * 8 + [1]
    assert [part.last for part in found] == [False] * 8 + [True]
    assert [record.row for part in found for record in documents(part)] == list(range(25))


def test_a_slice_of_parquet_is_not_read_beyond_its_end(tmp_path):
    """Damage in the last page of a row group is met by the slice that has it alone."""
    path = tmp_path / "f.parquet"
    texts = [f"{number * 7919**3:x}" for number in range(20_000)]
    pq.write_table(pa.table({"text": texts}), path, compression="gzip", use_dictionary=False,
                   data_page_size=10_000)  # fmt: skip
    data = bytearray(path.read_bytes())
    end = len(data) * 9 // 10
    data[end : end + 20] = bytes(20)
    path.write_bytes(data)
    (raw,) = expand((Files(paths=(str(path),)),))
    first, *_, last = slices(raw, 2000)
    assert [record.text for record in documents(first)] == texts[:2000]
    assert any(isinstance(record, Quarantined) for record in documents(last))
    rows = [record.row for record in documents(Slice(raw, 0, 20_000, 0, last=True))]
    assert rows == list(range(len(rows)))  # the damage has a row of its own


@pytest.mark.parametrize("name", ["f.jsonl", "f.jsonl.gz", "f.parquet", "f.txt"])
def test_a_file_that_is_gone_stops_the_step_and_is_no_bad_row(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(LINES))
    (raw,) = expand((Files(paths=(str(path),)),))
    path.unlink()
    with pytest.raises(DataError, match=f"{name}: cannot be read here"):
        list(documents(Slice(raw, 0, 10, 0, last=True)))
    if raw.format != "text":  # which is not looked into to cut it
        with pytest.raises(DataError, match=f"{name}: cannot be read here"):
            slices(raw, 10)


def test_a_compressed_text_is_bounded_by_what_it_unpacks_to(tmp_path):
    path = tmp_path / "bomb.txt.gz"
    path.write_bytes(gzip.compress(b"x" * (MAX_BYTES + 1)))
    (bad,) = read(path, format="text")
    assert bad.reason == "longer than 10,485,760 bytes"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{bad json}", "not JSON"),
        (b"[1, 2]", "a JSON list, not an object"),
        (b'{"body": "x"}', "no field 'text': it has ['body']"),
        (b'{"text": 5}', "field 'text' is int, expected string"),
        (b'{"text": "\xff\xfe"}', "not JSON"),
        (b'{"text": "' + b"x" * MAX_BYTES + b'"}', "longer than 10,485,760 bytes"),
    ],
)
def test_a_bad_line_is_quarantined_with_its_place_and_the_rest_is_read(tmp_path, line, reason):
    path = tmp_path / "f.jsonl"
    first = b'{"text": "first"}\n\n'
    path.write_bytes(first + line + b'\n{"text": "last"}')
    before, bad, after = read(path)
    end = len(first) + len(line) + 1
    assert before == Document("f.jsonl", 0, "first", offset=0)
    assert after == Document("f.jsonl", 3, "last", offset=end)
    assert isinstance(bad, Quarantined)
    assert (bad.row, bad.offset) == (2, len(first))
    assert bad.reason.startswith(reason)


def test_what_cannot_be_unpacked_at_all_is_row_0(tmp_path):
    (tmp_path / "f.jsonl.gz").write_bytes(b"no gzip")
    (bad,) = read(tmp_path)
    assert (bad.row, bad.reason[:24]) == (0, "unreadable from here on:")


def test_a_truncated_gzip_keeps_what_comes_before_the_tear(tmp_path):
    path = tmp_path / "f.jsonl.gz"
    lines = b"".join(b'{"text": "%d"}\n' % (number * 7919**3) for number in range(50_000))
    path.write_bytes(gzip.compress(lines)[:-50_000])
    records = read(path, 1000)
    assert len(records) > 10_000
    assert all(isinstance(record, Document) for record in records[:-1])
    assert records[-1].reason.startswith("unreadable from here on: ")


def test_what_is_no_parquet_or_lacks_the_column_is_quarantined(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"not parquet")
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "b.parquet")
    torn, lacking = read(tmp_path)
    assert torn.reason.startswith("not readable Parquet")
    assert lacking.reason == "no column 'text': it has ['body']"


def test_a_parquet_cell_may_be_null_or_huge(tmp_path):
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"text": ["a", None, "x" * (MAX_BYTES + 1), "b"]}), path)
    first, null, huge, last = read(path)
    assert (first.text, last.text) == ("a", "b")
    assert null.reason == "field 'text' is NoneType, expected string"
    assert huge.reason.startswith("longer than")


def test_a_text_file_is_one_document_in_whatever_encoding(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffone\ntwo".encode())
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    (tmp_path / "c.md").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\x0d")
    one, latin, binary = read(tmp_path)
    assert one == Document("a.txt", 0, "one\ntwo", offset=0)
    assert latin.text == "café"
    assert binary.reason == "binary: it has NUL bytes"


TABLE = 'id,text\n1,"first, of ""two"" lines\nhere"\n2,second 文\n\n3,third\n'


@pytest.mark.parametrize("rows", [1, 2, 100])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_csv_rows_may_hold_lines_and_every_cut_gives_the_same(tmp_path, suffix, rows):
    data = TABLE.encode()
    (tmp_path / f"f{suffix}").write_bytes(gzip.compress(data) if suffix == ".csv.gz" else data)
    assert [(record.row, record.text) for record in read(tmp_path, rows)] == [
        (0, 'first, of "two" lines\nhere'),
        (1, "second 文"),
        (3, "third"),
    ]


def test_a_csv_row_that_does_not_fit_its_header_is_quarantined(tmp_path):
    (tmp_path / "f.csv").write_text('text,label\ngood,1\nbad\n"x"y,2\nlast,"never closed\n')
    good, short, quote, unclosed = read(tmp_path, label="label")
    assert (good.text, good.label) == ("good", "1")
    assert short.reason == "not as many fields as the header: 1, expected 2"
    assert quote.reason.startswith("not CSV: ")
    assert (unclosed.offset, unclosed.reason[:8]) == (29, "not CSV:")


def test_a_quote_within_a_field_is_a_character_and_swallows_no_row(tmp_path):
    (tmp_path / "f.csv").write_text('id,text\n1,5" pipe\n2,plain\n3,"two\nlines"\n4,6" pipe\n')
    (tmp_path / "g.tsv").write_text('id\ttext\n1\t7" pipe\n2\tlast\n')
    found = [(record.row, record.text) for record in read(tmp_path)]
    assert found[:4] == [(0, '5" pipe'), (1, "plain"), (2, "two\nlines"), (3, '6" pipe')]
    assert found[4:] == [(0, '7" pipe'), (1, "last")]


FIELD = st.text(st.sampled_from('ab,"\n文'), min_size=1, max_size=6)


@given(st.lists(st.tuples(FIELD, FIELD), max_size=8), st.integers(1, 9))
def test_what_is_written_as_csv_is_read_as_it_was(rows, cut):
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([("id", "text"), *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f.csv")
        path.write_text(stream.getvalue(), encoding="utf-8")
        assert [record.text for record in read(path, cut)] == [text for _, text in rows]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"text,label\rhello,1\rworld,2\r", "new-line character"),  # of an old Mac
        (b'"size" (5"),text\n1,hello\n', "',' expected after"),
        (b"text," + b"x" * MAX_BYTES, "it has more than 10,485,760 bytes"),
    ],
)
def test_a_csv_whose_header_cannot_be_read_is_told_once(tmp_path, data, reason):
    (tmp_path / "f.csv").write_bytes(data)
    (bad,) = read(tmp_path, 1)
    assert bad.reason.startswith(f"not CSV, from its header on: {reason}")


def test_a_csv_with_tabs_and_a_long_field(tmp_path):
    (tmp_path / "f.tsv").write_text(f"a\ttext\n1\t{'x' * 200_000}\n")
    (record,) = read(tmp_path)
    assert len(record.text) == 200_000


@pytest.mark.parametrize("charset", ["cp1251", "cp1252", "gb18030", "utf-8-sig"])
def test_every_row_of_a_csv_is_read_in_the_encoding_of_its_file(tmp_path, charset):
    """A short row alone would be guessed: "да" in Windows-1251 is "äà" in Windows-1252."""
    kinds = {
        "cp1251": ["да", "нет", "может быть но не сегодня"],
        "gb18030": ["好", "不好吃", "很好"],
    }
    words = kinds.get(charset, ["café", "déjà", "naïve garçon"]) * 30
    path = tmp_path / "f.csv"
    for quote in ('"', ""):
        rows = ["text", *(f"{quote}{word}{quote}" for word in words)]
        path.write_bytes("\n".join(rows).encode(charset))
        assert [record.text for record in read(path, 7)] == words


def test_a_damaged_row_of_a_csv_in_utf8_is_quarantined_and_changes_no_other(tmp_path):
    path = tmp_path / "f.csv"
    path.write_bytes("text\ncafé\n".encode() + b"caf\xe9\n" + "naïve\n".encode())
    first, bad, last = read(path)
    assert (first.text, last.text) == ("café", "naïve")
    assert bad.reason.startswith("not CSV: not utf-8, which its file is in")


def test_code_is_named_by_its_path_and_vendored_binary_and_minified_files_are_not_read(tmp_path):
    for name, data in {
        "src/a.py": b"print('x')\n",
        "src/b.js": b"var a;" * 300,
        "src/c.c": b"int x;\0",
        "node_modules/d.js": b"x",
        "e.txt": b"not code",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    raws = expand((Code(paths=(str(tmp_path),)),))
    code, minified, binary = (
        record for raw in raws for part in slices(raw, 10) for record in documents(part)
    )
    assert code == Document("src/a.py", 0, "print('x')\n", "py", 0)
    assert minified.reason == "minified or data: a line of 1,800 characters"
    assert binary.reason == "binary: it has NUL bytes"


def test_a_web_page_is_its_article_in_its_own_encoding(tmp_path):
    sentence = "Это довольно длинное предложение русского текста, которое стоит в статье. " * 12
    page = f'<meta charset="windows-1251"><nav><a href="/">Меню</a></nav><p>{sentence}</p>'
    (tmp_path / "f.html").write_bytes(page.encode("cp1251"))
    (record,) = read(tmp_path)
    assert record.text == sentence.strip()


def test_docstrings_are_documents_labelled_by_package():
    raw = expand((PythonDocs(packages=("json",)),))[0]
    (part,) = slices(raw, 100)
    first = next(documents(part))
    assert (first.source, first.row, first.label) == ("json/__init__.py", 0, "json")
    assert first.text.startswith("JSON (JavaScript Object Notation)")


def test_a_remote_file_is_read_like_a_local_one():
    fsspec.filesystem("memory").pipe({"/remote/f.jsonl.gz": gzip.compress(LINES)})
    records = read("fsspec+memory://remote/f.jsonl.gz")
    assert [record.text for record in records] == [row["text"] for row in ROWS]
