"""The commit protocol: whatever is killed, retried or done twice, committed means whole."""

import contextlib
import json
import os
import pickle
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from pipelines.core import storage
from pipelines.core.artifact import MANIFEST, Workspace, commit, open_artifact, set_aside
from pipelines.core.errors import ArtifactError
from pipelines.core.storage import Store

FACTS = {
    "kind": "Corpus",
    "stage": "corpus",
    "name": "docs",
    "fingerprint": "f" * 64,
    "identity": {"config": {"b": [1, 2], "a": 0.5}},
    "inputs": {},
    "metrics": {"accuracy": 0.1 + 0.2, "loss": 3},
}
CONTENT = {"data/part-0": b"zero", "data/part-1": b"one" * 50, "report.json": b"{}"}


def places(root: str) -> tuple[Store, Store]:
    """Where a step works and where its artifact goes, as the workflow lays them out."""
    store = Store.at(root)
    target = store.below("corpus/docs-ffffffff")
    return (store.below(".work/docs") if store.is_local else target.below("data")), target


def made(root: str):
    work, target = places(root)
    space = Workspace.take(work)
    for name, data in CONTENT.items():
        space.write(name, data)
    space.write(".ledger/0", b"working file")
    return commit(space, target, FACTS)


def data_file(artifact, name) -> tuple[Store, str]:
    root = artifact.manifest.root
    return artifact.store, f"{root}/{name}" if root else name


def test_a_committed_artifact_reads_back_whole(root):
    made(root)
    again = open_artifact(places(root)[1].uri, ("Corpus",))
    again.verify()
    assert {name: again.read(name) for name in again.files()} == CONTENT
    assert again.files(".json") == ["report.json"]
    assert (again.local() / "data" / "part-0").read_bytes() == b"zero"
    assert again.manifest.metrics == {"accuracy": 0.1 + 0.2, "loss": 3.0}
    assert pickle.loads(pickle.dumps(again)) == again


def test_working_files_are_gone_once_committed(root):
    artifact = made(root)
    expected = {data_file(artifact, name)[1] for name in CONTENT} | {MANIFEST}
    assert set(artifact.store.names()) == expected
    assert not [name for name in Store.at(root).folders("corpus/docs-ffffffff") if name[0] == "."]


def test_the_digest_depends_on_kind_names_and_contents_alone(tmp_path):
    one, two = made(str(tmp_path / "a")), made(str(tmp_path / "b"))
    assert one.digest == two.digest
    work = Workspace.take(Store.at(str(tmp_path / "w")))
    for name, data in CONTENT.items():
        work.write(name, data)
    other = commit(work, Store.at(str(tmp_path / "c")), FACTS | {"kind": "Tokens"})
    assert other.digest != one.digest


def test_the_same_step_has_the_same_digest_on_a_disk_and_on_an_object_store(tmp_path, bucket):
    assert made(str(tmp_path)).digest == made(f"{bucket}/{tmp_path.name}-same").digest


@pytest.mark.parametrize("name", [*CONTENT])
def test_one_flipped_byte_in_any_file_is_found(root, name):
    artifact = made(root)
    store, path = data_file(artifact, name)
    data = bytearray(store.read(path))
    data[-1] ^= 1
    store.write(path, bytes(data))
    with pytest.raises(ArtifactError, match=rf"{name} was altered"):
        artifact.verify()


def test_any_flipped_byte_of_the_manifest_is_found(tmp_path):
    artifact = made(str(tmp_path))
    whole = artifact.store.read(MANIFEST)
    for at in range(0, len(whole), 3):
        torn = bytearray(whole)
        torn[at] ^= 1
        Path(artifact.uri, MANIFEST).write_bytes(torn)
        with pytest.raises(ArtifactError, match=r"torn or altered|was altered"):
            open_artifact(artifact.uri)


def test_a_manifest_cut_short_anywhere_is_found(tmp_path):
    artifact = made(str(tmp_path))
    whole = artifact.store.read(MANIFEST)
    for size in range(0, len(whole), 17):
        Path(artifact.uri, MANIFEST).write_bytes(whole[:size])
        with pytest.raises(ArtifactError, match="torn or altered"):
            open_artifact(artifact.uri)


def test_a_changed_figure_in_the_manifest_is_found(root):
    artifact = made(root)
    data = json.loads(artifact.store.read(MANIFEST))
    data["metrics"]["accuracy"] = 0.99
    artifact.store.write(MANIFEST, json.dumps(data).encode())
    with pytest.raises(ArtifactError, match="was altered"):
        open_artifact(artifact.uri)


def test_a_missing_and_a_shortened_file_are_told_apart(root):
    artifact = made(root)
    store, path = data_file(artifact, "data/part-1")
    store.write(path, b"one")
    with pytest.raises(ArtifactError, match=r"data/part-1 has 3 bytes, expected 150"):
        artifact.verify()
    store.delete(path)
    with pytest.raises(ArtifactError, match=r"data/part-1 is missing"):
        artifact.verify()


