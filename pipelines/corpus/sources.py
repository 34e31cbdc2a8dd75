"""Where raw text comes from: settings of each source -> the files to read and their digests.

A `RawFile` is named without its location, so the same files anywhere make the same corpus.
"""

import contextlib
import functools
import glob
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self, assert_never
from urllib.parse import urlsplit

from fsspec.utils import glob_translate
from pyarrow import fs
from pydantic import Field, model_validator

from pipelines.core.config import Config, Location
from pipelines.core.errors import ConfigError, DataError
from pipelines.corpus import python_docs

CHUNK = 1 << 20  # bytes read at a time when hashing
Format = Literal["jsonl", "parquet", "csv", "text", "html", "warc", "code", "python"]

SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".jsonl.zst": "jsonl",
    ".parquet": "parquet",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
    ".tsv.gz": "csv",
    ".txt": "text",
    ".md": "text",
    ".rst": "text",
    ".html": "html",
    ".htm": "html",
    ".warc": "warc",
    ".warc.gz": "warc",
    ".wet": "warc",
    ".wet.gz": "warc",
}
WITHOUT_FIELDS = ("text", "html", "warc")  # formats whose documents are whole files or pages
# Folders of code that others wrote or a program made: github-linguist's vendor.yml, the plain ones.
VENDORED = frozenset(
    (
        "node_modules",
        "bower_components",
        "vendor",
        "third_party",
        "site-packages",
        "dist",
        "build",
        "venv",
        "__pycache__",
    )
)


class Weighted(Config):
    """What every source has."""

    weight: float = Field(
        default=1.0,
        ge=0,
        le=100,
        description="how often a kept document is taken: .3 takes three in ten, 2.5 takes each "
        "twice and half of them a third time (of the train split), chosen by hash",
    )


class Files(Weighted):
    """Raw files at paths or `hf://`, `s3://`, `gs://` URIs.

    JSON lines (.gz, .zst), Parquet, CSV (.gz), text, Markdown, HTML, WARC and WET (.gz).
    """

    kind: Literal["files"] = "files"
    paths: tuple[str, ...] = Location(
        description="files, folders or glob patterns; only their names and contents are identity"
    )
    format: Literal["auto", "jsonl", "parquet", "csv", "text", "html", "warc"] = Field(
        default="auto", description="auto goes by the file name's suffix"
    )
    text: str = Field(default="text", description="field that holds the text")
    label: str | None = Field(default=None, description="field that holds the class label, if any")

    @model_validator(mode="after")
    def _fields_are_of_records(self) -> Self:
        if self.format in WITHOUT_FIELDS and (why := self.useless({self.format})):
            raise ValueError(why)
        return self

    def useless(self, formats: Set[str]) -> str:
        """Which field is named though no file of these formats has any, if one is."""
        fields = (("text", self.text, "text"), ("label", self.label, None))
        named = [f"{name}={value}" for name, value, usual in fields if value != usual]
        if not named or not formats <= {*WITHOUT_FIELDS}:
            return ""
        return (
            f"{named[0]} names a field, and a file of format {', '.join(sorted(formats))} has "
            f"none; leave {named[0].partition('=')[0]} out, or set format to jsonl, parquet or csv"
        )


class Code(Weighted):
    """Source code: each file a document, named by its path below the folder, labelled by suffix."""

    kind: Literal["code"] = "code"
    paths: tuple[str, ...] = Location(
        description="folders or glob patterns; only their names and contents are identity"
    )
    suffixes: tuple[str, ...] = Field(
        default=(
            ".py",
            ".js",
            ".ts",
            ".java",
            ".c",
            ".h",
            ".cc",
            ".cpp",
            ".hpp",
            ".go",
            ".rs",
            ".rb",
            ".php",
            ".sh",
            ".sql",
            ".cs",
            ".scala",
            ".kt",
            ".swift",
        ),
        min_length=1,
        description="of the files read; folders of vendored code are left out",
    )


class PythonDocs(Weighted):
    """Docstrings of installed packages: real text on any machine, labelled by package."""

    kind: Literal["python-docs"] = "python-docs"
    packages: tuple[str, ...] = Field(description="import names of packages; `stdlib` too")
    max_files: int = Field(
        default=400, ge=1, description="source files read a package, the first in sorted order"
    )


