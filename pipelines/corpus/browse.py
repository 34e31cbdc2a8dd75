"""A committed Corpus -> the records a person asks for: what was left out and why, one document.

Reads the Parquet files part by part; nothing is held but what is shown.
"""

import io
import json
from collections.abc import Iterator
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.artifact import Artifact
from pipelines.core.config import Json, nearest
from pipelines.core.console import table
from pipelines.core.errors import DataError

SIZES = ("documents", "bytes", "words")
FOLDERS = ("data", "rejected", "quarantine")


def rejects(corpus: Artifact, reason: str, limit: int) -> list[Json]:
    """The first `limit` records left out for a reason or by a rule; all reasons if it is empty.

    Raises:
        DataError: nothing was left out for that reason; names the nearest that occurs.
    """
    found = list(islice(_left_out(corpus, reason), limit))
    if not found and reason:
        known = sorted({name for row in _left_out(corpus, "") for name in _names(row)})
        hint = nearest(reason, known) if known else "nothing was left out"
        raise DataError(f"{corpus.uri}: nothing was left out for {reason!r}; {hint}")
    return found


def document(corpus: Artifact, name: str) -> tuple[str, Json]:
    """The folder (`data`, `rejected`, `quarantine`) and the record of the document `name`.

    Raises:
        DataError: the corpus has no such document.
    """
    for folder in FOLDERS:
        for row in _rows(corpus, folder):
            if row.get("id", f"{row.get('source')}:{row.get('row')}") == name:
                return folder, row
    raise DataError(
        f"{corpus.uri}: no document {name!r}; an id is <file>:<row>, as in the id column of "
        "`rayline data rejects`"
    )


def funnel(corpus: Artifact) -> str:
    """Where every record went, as a table."""
    report = json.loads(corpus.read("report.json"))
    rows = [
        [step["reason"], step["rule"], *(f"{step[key]:,}" for key in SIZES)]
        for step in report["funnel"]
    ]
    rows += [
        ["unreadable", name, f"{number:,}", "-", "-"] for name, number in report["problems"].items()
    ]
    return table(["what", "rule", *SIZES], rows)


def _left_out(corpus: Artifact, reason: str) -> Iterator[Json]:
    for folder in FOLDERS[1:]:
        for row in _rows(corpus, folder):
            if not reason or any(name.startswith(reason) for name in _names(row)):
                yield {"id": f"{row.get('source')}:{row.get('row')}"} | row


def _names(row: Json) -> list[str]:
    """What a record may be asked for by: its reason and its rule."""
    return [name for name in (row.get("reason"), row.get("rule")) if name]


def _rows(corpus: Artifact, folder: str) -> Iterator[Json]:
    for name in corpus.files(".parquet"):
        if name.startswith(f"{folder}/"):
            file = pq.ParquetFile(pa.BufferReader(corpus.read(name)))
            for batch in file.iter_batches(1024):
                yield from batch.to_pylist()


def shown(row: Json, width: int = 160) -> str:
    """A record as text: its figures, then the beginning of its text in `width` characters."""
    text = str(row.get("text") or "").replace("\n", " ⏎ ")
    facts = {key: value for key, value in row.items() if key != "text" and value is not None}
    sink = io.StringIO()
    sink.write("  ".join(f"{key} {value}" for key, value in facts.items()))
    if text:
        sink.write(f"\n    {text[:width]}{'…' if len(text) > width else ''}")
    return sink.getvalue()
