"""A path, folder, glob pattern or URI -> the files that it names, on disk or in an object store."""

import contextlib
import functools
import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from fsspec.utils import glob_translate
from pyarrow import fs

from pipelines.core.errors import DataError


@dataclass(frozen=True)
class Found:
    """A file: its name, its path `below` the folder that was given, where it is, and its bytes."""

    name: str
    below: str
    location: str
    size: int


def find(path: str) -> list[Found]:
    """The files that `path` names, sorted.

    Raises:
        DataError: it cannot be listed, or is no pattern that can be searched.
    """
    base, pattern = _base(path)
    root = filesystem(base)[1].rstrip("/")
    found = []
    for info in sorted(_listing(base), key=lambda info: info.path):
        below = info.path.removeprefix(root).lstrip("/")
        if not pattern or _compiled(pattern).match(below):
            location = _location(path, info.path)
            found.append(Found(info.base_name, below or info.base_name, location, info.size))
    return found


def filesystem(location: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or URI, and the path in it.

    Raises:
        DataError: the URI names no file system that can be reached.
    """
    if "://" not in location:
        return fs.LocalFileSystem(), os.path.abspath(location)
    try:
        system, path = fs.FileSystem.from_uri(location)
    except (ValueError, OSError, ImportError) as error:
        raise DataError(
            f"{location}: not a usable location: {error}; expected a path, hf://datasets/..., "
            "s3://bucket/prefix or gs://bucket/prefix, with credentials in the environment"
        ) from error
    return system, path


@contextlib.contextmanager
def reached(location: str) -> Iterator[tuple[fs.FileSystem, str]]:
    """The same, in whose block a failure is a DataError that says what to look at."""
    try:
        yield filesystem(location)
    except OSError as error:
        raise DataError(
            f"{location}: cannot be read: {error}; check the path, its permission and the "
            "connection"
        ) from error


def _base(path: str) -> tuple[str, str]:
    """A path cut before its first wildcard: (folder, pattern); no pattern if it has none."""
    bare, mark, query = path.partition("?") if "://" in path else (path, "", "")
    if not glob.has_magic(bare):
        return path, ""
    fixed = re.split(r"[*?\[]", bare, maxsplit=1)[0].rpartition("/")[0]
    if bare.startswith("/") and not fixed:
        raise DataError(f"{path}: would search the whole machine; name a folder before the pattern")
    return (fixed or ".") + mark + query, bare[len(fixed) :].lstrip("/")


def _listing(base: str) -> list[fs.FileInfo]:
    """The file at `base`, or all files below it that are not hidden and behind no symbolic link.

    A link may lead out of the folder, or round in it for ever; a file named as such may be one.
    """
    with reached(base) as (system, path):
        info = system.get_file_info(path)
        if info.type == fs.FileType.File:
            return [info]
        inside = system.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    return [
        info
        for info in inside
        if info.type == fs.FileType.File
        and "/." not in info.path.removeprefix(path.rstrip("/"))
        and ("://" in base or not _linked(path, info.path))
    ]


def _linked(root: str, path: str) -> bool:
    """Whether a local path below `root` goes through a symbolic link or is one."""
    below = os.path.relpath(path, root)
    return os.path.realpath(path) != os.path.join(os.path.realpath(root), below)  # noqa: PTH118


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """A glob pattern: `*` is of one level, `**/` of any number, none too."""
    try:
        return re.compile(glob_translate(pattern))
    except ValueError as error:
        raise DataError(f"{pattern}: {error}; expected such as data/**/*.jsonl") from error


def _location(given: str, path: str) -> str:
    """The location of a listed path, in the scheme (and with the query) of the one given."""
    if "://" not in given:
        return path
    parts = urlsplit(given)
    return f"{parts.scheme}://{path.lstrip('/')}" + (f"?{parts.query}" if parts.query else "")