Source = Annotated[Files | Code | PythonDocs, Field(discriminator="kind")]


@dataclass(frozen=True)
class RawFile:
    """One file to read.

    `name` is unique in the corpus and free of location; `text` and `label` are the fields that hold
    them, except that the label of a Python or code file is `label` itself. `origin` is the place of
    its source among the settings.
    """

    name: str
    location: str
    format: Format
    size: int
    text: str = "text"
    label: str | None = None
    weight: float = 1.0
    origin: int = 0


def expand(sources: tuple[Source, ...]) -> list[RawFile]:
    """The raw files of all sources, sorted by name.

    Files that share a name are told apart by their path below the given folder, then by a number.

    Raises:
        ConfigError: a field is named that none of a source's files can have.
        DataError: a path matches nothing, a suffix is unknown, or a package is not installed.
    """
    found: list[tuple[RawFile, str]] = []
    for origin, source in enumerate(sources):
        match source:
            case Files():
                pairs = [pair for path in source.paths for pair in _files(source, path)]
                _refuse_fields(source, {raw.format for raw, _ in pairs})
            case Code():
                pairs = [pair for path in source.paths for pair in _code(source, path)]
            case PythonDocs():
                pairs = [(raw, raw.name) for raw in _modules(source)]
            case _:
                assert_never(source)
        found += [
            (replace(raw, weight=source.weight, origin=origin), relative) for raw, relative in pairs
        ]
    return sorted(_unique(found), key=lambda raw: raw.name)


def digests(sources: tuple[Source, ...]) -> dict[str, str]:
    """Hex SHA-256 of every raw file by its name; of a package by `python-docs/<package>`.

    The name is followed by how the file is read, where that is unusual. A package's digest covers
    the paths and sizes of the files chosen, and the Python version, whose parser reads them. A
    remote file's covers its size and its version (a Hub file's content id, elsewhere the time of
    change) as listed: it is not downloaded to plan a run.

    Raises:
        DataError: a path matches nothing.
    """
    named: dict[str, str] = {}
    listings: dict[str, list[str]] = {}
    for raw in expand(sources):
        if raw.format == "python":
            listings.setdefault(f"python-docs/{raw.label}", []).append(f"{raw.name}\0{raw.size}")
        else:
            named[_as_read(raw)] = _content(raw)
    for name, listing in listings.items():
        text = "\n".join([python_docs.PARSER, *listing])
        named[name] = hashlib.sha256(text.encode()).hexdigest()
    return named


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


def _files(source: Files, path: str) -> Iterator[tuple[RawFile, str]]:
    """Each file that `path` names, with its path below the folder given."""
    base, pattern = _base(path)
    matches = [info for info in _listing(base) if not pattern or _matches(pattern, info.path, base)]
    if not matches:
        raise DataError(f"{path}: no such file; give an existing file, folder or glob pattern")
    kinds = {info.path: _kind(source, info) for info in matches}
    if not any(kinds.values()):
        raise _unknown(path, matches)
    root = filesystem(base)[1].rstrip("/")
    for info in sorted(matches, key=lambda info: info.path):
        # A folder or pattern may hold other files beside, such as a licence.
        if kind := kinds[info.path]:
            relative = info.path.removeprefix(root).lstrip("/") or info.base_name
            location = _location(path, info.path)
            yield (
                RawFile(info.base_name, location, kind, info.size, source.text, source.label),
                relative,
            )


def _refuse_fields(source: Files, formats: set[Format]) -> None:
    if why := source.useless(formats):
        raise ConfigError(f"{', '.join(source.paths)}: {why}")


def _unknown(path: str, matches: list[fs.FileInfo]) -> DataError:
    names = (f".{info.extension}" if info.extension else info.base_name for info in matches)
    found = sorted(set(names))
    return DataError(
        f"{path}: unknown suffix {', '.join(found[:5])}{', ...' if found[5:] else ''}; "
        f"expected one of {', '.join(SUFFIXES)}, or set format"
    )


def _kind(source: Files, info: fs.FileInfo) -> Format | None:
    return source.format if source.format != "auto" else _format(info.base_name)


