"""The files of a Corpus -> its report: where every document that was read went, and why.

The figures are counted from the files as written, so the report also proves that none was lost.
"""

import json
from collections import Counter
from typing import Any

from pipelines.core.artifact import Workspace
from pipelines.core.errors import DataError
from pipelines.corpus import schema

Json = dict[str, Any]


def summary(out: Workspace) -> Json:
    """What `report.json` holds.

    `masked` counts the personal data replaced in documents that passed the rules.

    Raises:
        DataError: nothing is kept, or a document is unaccounted for.
    """
    work = _columns(out, schema.WORK, ["masked"])
    kept = _columns(out, "data", ["language", "label", "split"])
    rejected = _columns(out, "rejected", ["reason", "rule"])
    quarantined = _columns(out, "quarantine", ["reason"])
    report = {
        "read": work.total(),
        "kept": kept.total(),
        "quarantined": quarantined.total(),
        "rejected": _by(rejected, 0),
        "rules": _by(rejected, 1),
        "problems": _by(quarantined, 0),
        "languages": _by(kept, 0),
        "labels": _by(kept, 1),
        "splits": _by(kept, 2),
        "masked": _masked(work),
    }
    _check(report)
    return report


def counts(report: Json) -> dict[str, int]:
    """The figures of a report that go into the manifest."""
    merged = {reason: n for reason, n in report["rejected"].items() if reason.startswith("merged:")}
    return {
        "read": report["read"],
        "kept": report["kept"],
        "rejected": sum(report["rejected"].values()) - sum(merged.values()),
        "merged": sum(merged.values()),
        "quarantined": report["quarantined"],
        **report["splits"],
    }


def _columns(out: Workspace, folder: str, names: list[str]) -> "Counter[tuple[str | None, ...]]":
    """How often each combination of values of some columns occurs in a folder's parts."""
    found: Counter[tuple[str | None, ...]] = Counter()
    for name in out.names(folder):
        table = schema.read(out.read(name), names)
        found.update(zip(*(table[column].to_pylist() for column in names), strict=True))
    return found


def _by(found: "Counter[tuple[str | None, ...]]", place: int) -> dict[str, int]:
    """The counts by one of the columns, with nulls left out."""
    total: Counter[str] = Counter()
    for values, number in found.items():
        value = values[place]
        if value is not None:
            total[value.partition(":")[0] if value.startswith("unreadable") else value] += number
    return dict(total)


def _masked(work: "Counter[tuple[str | None, ...]]") -> dict[str, int]:
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
