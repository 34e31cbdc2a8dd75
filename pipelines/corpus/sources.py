"""Where raw text comes from: settings of each source -> the files to read and their digests."""

from typing import Annotated, Literal

from pydantic import Field

from pipelines.core.config import Config, Location


class Files(Config):
    """Raw files: JSON lines (.gz, .zst), Parquet or text, at paths or `hf://`, `s3://` URIs."""

    kind: Literal["files"] = "files"
    paths: tuple[str, ...] = Location(
        description="files, folders or glob patterns; only their names and contents are identity"
    )
    format: Literal["auto", "jsonl", "parquet", "text"] = Field(
        default="auto", description="auto goes by the file name's suffix"
    )
    text: str = Field(default="text", description="field that holds the text")
    label: str | None = Field(default=None, description="field that holds the class label, if any")


class PythonDocs(Config):
    """Docstrings of installed packages: real text on any machine, labelled by package."""

    kind: Literal["python-docs"] = "python-docs"
    packages: tuple[str, ...] = Field(description="import names of top-level packages; `stdlib` too")
    max_files: int = Field(
        default=400, ge=1, description="source files read a package, the first in sorted order"
    )


Source = Annotated[Files | PythonDocs, Field(discriminator="kind")]


def digests(sources: tuple[Files | PythonDocs, ...]) -> dict[str, str]:
    """SHA-256 of every raw file, by a name free of location."""
    raise NotImplementedError
