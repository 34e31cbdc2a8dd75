"""Sources: which files a setting means, what they are called, and what their digest covers."""

import hashlib
import shutil

import fsspec
import pytest

from pipelines.core.errors import ConfigError, DataError
from pipelines.corpus.config import CorpusConfig
from pipelines.corpus.listing import filesystem
from pipelines.corpus.sources import Code, Files, PythonDocs, digests, expand


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "raw"
    for name in ("b.jsonl", "a.txt", "deep/c.jsonl.gz", "deep/.hidden.jsonl", "page.pdf"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def names(*paths, **settings):
    return [raw.name for raw in expand((Files(paths=tuple(map(str, paths)), **settings),))]


def test_a_folder_means_its_readable_files_sorted_by_name(folder):
    found = expand((Files(paths=(str(folder),)),))
    assert [(raw.name, raw.format) for raw in found] == [
        ("a.txt", "text"),
        ("b.jsonl", "jsonl"),
        ("c.jsonl.gz", "jsonl"),
    ]


def test_a_pattern_matches_one_level_unless_it_says_otherwise(folder):
    assert names(folder / "*.jsonl*") == ["b.jsonl"]
    assert names(folder / "**/*.jsonl*") == ["b.jsonl", "c.jsonl.gz"]


def test_a_pattern_takes_whole_names_of_folders_and_files(tmp_path):
    for name in ("train.jsonl", "pretrain.jsonl", "a/train.jsonl", "a/b/train.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert names(tmp_path / "**/train.jsonl") == ["a/b/train.jsonl", "a/train.jsonl", "train.jsonl"]
    assert names(tmp_path / "a/**") == ["b/train.jsonl", "train.jsonl"]
    assert names(tmp_path / "?/tr[a-b]in.*") == ["train.jsonl"]
    with pytest.raises(DataError, match=r"\*\*\.jsonl: .*expected such as data/\*\*/\*\.jsonl"):
        names(tmp_path / "**.jsonl")


def test_a_pattern_from_the_root_is_refused_and_not_looked_for_here(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"^/\*\.jsonl: would search the whole machine"):
        names("/*.jsonl")


@pytest.mark.parametrize("field", ["text", "label"])
def test_a_field_that_no_file_has_is_refused(folder, field):
    with pytest.raises(ConfigError, match=f"{field}=body names a field, and a file of format text"):
        names(folder / "a.txt", **{field: "body"})
    assert names(folder / "a.txt", folder / "b.jsonl", **{field: "body"}) == ["a.txt", "b.jsonl"]


def test_a_path_that_matches_nothing_says_what_to_do(folder):
    with pytest.raises(DataError, match=r"nowhere: no such file; give an existing file, folder"):
        names(folder / "nowhere")


def test_a_file_of_unknown_suffix_needs_a_format(folder):
    with pytest.raises(DataError, match=r"page\.pdf: unknown suffix"):
        names(folder / "page.pdf")
    assert names(folder / "page.pdf", format="text") == ["page.pdf"]


def test_a_folder_or_pattern_without_a_readable_file_is_refused_and_names_what_it_has(tmp_path):
    for name in ("a.jsonl.bz2", "b.log", "README"):
        (tmp_path / name).write_text("x")
    for path in (tmp_path, tmp_path / "*"):
        with pytest.raises(
            DataError, match=r"unknown suffix \.bz2, \.log, README; expected one of"
        ):
            names(path)
    assert len(names(tmp_path, format="text")) == 3


def test_a_folder_of_nothing_but_vendored_code_is_refused(tmp_path):
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor/a.py").write_text("x")
    with pytest.raises(DataError, match=r"no file ends in .*; 1 in folders of vendored code"):
        expand((Code(paths=(str(tmp_path),)),))
    assert [raw.name for raw in expand((Code(paths=(str(tmp_path / "vendor"),)),))] == ["a.py"]


def test_files_of_one_name_are_told_apart(folder):
    (folder / "deep/b.jsonl").write_text("other")
    assert names(folder) == ["a.txt", "b.jsonl", "c.jsonl.gz", "deep/b.jsonl"]
    assert names(folder / "b.jsonl", folder / "deep/b.jsonl") == ["b.jsonl", "b.jsonl~2"]


def test_a_digest_covers_content_and_name_but_not_place(folder, tmp_path):
    before = digests((Files(paths=(str(folder),)),))
    assert before["a.txt"] == hashlib.sha256(b"a.txt").hexdigest()
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    assert digests((Files(paths=(str(moved),)),)) == before
    (moved / "a.txt").write_text("changed")
    after = digests((Files(paths=(str(moved),)),))
    assert {name for name in before if before[name] != after[name]} == {"a.txt"}


def test_a_digest_is_told_apart_by_the_fields_that_are_read(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text("{}")
    one, two = str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")
    rated = digests((Files(paths=(one,)), Files(paths=(two,), text="body", label="stars")))
    assert list(rated) == ["a.jsonl", "b.jsonl (text=body, label=stars)"]
    swapped = digests((Files(paths=(two,)), Files(paths=(one,), text="body", label="stars")))
    assert swapped != rated


def test_a_place_that_cannot_be_listed_is_a_data_error(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(DataError, match=r"s3://nowhere/x\.jsonl: cannot be read"):
        digests((Files(paths=("s3://nowhere/x.jsonl",)),))


def test_the_config_names_its_raw_files(folder):
    config = CorpusConfig(sources=(Files(paths=(str(folder / "a.txt"),)),))
    assert list(config.raw_digests()) == ["a.txt"]


def test_a_remote_folder_is_listed_and_its_files_are_named_by_uri():
    memory = fsspec.filesystem("memory")
    memory.pipe({"/bucket/x.jsonl": b"{}", "/bucket/in/y.txt": b"hello"})
    found = expand((Files(paths=("fsspec+memory://bucket",)),))
    assert [raw.name for raw in found] == ["x.jsonl", "y.txt"]
    system, path = filesystem(found[1].location)
    assert system.open_input_stream(path).read() == b"hello"
    assert len(digests((Files(paths=("fsspec+memory://bucket/*.jsonl",)),))) == 1


def test_a_hugging_face_uri_is_resolved_by_the_hub_library():
    system, path = filesystem("hf://datasets/owner/name/train.parquet")
    assert path == "datasets/owner/name/train.parquet"
    assert "HfFileSystem" in repr(system.handler.fs.__class__)


def test_an_unknown_scheme_is_named():
    with pytest.raises(DataError, match="nosuch://x: not a usable location"):
        filesystem("nosuch://x")


def test_a_package_has_one_digest_whatever_is_not_read():
    few, more = (
        digests((PythonDocs(packages=("json", "email"), max_files=count),)) for count in (2, 3)
    )
    assert list(few) == ["python-docs/email", "python-docs/json"]
    assert few != more
    assert few == digests((PythonDocs(packages=("json", "email"), max_files=2),))


def test_a_python_files_label_is_its_package():
    found = expand((PythonDocs(packages=("json",)),))
    assert [(raw.name, raw.label) for raw in found][:2] == [
        ("json/__init__.py", "json"),
        ("json/decoder.py", "json"),
    ]