def test_an_unfinished_artifact_and_one_of_another_kind_are_refused(root):
    work, target = places(root)
    Workspace.take(work).write("data/part-0", b"zero")
    with pytest.raises(ArtifactError, match="no finished artifact here"):
        open_artifact(target.uri)
    made(root)
    with pytest.raises(ArtifactError, match="is a Corpus, expected Model or Bundle"):
        open_artifact(target.uri, ("Model", "Bundle"))


def test_a_manifest_whose_files_lie_outside_the_artifact_is_refused(tmp_path):
    from pipelines.core import artifact as module

    artifact = made(str(tmp_path))
    evil = module.File(path="../../secret", size=1, sha256="0" * 64)
    digest = module.digest_of("Corpus", [evil])
    data = artifact.manifest.model_copy(update={"files": [evil], "digest": digest}).model_dump()
    artifact.store.write(MANIFEST, module._text(data))
    with pytest.raises(ArtifactError, match="may not leave it"):
        open_artifact(artifact.uri)


def test_a_newer_format_is_refused_with_the_way_out(tmp_path):
    from pipelines.core import artifact as module

    artifact = made(str(tmp_path))
    data = artifact.manifest.model_dump() | {"format": 2}
    artifact.store.write(MANIFEST, module._text(data))
    with pytest.raises(ArtifactError, match="has format 2, this version reads 1"):
        open_artifact(artifact.uri)


def test_a_step_that_wrote_nothing_cannot_be_committed(root):
    work, target = places(root)
    space = Workspace.take(work)
    space.write(".ledger", b"only a working file")
    with pytest.raises(ArtifactError, match="wrote no file"):
        commit(space, target, FACTS)
    assert not target.exists(MANIFEST)


def test_an_older_driver_can_neither_write_delete_nor_commit(root):
    work, target = places(root)
    old = Workspace.take(work)
    old.write("data/part-0", b"zero")
    new = Workspace.take(work)
    for late in (
        lambda: old.write("data/part-1", b"late"),
        lambda: old.delete("data"),
        lambda: commit(old, target, FACTS),
    ):
        with pytest.raises(ArtifactError, match="another run has taken this step over"):
            late()
    assert new.exists("data/part-0")
    assert not new.exists("data/part-1")


def test_a_worker_left_over_after_the_commit_changes_nothing(root):
    work, target = places(root)
    space = Workspace.take(work)
    space.write("data/part-0", b"zero")
    orphan = pickle.loads(pickle.dumps(space))
    artifact = commit(space, target, FACTS)
    with pytest.raises(ArtifactError, match="taken this step over"):
        orphan.write("data/part-0", b"late")
    artifact.verify()


def test_two_drivers_that_take_a_step_in_one_instant_do_not_share_an_epoch(root):
    # An object store has no locks: both read the same last epoch before either writes.
    work, _ = places(root)
    first = Workspace.take(work)
    work.delete(".epoch")
    second = Workspace.take(work)
    assert first.epoch != second.epoch
    with pytest.raises(ArtifactError, match="taken this step over"):
        first.write("x", b"1")


def test_a_folder_is_put_file_by_file(root, tmp_path):
    source = tmp_path / "model"
    (source / "deep").mkdir(parents=True)
    (source / "config.json").write_bytes(b"{}")
    (source / "deep" / "w").write_bytes(b"1")
    space = Workspace.take(places(root)[0])
    space.put(source)
    space.put(source, "copy")
    space.put(source / "config.json", "single.json")
    names = [name for name in space.names() if not name.startswith(".")]
    assert names == [
        "config.json", "copy/config.json", "copy/deep/w", "deep/w", "single.json",
    ]  # fmt: skip


def test_setting_aside_loses_nothing_and_leaves_no_manifest_behind(root):
    made(root)
    target = places(root)[1]
    assert set_aside(target) == f"{target.uri}.aside-1"
    assert not target.names()
    open_artifact(f"{target.uri}.aside-1").verify()
    made(root)
    assert set_aside(target) == f"{target.uri}.aside-2"
    assert set_aside(target) is None


def test_a_set_aside_broken_off_half_way_leaves_what_says_that_it_must_be_repeated(
    bucket, tmp_path, monkeypatch
):
    root = f"{bucket}/{tmp_path.name}"
    made(root)
    target = places(root)[1]
    moved = []

    class Dying:
        def __init__(self, system):
            self.system = system

        def __getattr__(self, name):
            return getattr(self.system, name)

        def move(self, *ends):
            if moved:
                raise KeyboardInterrupt
            moved.append(ends)
            self.system.move(*ends)

    with monkeypatch.context() as patch:
        opened = storage._open
        patch.setattr(storage, "_open", lambda place: (Dying(opened(place)[0]), opened(place)[1]))
        with pytest.raises(KeyboardInterrupt):
            set_aside(target)
    assert moved
    assert target.exists(MANIFEST)
    set_aside(target)
    assert not target.names()
    everything = {
        name.split("/data/", 1)[1]: Store.at(root).read(name)
        for name in Store.at(root).names("corpus")
        if "/data/" in name
    }
    assert everything == CONTENT


