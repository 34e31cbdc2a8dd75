"""The files of one part of a Corpus -> its figures, and documents to show, as JSON.

They are taken from the files as written, so that they prove that none was lost. `report.py` adds
the parts up.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pipelines.core.artifact import Workspace
from pipelines.core.config import Json
from pipelines.corpus import schema
from pipelines.corpus.page import CHARS

SHOWN = 5  # documents shown for each reason and rule
EXAMPLES = 3  # merged documents named in a cluster
KEPT, MERGED = "kept", "merged:"
TAKEN = ("language", "label", "split")


def tally(out: Workspace, part: int) -> Json:
    """What a part adds to the report.

    `taken` counts the kept documents by `TAKEN`; `funnel` has, by reason and rule, documents, bytes
    and words; `lengths` the kept documents by the bits of their number of words; `clusters`, by the
    document that stays, how many are merged into it and the first of them.
    """
    work = _table(out, schema.WORK, part, ["masked"])
    data = _table(out, "data", part, [*TAKEN, "epoch", "text"])
    once = data.filter(pc.equal(data["epoch"], 0))
    rejected = _table(out, "rejected", part, None)
    funnel: dict[tuple[str, str], list[int]] = {}
    lengths: Counter[int] = Counter()
    for key, size, words in [*_sizes(once), *_sizes(rejected)]:
        sums = funnel.setdefault(key, [0, 0, 0])
        sums[0], sums[1], sums[2] = sums[0] + 1, sums[1] + size, sums[2] + words
        if key[0] == KEPT:
            lengths[words.bit_length()] += 1
    quarantined = _table(out, "quarantine", part, ["reason"])["reason"].to_pylist()
    taken = Counter(zip(*(once[name].to_pylist() for name in TAKEN), strict=True))
    return {
        "read": work.num_rows,
        "repeated": data.num_rows - once.num_rows,
        "taken": [[*values, number] for values, number in taken.items()],
        "funnel": [[*key, *sums] for key, sums in sorted(funnel.items())],
        "lengths": dict(lengths),
        "quarantined": dict(Counter(quarantined)),
        "masked": _masked(work["masked"].to_pylist()),
        "rejected": _shown(rejected),
        "cleaned": _cleaned(out, part),
        "clusters": _clusters(rejected),
    }


def least(rows: list[Json]) -> list[Json]:
    """The `SHOWN` rows whose ids have the least hashes, by id: the same ones every time."""
    hashed = {xxhash.xxh64_intdigest(row["id"].encode()): row for row in rows}
    return sorted((hashed[key] for key in sorted(hashed)[:SHOWN]), key=lambda row: str(row["id"]))


def _table(out: Workspace, folder: str, part: int, columns: list[str] | None) -> pa.Table:
    return schema.read(out.read(schema.part(folder, part)), columns)


def _sizes(table: pa.Table) -> Iterator[tuple[tuple[str, str], int, int]]:
    """For each document its reason and rule, the bytes and the words of its text."""
    sizes = pc.binary_length(table["text"]).to_pylist()
    words = pc.list_value_length(pc.utf8_split_whitespace(table["text"])).to_pylist()
    keys: list[tuple[str, str]] = [(KEPT, "")] * table.num_rows
    if "reason" in table.schema.names:
        reasons, rules = table["reason"].to_pylist(), table["rule"].to_pylist()
        keys = [(reason, rule or "") for reason, rule in zip(reasons, rules, strict=True)]
    yield from zip(keys, sizes, words, strict=True)


def _masked(found: list[str | None]) -> dict[str, int]:
    """Personal data replaced, by type."""
    total: Counter[str] = Counter()
    for text, number in Counter(found).items():
        for kind, times in json.loads(text or "{}").items():
            total[kind] += times * number
    return dict(total)


def _shown(rejected: pa.Table) -> list[Json]:
    """Some documents of each reason and rule, their texts cut."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    rows = rejected.drop_columns(["text"]).to_pylist()
    for place, row in enumerate(rows):
        groups.setdefault((row["reason"], row["rule"] or ""), []).append(row | {"place": place})
    chosen = [row for _, group in sorted(groups.items()) for row in least(group)]
    return [row | {"text": _cut(rejected["text"][row.pop("place")].as_py())} for row in chosen]


def _cleaned(out: Workspace, part: int) -> list[Json]:
    """Some documents that the cleaner changed, as read and as cleaned."""
    table = _table(out, schema.WORK, part, ["source", "row", "before", "text"])
    rows = table.filter(pc.is_valid(table["before"])).to_pylist()
    return least(
        [
            {
                "id": f"{row['source']}:{row['row']}",
                "before": _cut(row["before"]),
                "after": _cut(row["text"]),
            }
            for row in rows
        ]
    )


def _clusters(rejected: pa.Table) -> dict[str, tuple[int, list[str]]]:
    """By the document that stays: how many repeat it, and the first few."""
    found: dict[str, list[str]] = {}
    for row in rejected.select(["id", "reason", "into"]).to_pylist():
        if row["reason"].startswith(MERGED):
            found.setdefault(row["into"], []).append(row["id"])
    return {into: (len(ids), ids[:EXAMPLES]) for into, ids in found.items()}


def _cut(text: str | None) -> str:
    """As much as the page shows, and one character more, so that it shows the cut."""
    return (text or "")[: CHARS + 1]