def _code(source: Code, path: str) -> Iterator[tuple[RawFile, str]]:
    """Each file of code that `path` names, under its path below the folder given."""
    base, pattern = _base(path)
    root = filesystem(base)[1].rstrip("/")
    found = [info for info in _listing(base) if not pattern or _matches(pattern, info.path, base)]
    chosen = {
        info.path.removeprefix(root).lstrip("/") or info.base_name: info
        for info in sorted(found, key=lambda info: info.path)
        if info.base_name.endswith(source.suffixes)
    }
    own = {name: info for name, info in chosen.items() if not VENDORED & {*name.split("/")[:-1]}}
    if not own:
        raise DataError(
            f"{path}: no file ends in one of {', '.join(source.suffixes)}; {len(chosen)} in "
            f"folders of vendored code ({', '.join(sorted(VENDORED)[:3])}, ...) are left out; "
            "name such a folder itself to read it"
        )
    for relative, info in own.items():
        label = info.base_name.rpartition(".")[2]
        location = _location(path, info.path)
        yield RawFile(relative, location, "code", info.size, label=label), relative


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
    with _reached(base) as (system, path):
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


def _matches(pattern: str, path: str, base: str) -> bool:
    relative = path.removeprefix(filesystem(base)[1].rstrip("/")).lstrip("/")
    return _compiled(pattern).match(relative) is not None


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """A glob pattern: `*` is of one level, `**/` of any number, none too."""
    try:
        return re.compile(glob_translate(pattern))
    except ValueError as error:
        raise DataError(f"{pattern}: {error}; expected such as data/**/*.jsonl") from error


def _format(name: str) -> Format | None:
    return next((SUFFIXES[suffix] for suffix in SUFFIXES if name.endswith(suffix)), None)


def _location(given: str, path: str) -> str:
    """The location of a listed path, in the scheme (and with the query) of the one given."""
    if "://" not in given:
        return path
    parts = urlsplit(given)
    return f"{parts.scheme}://{path.lstrip('/')}" + (f"?{parts.query}" if parts.query else "")


def _modules(source: PythonDocs) -> Iterator[RawFile]:
    for package in source.packages:
        for module in python_docs.modules(package, source.max_files):
            yield RawFile(module.name, module.path, "python", module.size, label=package)


def _unique(found: list[tuple[RawFile, str]]) -> Iterator[RawFile]:
    basenames = Counter(raw.name for raw, _ in found)
    used: Counter[str] = Counter()
    for raw, relative in found:
        name = raw.name if basenames[raw.name] == 1 else relative
        used[name] += 1
        yield replace(raw, name=name if used[name] == 1 else f"{name}~{used[name]}")


def _as_read(raw: RawFile) -> str:
    """A file's name, and the format, fields and weight it is read with, so far as unusual.

    They tell the sources of a file apart, for the paths of a source are not identity.
    """
    usual: dict[str, object] = {
        "format": _format(raw.name),
        "text": "text",
        "label": None,
        "weight": 1.0,
    }
    if raw.format == "code":
        usual["label"] = raw.label  # the suffix, which the name has
    odd = [f"{key}={getattr(raw, key)}" for key in usual if getattr(raw, key) != usual[key]]
    return f"{raw.name} ({', '.join(odd)})" if odd else raw.name


def _content(raw: RawFile) -> str:
    """Hex SHA-256 of a local file; the size and version of a remote one."""
    with _reached(raw.location) as (system, path):
        if "://" in raw.location:
            info = system.get_file_info(path)
            listed = system.handler.fs.info(path) if hasattr(system, "handler") else {}
            version = listed.get("blob_id") or info.mtime_ns
            return hashlib.sha256(f"{info.size}\0{version}".encode()).hexdigest()
        with system.open_input_file(path) as stream:
            digest = hashlib.sha256()
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
            return digest.hexdigest()


@contextlib.contextmanager
def _reached(location: str) -> Iterator[tuple[fs.FileSystem, str]]:
    try:
        yield filesystem(location)
    except OSError as error:
        raise DataError(
            f"{location}: cannot be read: {error}; check the path, its permission and the "
            "connection"
        ) from error
