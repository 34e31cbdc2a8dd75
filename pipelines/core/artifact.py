"""Artifacts: folders whose last-written file, `artifact.json`, proves that they are whole.

`Workspace` is where a step writes; `commit` turns it into an `Artifact`; `open_artifact` and
`Artifact.verify` refuse one that is unfinished, torn or altered.

Commit protocol. Local: write in `.work`, flush, write the manifest, flush, rename into place.
Object store: files first under `data/`, the manifest last. Names that start with a dot are working
files (ledgers, checkpoints): they carry a step across a crash, are never committed, and go only
once the artifact is visible, so that no crash costs a checkpoint.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipelines.core.errors import ArtifactError
from pipelines.core.storage import Store, sync_folder

MANIFEST = "artifact.json"
EPOCH = ".epoch"
FORMAT = 1
Json = dict[str, Any]


class File(BaseModel):
    """One committed file: its name in the artifact, bytes, and hex SHA-256."""

    model_config = ConfigDict(frozen=True)
    path: str
    size: int
    sha256: str


class InputRecord(BaseModel):
    """An input as it was used: enough to find it again and to prove it is the same."""

    model_config = ConfigDict(frozen=True)
    name: str
    kind: str
    digest: str
    path: str


class Manifest(BaseModel):
    """What `artifact.json` holds. `digest` depends on the files alone, so equal bytes are equal.

    The file also has a `seal`, the SHA-256 of all else in it, so that an altered figure shows.
    """

    model_config = ConfigDict(frozen=True)
    format: int = FORMAT
    kind: str
    stage: str
    name: str
    workflow: str = ""
    fingerprint: str
    digest: str
    root: str = ""
    files: list[File]
    identity: Json
    inputs: dict[str, InputRecord]
    raw: dict[str, str] = {}
    counts: dict[str, int] = {}
    metrics: dict[str, float] = {}
    measured: dict[str, float] = {}
    versions: dict[str, str] = {}
    code: dict[str, str] = {}
    config: Json = {}
    started: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Artifact:
    """A committed artifact at `store`."""

    store: Store
    manifest: Manifest

    @property
    def uri(self) -> str:
        """Where it lies."""
        return self.store.uri

    @property
    def kind(self) -> str:
        """Corpus, Tokenizer, Tokens, Model, Report, Bundle or Predictions."""
        return self.manifest.kind

    @property
    def digest(self) -> str:
        """Hex SHA-256 over the names and contents of its files."""
        return self.manifest.digest

    def files(self, suffix: str = "") -> list[str]:
        """Sorted names of its files that end in `suffix`."""
        return [file.path for file in self.manifest.files if file.path.endswith(suffix)]

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        return self._data().read(name)

    def local(self) -> Path:
        """A local folder with its files; an object store's are downloaded once, by digest.

        Raises:
            ArtifactError: a downloaded file is not what the manifest lists.
        """
        if self.store.is_local:
            return Path(self._data().uri)
        cache = _cache() / self.digest
        if not cache.exists():
            fresh = Path(tempfile.mkdtemp(dir=cache.parent))
            try:
                self._data().download(self.files(), fresh)
                Artifact(Store(str(fresh)), self.manifest.model_copy(update={"root": ""})).verify()
                with contextlib.suppress(OSError):  # another was first, and has the same files
                    fresh.rename(cache)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
        return cache

    def verify(self) -> None:
        """Re-hash every file.

        Raises:
            ArtifactError: names the first file that is missing, cut short or altered.
        """
        data = self._data()
        for file in self.manifest.files:
            size = data.size(file.path)
            if size != file.size:
                found = "is missing" if size < 0 else f"has {size} bytes, expected {file.size}"
                raise ArtifactError(f"{self.uri}: {file.path} {found}; {_REMEDY}")
            actual = data.sha256(file.path)
            if actual != file.sha256:
                raise ArtifactError(
                    f"{self.uri}: {file.path} was altered: sha256 {actual[:12]}..., expected "
                    f"{file.sha256[:12]}...; {_REMEDY}"
                )

    def _data(self) -> Store:
        return self.store.below(self.manifest.root) if self.manifest.root else self.store


def _cache() -> Path:
    """This user's folder of downloads; refused if someone else made it in the shared /tmp."""
    cache = Path(tempfile.gettempdir()) / f"rayline-cache-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    if cache.is_symlink() or cache.stat().st_uid != os.getuid():
        raise ArtifactError(f"{cache}: belongs to another user; remove it or set TMPDIR")
    return cache


_REMEDY = "it is not used: `rayline run` makes it anew, or restore the file from a copy"


def open_artifact(location: str, kinds: tuple[str, ...] = ()) -> Artifact:
    """The committed artifact at a path or URI, of one of `kinds` if given.

    Raises:
        ArtifactError: nothing is there, its manifest is missing or torn, or its kind is another.
    """
    store = Store.at(location)
    if not store.exists(MANIFEST):
        raise ArtifactError(
            f"{store.uri}: no {MANIFEST}, so there is no finished artifact here; "
            "check the path, or run the step that makes it"
        )
    manifest = _unsealed(store)
    if manifest.format != FORMAT:
        raise ArtifactError(
            f"{store.uri}: has format {manifest.format}, this version reads {FORMAT}; "
            "make it anew, or use the version of Rayline that made it"
        )
    for file in manifest.files:
        store.locate(file.path)  # refuses a name that would leave the artifact
    if kinds and manifest.kind not in kinds:
        raise ArtifactError(f"{store.uri}: is a {manifest.kind}, expected {' or '.join(kinds)}")
    return Artifact(store, manifest)


