"""Bytes at a URI: local paths and object stores (`s3://`, `gs://`) through one interface.

`Store(uri)` is a root; names below it are relative, `/`-separated and checked. A write is atomic: a
local file is written beside, flushed to disk and renamed; an object store makes a PUT visible whole.
"""

import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from pipelines.core.errors import ArtifactError, ConfigError

CHUNK = 1 << 20  # bytes read at a time when hashing or copying
_UNSAFE = re.compile(r"(^|/)\.\.(/|$)|^/|[\\\x00]")


@dataclass(frozen=True)
class Store:
    """A root URI and the reads, writes and listings below it; pickles by its URI."""

    uri: str

    @staticmethod
    def at(location: str) -> "Store":
        """The store at a path or URI, with local paths made absolute."""
        return Store(location if "://" in location else os.path.abspath(location))

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
        system, path = _open(self.locate(name))
        return system.get_file_info(path).type == fs.FileType.File

    def size(self, name: str) -> int:
        """Bytes of the file `name`; -1 if there is none."""
        system, path = _open(self.locate(name))
        info = system.get_file_info(path)
        return int(info.size) if info.type == fs.FileType.File else -1

    def read(self, name: str) -> bytes:
        """All bytes of `name`.

        Raises:
            ArtifactError: there is no such file.
        """
        system, path = _open(self.locate(name))
        try:
            with system.open_input_stream(path) as stream:
                return bytes(stream.read())
        except (FileNotFoundError, OSError) as error:
            raise ArtifactError(f"{self.locate(name)}: cannot be read: {error}") from error

    def write(self, name: str, data: bytes) -> None:
        """Make `name` hold exactly `data`, in one visible step."""
        if not self.is_local:
            system, path = _open(self.locate(name))
            with system.open_output_stream(path) as stream:
                stream.write(data)
            return
        target = Path(self.locate(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
        sync_folder(target.parent)

    def names(self, prefix: str = "") -> list[str]:
        """Sorted names of all files below `prefix`, relative to the root."""
        return sorted(name for name, _ in self._walk(prefix))

    def folders(self, prefix: str = "") -> list[str]:
        """Sorted names of the folders directly below `prefix`."""
        system, path = _open(self.locate(prefix))
        selector = fs.FileSelector(path, allow_not_found=True)
        found = system.get_file_info(selector)
        return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)

    def delete(self, prefix: str) -> None:
        """Remove the folder `prefix` if it is there."""
        if self.is_local:
            shutil.rmtree(self.locate(prefix), ignore_errors=True)
            return
        system, path = _open(self.locate(prefix))
        if system.get_file_info(path).type == fs.FileType.Directory:
            system.delete_dir(path)

    def sha256(self, name: str) -> str:
        """Hex SHA-256 of the file `name`, read in chunks."""
        digest = hashlib.sha256()
        system, path = _open(self.locate(name))
        with system.open_input_stream(path) as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def download(self, names: list[str], folder: Path) -> None:
        """Copy files into a local folder, keeping their names."""
        for name in names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.read(name))

    def _walk(self, prefix: str) -> Iterator[tuple[str, int]]:
        system, root = _open(self.uri)
        _, path = _open(self.locate(prefix))
        selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
        for info in system.get_file_info(selector):
            if info.type == fs.FileType.File:
                yield info.path.removeprefix(root).lstrip("/"), int(info.size)


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


def _open(location: str) -> tuple[fs.FileSystem, str]:
    if "://" not in location:
        return fs.LocalFileSystem(), location
    try:
        system, path = fs.FileSystem.from_uri(location)
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"{location}: not a usable location: {error}; expected a path, s3://bucket/prefix or "
            "gs://bucket/prefix, with credentials in the environment"
        ) from error
    return system, path
