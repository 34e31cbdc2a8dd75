"""What the readers give: documents, and records that cannot be read; and the slices they read."""

from dataclasses import dataclass
from typing import Any

from pipelines.corpus.sources import RawFile


@dataclass(frozen=True)
class Document:
    """A text as read: from file `source`, row `row` (line, Parquet row or docstring, from 0).

    `offset` is the byte of the decompressed file where its record begins; rows of Parquet files and
    docstrings have none.
    """

    source: str
    row: int
    text: str
    label: str | None = None
    offset: int | None = None


@dataclass(frozen=True)
class Quarantined:
    """A record that cannot be read; `offset` is its byte in the decompressed file.

    `reason` is one of few, fit to be counted, then after `: ` what is particular to this record.
    """

    source: str
    row: int
    offset: int
    reason: str


@dataclass(frozen=True)
class Slice:
    """`rows` rows of a file from `row`, which begins at byte `offset`: some `size` bytes.

    The `last` slice is read to the end of the file, and so meets the tear of a truncated one.
    """

    raw: RawFile
    row: int
    rows: int
    offset: int
    last: bool
    size: int = 0


def document(
    raw: RawFile, row: int, offset: int | None, data: dict[str, Any]
) -> Document | Quarantined:
    """The text and label among a row's fields, or why they are none."""
    at = offset or 0
    for field in [raw.text] if raw.label is None else [raw.text, raw.label]:
        if field not in data:
            return Quarantined(raw.name, row, at, f"no field {field!r}: it has {sorted(data)}")
    text, label = data[raw.text], data[raw.label] if raw.label else None
    if not isinstance(text, str):
        kind = type(text).__name__
        return Quarantined(raw.name, row, at, f"field {raw.text!r} is {kind}, expected string")
    if label is not None and not isinstance(label, str | int):
        kind = type(label).__name__
        return Quarantined(
            raw.name, row, at, f"field {raw.label!r} is {kind}, expected string or integer"
        )
    return Document(raw.name, row, text, None if label is None else str(label), offset)