def test_a_commit_onto_a_folder_that_is_no_artifact_keeps_the_work(tmp_path):
    work, target = places(str(tmp_path))
    space = Workspace.take(work)
    space.write("data/part-0", b"a month of work")
    target.write("stray", b"x")
    with pytest.raises(OSError, match="not empty"):
        commit(space, target, FACTS)
    assert space.read("data/part-0") == b"a month of work"


def test_a_download_that_is_not_what_the_manifest_lists_is_refused(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    artifact = made(f"{bucket}/{tmp_path.name}-download")
    store, path = data_file(artifact, "report.json")
    store.write(path, b"[]")
    with pytest.raises(ArtifactError, match=r"report.json was altered"):
        artifact.local()
    store.write(path, b"{}")
    assert (artifact.local() / "report.json").read_bytes() == b"{}"


def test_a_download_folder_of_another_user_is_refused(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"rayline-cache-{os.getuid()}").symlink_to(tmp_path)
    artifact = made(f"{bucket}/{tmp_path.name}-owner")
    with pytest.raises(ArtifactError, match="belongs to another user"):
        artifact.local()


class Crash(BaseException):
    """The process is gone from here on."""


class Protocol(RuleBasedStateMachine):
    """Drivers that take a step over, write, crash, commit and damage it, in any order."""

    drivers = Bundle("drivers")

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory()
        self.work, self.target = places(self.root())
        self.newest: Workspace | None = None
        self.whole = True  # as far as this machine has damaged nothing

    def root(self) -> str:
        return self.scratch.name

    def teardown(self) -> None:
        self.scratch.cleanup()

    @property
    def committed(self) -> bool:
        return self.target.exists(MANIFEST)

    @rule(target=drivers)
    def take(self) -> Workspace:
        if self.committed and not self.whole:
            set_aside(self.target)
            self.whole = True
        if self.committed:  # a driver reuses it; what it holds is not fit to write with
            return Workspace(self.work, "none")
        self.newest = Workspace.take(self.work)
        return self.newest

    @rule(driver=drivers, name=st.sampled_from([*CONTENT]))
    def write(self, driver: Workspace, name: str) -> None:
        self.expect(driver, lambda: driver.write(name, CONTENT[name]))

    @rule(driver=drivers)
    def checkpoint(self, driver: Workspace) -> None:
        self.expect(driver, lambda: driver.write(".checkpoint/state", b"s"))

    @rule(driver=drivers)
    def finish(self, driver: Workspace) -> None:
        def missing_then_commit() -> None:
            for name, data in CONTENT.items():
                if not driver.exists(name):
                    driver.write(name, data)
            commit(driver, self.target, FACTS)

        self.expect(driver, missing_then_commit)

    @rule(driver=consumes(drivers), at=st.integers(1, 25))
    def crash(self, driver: Workspace, at: int) -> None:
        """Finish, but die just before the `at`th flush or rename, or right after the last."""
        left = [at]

        def dying(function):
            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] == 0:
                    raise Crash
                return function(*args, **kwargs)

            return call

        with pytest.MonkeyPatch.context() as patch:
            for name in ("fsync", "rename", "replace"):
                patch.setattr(os, name, dying(getattr(os, name)))
            with contextlib.suppress(Crash):
                self.finish(driver)

    @rule(name=st.sampled_from([*CONTENT]))
    def damage(self, name: str) -> None:
        if self.committed:
            root = open_artifact(self.target.uri).manifest.root
            self.target.write(f"{root}/{name}" if root else name, b"damaged")
            self.whole = False

    def expect(self, driver: Workspace, act) -> None:
        """The newest driver of an uncommitted step may act; every other one is refused."""
        if driver == self.newest and not self.committed:
            act()
            return
        with pytest.raises(ArtifactError):
            act()

    @invariant()
    def committed_means_complete_and_unique(self) -> None:
        if not self.committed:
            return
        artifact = open_artifact(self.target.uri)
        assert artifact.files() == sorted(CONTENT)
        if self.whole:
            artifact.verify()
            assert all(artifact.read(name) == data for name, data in CONTENT.items())
        else:
            with pytest.raises(ArtifactError, match=r"altered|bytes"):
                artifact.verify()


RELAXED = [HealthCheck.too_slow, HealthCheck.filter_too_much]
Protocol.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=RELAXED
)
TestProtocol = Protocol.TestCase


class ObjectStoreProtocol(Protocol):
    """The same on a real S3 server; a crash there is a driver that is never heard of again."""

    def root(self) -> str:
        return f"s3://rayline/protocol-{Path(self.scratch.name).name}"


ObjectStoreProtocol.TestCase.settings = settings(
    max_examples=5, stateful_step_count=12, deadline=None, suppress_health_check=RELAXED
)


@pytest.mark.usefixtures("bucket")
class TestObjectStoreProtocol(ObjectStoreProtocol.TestCase):
    pass
