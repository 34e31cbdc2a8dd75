"""Where raw text comes from: settings of each source -> the files to read and their digests.

A `RawFile` is named without its location, so the same files anywhere make the same corpus.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Annotated, Literal, Self, assert_never

from pydantic import Field, model_validator

from pipelines.core.config import Config, Location
from pipelines.core.errors import ConfigError, DataError
from pipelines.corpus import python_docs
from pipelines.corpus.listing import Found, find, reached

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


def _files(source: Files, path: str) -> Iterator[tuple[RawFile, str]]:
    """Each file that `path` names, with its path below the folder given."""
    found = find(path)
    if not found:
        raise DataError(f"{path}: no such file; give an existing file, folder or glob pattern")
    kinds = [_kind(source, one.name) for one in found]
    if not any(kinds):
        raise _unknown(path, found)
    for one, kind in zip(found, kinds, strict=True):
        # A folder or pattern may hold other files beside, such as a licence.
        if kind:
            fields = source.text, source.label
            yield RawFile(one.name, one.location, kind, one.size, *fields), one.below


def _refuse_fields(source: Files, formats: set[Format]) -> None:
    if why := source.useless(formats):
        raise ConfigError(f"{', '.join(source.paths)}: {why}")


def _unknown(path: str, found: list[Found]) -> DataError:
    names = sorted({PurePath(one.name).suffix or one.name for one in found})
    return DataError(
        f"{path}: unknown suffix {', '.join(names[:5])}{', ...' if names[5:] else ''}; "
        f"expected one of {', '.join(SUFFIXES)}, or set format"
    )


def _kind(source: Files, name: str) -> Format | None:
    return source.format if source.format != "auto" else _format(name)


def _code(source: Code, path: str) -> Iterator[tuple[RawFile, str]]:
    """Each file of code that `path` names, under its path below the folder given."""
    chosen = [one for one in find(path) if one.name.endswith(source.suffixes)]
    own = [one for one in chosen if not VENDORED & {*one.below.split("/")[:-1]}]
    if not own:
        raise DataError(
            f"{path}: no file ends in one of {', '.join(source.suffixes)}; {len(chosen)} in "
            f"folders of vendored code ({', '.join(sorted(VENDORED)[:3])}, ...) are left out; "
            "name such a folder itself to read it"
        )
    for one in own:
        label = one.name.rpartition(".")[2]
        yield RawFile(one.below, one.location, "code", one.size, label=label), one.below


def _format(name: str) -> Format | None:
    return next((SUFFIXES[suffix] for suffix in SUFFIXES if name.endswith(suffix)), None)


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
    with reached(raw.location) as (system, path):
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
