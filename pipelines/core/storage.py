"""Bytes at a URI: local paths and object stores (`s3://`, `gs://`) through one interface.

`Store(uri)` is a root; names below it are relative, `/`-separated and checked. A write is atomic: a
local file is written under `.tmp`, flushed to disk and renamed; an object store makes a PUT visible
whole. Credentials and the endpoint come from the environment (`AWS_ENDPOINT_URL` and the like).
"""

import contextlib
import functools
import hashlib
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from pipelines.core.errors import ArtifactError, ConfigError, StorageError

CHUNK = 1 << 20  # bytes read at a time when hashing
TEMPORARY = ".tmp"  # under the root: same file system, and a working file if a crash leaves it
_UNSAFE = re.compile(r"(^|/)\.\.(/|$)|^/|[\\\x00]")


@dataclass(frozen=True)
class Store:
    """A root URI and the reads, writes and listings below it; pickles by its URI."""

    uri: str

    @staticmethod
    def at(location: str) -> "Store":
        """The store at a path or URI, with local paths made absolute.

        Raises:
            ConfigError: the URI carries a query, which would end up inside every name below it.
        """
        location = location.removeprefix("file://")
        if "://" not in location:
            return Store(os.path.abspath(Path(location).expanduser()))
        if "?" in location:
            raise ConfigError(
                f"{location}: a storage URI takes no ?options; set the endpoint and credentials in "
                "the environment: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"
            )
        return Store(location.rstrip("/"))

    @property
    def is_local(self) -> bool:
        """Whether the root is a folder of this machine (or a mount)."""
        return "://" not in self.uri

    def below(self, name: str) -> "Store":
        """The store rooted at `name` under this one."""
        return Store(self.locate(name))

    def locate(self, name: str) -> str:
        """The full path or URI of `name`.

        Raises:
            ArtifactError: `name` would leave the root.
        """
        if _UNSAFE.search(name):
            raise ArtifactError(f"{name!r}: a name inside {self.uri} may not leave it")
        return f"{self.uri.rstrip('/')}/{name}" if name else self.uri

    def exists(self, name: str) -> bool:
        """Whether `name` is a file here."""
        return self.size(name) >= 0

    def size(self, name: str) -> int:
        """Bytes of the file `name`; -1 if there is none."""
        with _reached(self.locate(name)) as (system, path):
            info = system.get_file_info(path)
        return int(info.size) if info.type == fs.FileType.File else -1

    def read(self, name: str) -> bytes:
        """All bytes of `name`.

        Raises:
            ArtifactError: there is no such file.
            StorageError: it may be there but cannot be read now.
        """
        with (
            _reached(self.locate(name)) as (system, path),
            system.open_input_stream(path) as stream,
        ):
            return bytes(stream.read())

    def write(self, name: str, data: bytes) -> None:
        """Make `name` hold exactly `data`, in one visible step.

        Raises:
            StorageError: the disk is full, the bucket is missing, or it may not be written.
        """
        location = self.locate(name)
        try:
            if self.is_local:
                self._write_file(Path(location), data)
            else:
                system, path = _open(location)
                with system.open_output_stream(path) as stream:
                    stream.write(data)
        except OSError as error:
            raise StorageError(
                f"{location}: cannot be written: {error}; check free space, permission and, on an "
                "object store, that the bucket exists"
            ) from error

    def _write_file(self, target: Path, data: bytes) -> None:
        beside = Path(self.uri, TEMPORARY, uuid.uuid4().hex)
        for folder in (beside.parent, target.parent):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)

    def names(self, prefix: str = "") -> list[str]:
        """Sorted names of all files below `prefix`, relative to the root."""
        _, root = _open(self.uri)
        with _reached(self.locate(prefix)) as (system, path):
            selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
            found = system.get_file_info(selector)
        files = (info.path for info in found if info.type == fs.FileType.File)
        return sorted(path.removeprefix(root).lstrip("/") for path in files)

    def folders(self, prefix: str = "") -> list[str]:
        """Sorted names of the folders directly below `prefix`."""
        with _reached(self.locate(prefix)) as (system, path):
            found = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)

    def delete(self, name: str) -> None:
        """Remove the file or folder `name` if it is there."""
        with _reached(self.locate(name)) as (system, path):
            match system.get_file_info(path).type:
                case fs.FileType.Directory:
                    system.delete_dir(path)
                case fs.FileType.File:
                    system.delete_file(path)
                case _:
                    pass

    def move(self, target: "Store", last: str = "") -> None:
        """Move the whole store to `target`; an object store's files go one by one.

        Args:
            target: where to.
            last: the name that goes last; while it is here, a broken-off move can be told.
        """
        if self.is_local:
            with _reached(self.uri):
                Path(self.uri).rename(target.uri)
            return
        for name in sorted(self.names(), key=lambda name: (name == last, name)):
            with _reached(self.locate(name)) as (system, path):
                system.move(path, _open(target.locate(name))[1])

    def sha256(self, name: str) -> str:
        """Hex SHA-256 of the file `name`, read in chunks."""
        digest = hashlib.sha256()
        with (
            _reached(self.locate(name)) as (system, path),
            system.open_input_stream(path) as stream,
        ):
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def download(self, names: list[str], folder: Path) -> None:
        """Copy files into a local folder, keeping their names."""
        for name in names:
            data, target = self.read(name), folder / name
            with _reached(str(target)):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def scratch() -> "tempfile.TemporaryDirectory[str]":
    """A private temporary folder (mode 0700), removed when its `with` block ends."""
    return tempfile.TemporaryDirectory(prefix="rayline-")


@contextlib.contextmanager
def _reached(location: str) -> Iterator[tuple[fs.FileSystem, str]]:
    """The file system of `location` and the path in it; what goes wrong there names the place."""
    try:
        yield _open(location)
    except FileNotFoundError as error:
        raise ArtifactError(f"{location}: there is no such file") from error
    except OSError as error:
        raise StorageError(
            f"{location}: cannot be reached: {error}; check the connection, permission and free "
            "space, then run the same command again"
        ) from error


def _open(location: str) -> tuple[fs.FileSystem, str]:
    if "://" not in location:
        return fs.LocalFileSystem(), location
    scheme, _, path = location.partition("://")
    return _object_store(f"{scheme}://{path.partition('/')[0]}"), path


@functools.cache  # a new client costs 0.1 s and a request for the bucket's region
def _object_store(bucket: str) -> fs.FileSystem:
    try:
        return fs.FileSystem.from_uri(bucket)[0]
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"{bucket}: not a usable location: {error}; expected a path, s3://bucket/prefix or "
            "gs://bucket/prefix, with credentials in the environment"
        ) from error
