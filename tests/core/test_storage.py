import pickle

import pytest

from pipelines.core.errors import ArtifactError, ConfigError, StorageError
from pipelines.core.storage import TEMPORARY, Store


def test_what_is_written_is_read_listed_and_measured(root):
    store = Store.at(root)
    store.write("a/b/part-0", b"hello")
    store.write("a/c", b"")
    store.write("top", b"x")
    assert store.names() == ["a/b/part-0", "a/c", "top"]
    assert store.names("a/b") == ["a/b/part-0"]
    assert store.folders() == [name for name in store.folders() if name in ("a", TEMPORARY)]
    assert "a" in store.folders()
    assert store.folders("a") == ["b"]
    assert store.read("a/b/part-0") == b"hello"
    assert (store.size("a/b/part-0"), store.size("a/c"), store.size("a"), store.size("no")) == (
        5, 0, -1, -1,
    )  # fmt: skip
    # echo -n hello | sha256sum
    assert store.sha256("a/b/part-0").startswith("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c")


def test_a_second_write_replaces_the_first_whole(root):
    store = Store.at(root)
    store.write("x", b"long old content")
    store.write("x", b"new")
    assert store.read("x") == b"new"


def test_an_empty_or_missing_store_lists_nothing(root):
    store = Store.at(root).below("never")
    assert store.names() == []
    assert store.folders() == []
    assert not store.exists("x")


def test_a_missing_file_is_an_artifact_error_that_names_it(root):
    with pytest.raises(ArtifactError, match=r"nothing/here: there is no such file"):
        Store.at(root).read("nothing/here")


def test_delete_removes_a_file_or_a_folder_and_minds_neither_being_there(root):
    store = Store.at(root)
    for name in ("keep", "file", "folder/a", "folder/deep/b"):
        store.write(name, b"x")
    for name in ("file", "folder", "absent"):
        store.delete(name)
    assert store.names() == ["keep"]


def test_move_takes_every_file_along(root):
    store = Store.at(root)
    store.below("old").write("data/a", b"1")
    store.below("old").write("z", b"2")
    store.below("old").move(store.below("new"))
    assert store.names() == ["new/data/a", "new/z"]
    assert store.below("new").read("data/a") == b"1"


def test_a_storage_that_does_not_answer_is_told_from_a_file_that_is_not_there(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="s3://no-answer/runs/x: cannot be reached"):
        Store.at("s3://no-answer/runs").exists("x")
    (tmp_path / "x").mkdir()
    for use in (Store.at(str(tmp_path)).read, Store.at(str(tmp_path)).sha256):
        with pytest.raises(StorageError, match=r"x: cannot be reached: .*directory"):
            use("x")


def test_download_keeps_names(root, tmp_path):
    store = Store.at(root)
    store.write("data/a", b"1")
    store.download(["data/a"], tmp_path / "copy")
    assert (tmp_path / "copy" / "data" / "a").read_bytes() == b"1"


def test_a_store_pickles_by_its_place(root):
    store = Store.at(root)
    store.write("x", b"1")
    assert pickle.loads(pickle.dumps(store)).read("x") == b"1"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a\\b", "a\0b", ".."])
def test_a_name_that_would_leave_the_root_is_refused(root, name):
    store = Store.at(root)
    for use in (store.read, store.exists, store.names, store.below, store.delete):
        with pytest.raises(ArtifactError, match="may not leave it"):
            use(name)
    with pytest.raises(ArtifactError, match="may not leave it"):
        store.write(name, b"x")


def test_dots_inside_a_name_are_no_way_out(tmp_path):
    store = Store.at(str(tmp_path))
    store.write("a..b/c...", b"1")
    assert store.read("a..b/c...") == b"1"


def test_a_relative_path_becomes_absolute_and_home_and_file_uris_are_understood(
    monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert Store.at("runs").uri == f"{tmp_path}/runs"
    assert Store.at("~/runs").uri == "/home/someone/runs"
    assert Store.at("file:///mnt/runs").uri == "/mnt/runs"
    assert Store.at("s3://bucket/runs/").uri == "s3://bucket/runs"


def test_a_uri_with_options_is_refused_since_names_are_put_behind_it():
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL"):
        Store.at("s3://bucket/runs?endpoint_override=localhost:9000")


def test_an_unknown_scheme_is_a_config_error():
    with pytest.raises(ConfigError, match="not a usable location"):
        Store.at("ftp://host/runs").exists("x")


def test_a_bucket_that_does_not_exist_says_so_on_write(bucket):
    with pytest.raises(ArtifactError, match="that the bucket exists"):
        Store.at("s3://no-such-bucket/runs").write("x", b"1")


def test_a_write_that_fails_leaves_the_old_content_and_no_rubbish(tmp_path, monkeypatch):
    store = Store.at(str(tmp_path))
    store.write("x", b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ArtifactError, match="No space left"):
        store.write("x", b"new")
    assert store.read("x") == b"old"
    assert store.names() == ["x"]