def _unsealed(store: Store) -> Manifest:
    try:
        text = store.read(MANIFEST)
        data = json.loads(text)
        data.pop("seal")
        manifest = Manifest.model_validate(data)
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ArtifactError(f"{store.uri}: {MANIFEST} is torn or altered; {_REMEDY}") from None
    if text != _text(data) or manifest.digest != digest_of(manifest.kind, manifest.files):
        raise ArtifactError(f"{store.uri}: {MANIFEST} was altered; {_REMEDY}")
    return manifest


def _text(data: Json) -> bytes:
    """The very bytes of a manifest file: another digit that reads as the same float is a change."""
    seal = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    sealed = data | {"seal": seal}
    return json.dumps(sealed, indent=1, sort_keys=True, ensure_ascii=False).encode()


@dataclass(frozen=True)
class Workspace:
    """Where one step writes. It pickles, so Ray tasks write through it too.

    `epoch` (`<number>-<random>`) fences orphans: when a new driver takes the step over it raises
    the epoch, and every later write of an older driver's workers is refused. The random part tells
    apart two drivers that take a step of an object store, which has no locks, in one instant.
    """

    store: Store
    epoch: str

    @staticmethod
    def take(store: Store) -> "Workspace":
        """The work area at `store` under a new epoch, with what an earlier try left in it."""
        last = store.read(EPOCH).decode() if store.exists(EPOCH) else "0"
        epoch = f"{int(last.partition('-')[0]) + 1}-{uuid.uuid4().hex[:12]}"
        store.write(EPOCH, epoch.encode())
        return Workspace(store, epoch)

    def write(self, name: str, data: bytes) -> None:
        """Make `name` hold exactly `data`, in one visible step.

        Raises:
            ArtifactError: a newer driver has taken this step over.
        """
        self.fence()
        self.store.write(name, data)

    def put(self, source: Path, name: str = "") -> None:
        """Copy a local file, or every file of a local folder, to `name`."""
        if source.is_file():
            self.write(name or source.name, source.read_bytes())
            return
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            inner = file.relative_to(source).as_posix()
            self.write(f"{name}/{inner}" if name else inner, file.read_bytes())

    def read(self, name: str) -> bytes:
        """The bytes of `name`."""
        return self.store.read(name)

    def exists(self, name: str) -> bool:
        """Whether `name` was written, by this try or an earlier one."""
        return self.store.exists(name)

    def names(self, prefix: str = "") -> list[str]:
        """Sorted names of the files below `prefix`."""
        return self.store.names(prefix)

    def delete(self, prefix: str) -> None:
        """Remove a working file or a folder of them."""
        self.fence()
        self.store.delete(prefix)

    def fence(self) -> None:
        """Refuse to go on if this try is no longer the newest.

        Raises:
            ArtifactError: another driver has taken the step over, or has committed it.
        """
        newest = self.store.read(EPOCH).decode() if self.store.exists(EPOCH) else "gone"
        if newest != self.epoch:
            raise ArtifactError(
                f"{self.store.uri}: another run has taken this step over (epoch {newest}, ours is "
                f"{self.epoch}); this one stops so that only one writes"
            )


def commit(work: Workspace, target: Store, facts: Mapping[str, Any]) -> Artifact:
    """The artifact made of the files in `work`, visible at `target` only when whole.

    Args:
        work: holds the files; names that start with a dot are dropped.
        target: where the artifact shall lie.
        facts: the manifest's other fields, among them `kind`.

    Raises:
        ArtifactError: the step wrote nothing, or a newer driver has taken it over.
    """
    names = [name for name in work.names() if not name.startswith(".") and name != MANIFEST]
    if not names:
        raise ArtifactError(f"{target.uri}: the step wrote no file, so there is nothing to commit")
    files = [
        File(path=name, size=work.store.size(name), sha256=work.store.sha256(name))
        for name in names
    ]
    root = "" if target.is_local else "data"
    manifest = Manifest(files=files, digest=digest_of(facts["kind"], files), root=root, **facts)
    text = _text(manifest.model_dump())
    if target.is_local:
        work.write(MANIFEST, text)
        work.fence()
        _rename(Path(work.store.uri), Path(target.uri))
    else:
        work.fence()
        target.write(MANIFEST, text)
    _sweep(target.below(root))
    return Artifact(target, manifest)


def _rename(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError:
        if not (target / MANIFEST).exists():
            raise
        shutil.rmtree(source)  # another run committed first; ours has the same identity
    sync_folder(target.parent)


def _sweep(store: Store) -> None:
    """Remove working files, now that the artifact is visible."""
    for entry in {name.partition("/")[0] for name in [*store.folders(), *store.names()]}:
        if entry.startswith("."):
            store.delete(entry)


def digest_of(kind: str, files: list[File]) -> str:
    """Hex SHA-256 over the kind and every file's name and content."""
    listing = [kind, *(f"{file.path}\0{file.sha256}" for file in files)]
    return hashlib.sha256("\n".join(listing).encode()).hexdigest()


def set_aside(store: Store) -> str | None:
    """Move a damaged or outdated artifact out of the way, losing nothing; returns where it went."""
    if not store.names():
        return None
    number = 1
    while (aside := Store(f"{store.uri}.aside-{number}")).names():
        number += 1
    store.move(aside, last=MANIFEST)
    return aside.uri
