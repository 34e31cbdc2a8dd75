"""The files of a Corpus -> its report: where every document that was read went, and why.

The figures are counted from the files as written, part by part, so the report also proves that none
was lost, and takes no more memory for a larger corpus.
"""

import heapq
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow.compute as pc
import xxhash

from pipelines.core.artifact import Workspace
from pipelines.core.config import Json
from pipelines.core.errors import DataError
from pipelines.corpus import schema

SHOWN = 5  # documents shown for each reason and rule
CLUSTERS, EXAMPLES = 20, 3  # of duplicates, and merged documents named in each
KEPT = "kept"
MERGED = "merged:"
CONTAMINATED = "contaminated"


def summary(out: Workspace) -> Json:
    """What `report.json` holds.

    `masked` counts the personal data replaced in documents that passed the rules.

    Raises:
        DataError: nothing is kept, or a document is unaccounted for.
    """
    work = _columns(out, schema.WORK, ["masked"])
    taken = _columns(out, "data", ["language", "label", "split", "epoch"])
    kept = Counter({values: number for values, number in taken.items() if values[3] == 0})
    funnel, lengths = _measured(out)
    rejected = _columns(out, "rejected", ["reason", "rule"])
    quarantined = _columns(out, "quarantine", ["reason"])
    report = {
        "read": work.total(),
        "kept": kept.total(),
        "repeated": taken.total() - kept.total(),
        "quarantined": quarantined.total(),
        "rejected": _by(rejected, 0),
        "rules": _by(rejected, 1),
        "problems": _by(quarantined, 0),
        "languages": _by(kept, 0),
        "labels": _by(kept, 1),
        "splits": _by(kept, 2),
        "masked": _masked(work),
        "contaminated": {
            step["rule"]: step["documents"] for step in funnel if step["reason"] == CONTAMINATED
        },
        "lengths": lengths,
        "funnel": funnel,
    }
    _check(report)
    return report


def counts(report: Json) -> dict[str, int]:
    """The figures of a report that go into the manifest."""
    merged = {reason: n for reason, n in report["rejected"].items() if reason.startswith(MERGED)}
    return {
        "read": report["read"],
        "kept": report["kept"],
        "rejected": sum(report["rejected"].values()) - sum(merged.values()),
        "merged": sum(merged.values()),
        "quarantined": report["quarantined"],
        **({"repeated": report["repeated"]} if report["repeated"] else {}),
        **report["splits"],
    }


def samples(out: Workspace) -> dict[str, list[Json]]:
    """The documents that the page shows; chosen by hash, so the same ones every time."""
    rejected: dict[tuple[str, str], list[tuple[int, str, Json]]] = {}
    clusters: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for row in _rows(out, "rejected", None):
        _keep_least(rejected.setdefault((row["reason"], row["rule"] or ""), []), row)
        if row["reason"].startswith(MERGED):
            clusters[row["into"]] += 1
            if len(named := examples.setdefault(row["into"], [])) < EXAMPLES:
                named.append(row["id"])
    largest = sorted(clusters.items(), key=lambda pair: (-pair[1], pair[0]))[:CLUSTERS]
    return {
        "rejected": [row for _, group in sorted(rejected.items()) for row in _ordered(group)],
        "cleaned": _cleaned(out),
        "clusters": [
            {"into": into, "documents": number, "examples": examples[into]}
            for into, number in largest
        ],
    }


def _cleaned(out: Workspace) -> list[Json]:
    """Documents that the cleaner changed, as read and as cleaned."""
    chosen: list[tuple[int, str, Json]] = []
    for row in _rows(out, schema.WORK, ["source", "row", "before", "text"]):
        if row["before"] is not None:
            name = f"{row['source']}:{row['row']}"
            _keep_least(chosen, {"id": name, "before": row["before"], "after": row["text"]})
    return _ordered(chosen)


def _keep_least(heap: list[tuple[int, str, Json]], row: Json) -> None:
    """Keep the `SHOWN` rows whose ids have the least hashes."""
    item = (-xxhash.xxh64_intdigest(row["id"].encode()), row["id"], row)
    if len(heap) < SHOWN:
        heapq.heappush(heap, item)
    elif item[:2] > heap[0][:2]:
        heapq.heapreplace(heap, item)


