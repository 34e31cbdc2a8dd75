"""The figures of all parts of a Corpus -> its report: where every document that was read went.

What it holds does not grow with the texts, but for a line a cluster of duplicates.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from pipelines.core.config import Json
from pipelines.core.errors import DataError
from pipelines.corpus.tally import EXAMPLES, KEPT, MERGED, TAKEN, least

CLUSTERS = 20  # of duplicates that the page names
CONTAMINATED = "contaminated"


def summary(tallies: Sequence[Json]) -> Json:
    """What `report.json` holds, of the tallies of all parts (see `tally.tally`).

    `masked` counts the personal data replaced in documents that passed the rules.

    Raises:
        DataError: nothing is kept, or a document is unaccounted for.
    """
    funnel = _funnel(tallies)
    out = [step for step in funnel if step["reason"] != KEPT]
    taken = {
        name: _added({row[place]: row[-1]} for tally in tallies for row in tally["taken"])
        for place, name in enumerate(TAKEN)
    }
    problems = _added(tally["quarantined"] for tally in tallies)
    report = {
        "read": sum(tally["read"] for tally in tallies),
        "kept": sum(step["documents"] for step in funnel if step["reason"] == KEPT),
        "repeated": sum(tally["repeated"] for tally in tallies),
        "quarantined": sum(problems.values()),
        "rejected": _added({step["reason"]: step["documents"]} for step in out),
        "rules": _added({step["rule"]: step["documents"]} for step in out if step["rule"]),
        "problems": problems,
        "languages": taken["language"],
        "labels": taken["label"],
        "splits": taken["split"],
        "masked": _added(tally["masked"] for tally in tallies),
        "contaminated": {
            step["rule"]: step["documents"] for step in out if step["reason"] == CONTAMINATED
        },
        "lengths": _lengths(tallies),
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


def samples(tallies: Sequence[Json]) -> dict[str, list[Json]]:
    """The documents that the page shows; chosen by hash, so the same ones every time."""
    groups: dict[tuple[str, str], list[Json]] = {}
    for row in (row for tally in tallies for row in tally["rejected"]):
        groups.setdefault((row["reason"], row["rule"] or ""), []).append(row)
    sizes: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for tally in tallies:
        for into, (number, ids) in tally["clusters"].items():
            sizes[into] += number
            examples[into] = [*examples.get(into, []), *ids][:EXAMPLES]
    largest = sorted(sizes.items(), key=lambda pair: (-pair[1], pair[0]))[:CLUSTERS]
    return {
        "rejected": [row for _, group in sorted(groups.items()) for row in least(group)],
        "cleaned": least([row for tally in tallies for row in tally["cleaned"]]),
        "clusters": [
            {"into": into, "documents": number, "examples": examples[into]}
            for into, number in largest
        ],
    }


def _added(found: Iterable[Json]) -> dict[str, int]:
    """The sums of several counts, with nulls left out."""
    total: Counter[str] = Counter()
    for counted in found:
        total.update({name: number for name, number in counted.items() if name is not None})
    return dict(total)


def _funnel(tallies: Sequence[Json]) -> list[Json]:
    """Documents, bytes and words by reason and rule: what is kept, then the most first."""
    total: dict[tuple[str, str], list[int]] = {}
    for reason, rule, *sums in (row for tally in tallies for row in tally["funnel"]):
        before = total.get((reason, rule), [0, 0, 0])
        total[reason, rule] = [old + new for old, new in zip(before, sums, strict=True)]
    order = sorted(total.items(), key=lambda pair: (pair[0][0] != KEPT, -pair[1][0], pair[0]))
    return [
        {"reason": reason, "rule": rule, "documents": sums[0], "bytes": sums[1], "words": sums[2]}
        for (reason, rule), sums in order
    ]


def _lengths(tallies: Sequence[Json]) -> dict[str, int]:
    """Kept documents by words, in powers of two."""
    total: Counter[int] = Counter()
    for tally in tallies:
        total.update({int(bits): number for bits, number in tally["lengths"].items()})
    return {f"{1 << bits >> 1:,} to {(1 << bits) - 1:,}": total[bits] for bits in sorted(total)}


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