def _ordered(heap: list[tuple[int, str, Json]]) -> list[Json]:
    return [row for _, _, row in sorted(heap, key=lambda item: item[1])]


def _measured(out: Workspace) -> tuple[list[Json], dict[str, int]]:
    """The funnel, the most first, and the kept documents by words, in powers of two."""
    total: dict[tuple[str, str], list[int]] = {}
    lengths: Counter[int] = Counter()
    for key, size, words in _sizes(out):
        sums = total.setdefault(key, [0, 0, 0])
        sums[0], sums[1], sums[2] = sums[0] + 1, sums[1] + size, sums[2] + words
        if key[0] == KEPT:
            lengths[words.bit_length()] += 1
    order = sorted(total.items(), key=lambda pair: (pair[0][0] != KEPT, -pair[1][0], pair[0]))
    funnel = [
        {"reason": reason, "rule": rule, "documents": sums[0], "bytes": sums[1], "words": sums[2]}
        for (reason, rule), sums in order
    ]
    return funnel, {
        f"{1 << bits >> 1:,} to {(1 << bits) - 1:,}": lengths[bits] for bits in sorted(lengths)
    }


def _sizes(out: Workspace) -> Iterator[tuple[tuple[str, str], int, int]]:
    """For each document its reason and rule, the bytes and the words of its text."""
    for folder, columns in (("data", ["epoch", "text"]), ("rejected", ["reason", "rule", "text"])):
        for name in out.names(folder):
            table = schema.read(out.read(name), columns)
            if folder == "data":
                table = table.filter(pc.equal(table["epoch"], 0))
            sizes = pc.binary_length(table["text"]).to_pylist()
            words = pc.list_value_length(pc.utf8_split_whitespace(table["text"])).to_pylist()
            keys: list[tuple[str, str]] = [(KEPT, "")] * table.num_rows
            if folder == "rejected":
                reasons, rules = table["reason"].to_pylist(), table["rule"].to_pylist()
                keys = [(reason, rule or "") for reason, rule in zip(reasons, rules, strict=True)]
            yield from zip(keys, sizes, words, strict=True)


def _rows(out: Workspace, folder: str, columns: list[str] | None) -> Iterator[Json]:
    for name in out.names(folder):
        yield from schema.read(out.read(name), columns).to_pylist()


def _columns(out: Workspace, folder: str, names: list[str]) -> "Counter[tuple[Any, ...]]":
    """How often each combination of values of some columns occurs in a folder's parts."""
    found: Counter[tuple[Any, ...]] = Counter()
    for name in out.names(folder):
        table = schema.read(out.read(name), names)
        found.update(zip(*(table[column].to_pylist() for column in names), strict=True))
    return found


def _by(found: "Counter[tuple[Any, ...]]", place: int) -> dict[str, int]:
    """The counts by one of the columns, with nulls left out."""
    total: Counter[str] = Counter()
    for values, number in found.items():
        value = values[place]
        if value is not None:
            total[value.partition(":")[0] if value.startswith("unreadable") else value] += number
    return dict(total)


def _masked(work: "Counter[tuple[Any, ...]]") -> dict[str, int]:
    total: Counter[str] = Counter()
    for (text,), number in work.items():
        for kind, times in json.loads(text or "{}").items():
            total[kind] += times * number
    return dict(total)


def _check(report: Json) -> None:
    funnel = ", ".join(f"{reason} {n:,}" for reason, n in sorted(report["rejected"].items()))
    story = f"read {report['read']:,}, quarantined {report['quarantined']:,}"
    story += f", {funnel}" if funnel else ""
    left_out = sum(report["rejected"].values()) + report["quarantined"]
    if report["read"] != report["kept"] + left_out:
        raise DataError(
            f"corpus: {report['read'] - report['kept'] - left_out} documents are unaccounted for "
            f"({story}, kept {report['kept']:,}); delete the step's .work folder and run again"
        )
    if not report["kept"]:
        raise DataError(
            f"corpus: no document is kept ({story}); the most frequent rules and problems are "
            f"{_most(report['rules'])}; {_most(report['problems'])}; "
            "loosen the rules, languages or min_words, or check the field names of the sources"
        )


def _most(found: dict[str, int]) -> str:
    top = Counter(found).most_common(3)
    return ", ".join(f"{name} ({number:,})" for name, number in top) or "none"
