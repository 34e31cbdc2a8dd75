"""A Corpus's report -> one self-contained HTML page: no script, no network, every text escaped.

The funnel, left-out documents to browse by reason, the cleaner's before and after, clusters of
duplicates, languages, lengths, personal data, contamination.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

Json = dict[str, Any]

CHARS = 600  # shown of a text

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --bar: #4a7dbd; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.bar { width: 30%; } td.bar div { background: var(--bar); height: .8rem; border-radius: 2px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0 1rem; padding: .5rem .7rem;
      border-left: 3px solid var(--line); }
details { margin: .3rem 0; } summary { cursor: pointer; } .pair { display: grid; gap: 1rem;
grid-template-columns: 1fr 1fr; } p.facts { margin: .6rem 0 0; opacity: .75; }
"""


def page(title: str, report: Json, samples: Mapping[str, Sequence[Json]]) -> str:
    """The page.

    Args:
        title: the step's name.
        report: what `report.json` holds.
        samples: `rejected`, `cleaned` and `clusters`, the documents shown.
    """
    sections = [
        _funnel(report),
        _rejected(samples["rejected"]),
        _cleaned(samples["cleaned"]),
        _clusters(samples["clusters"]),
        _counted("Languages", "documents kept", report["languages"]),
        _counted("Lengths", "documents kept, by words", report["lengths"]),
        _counted("Labels", "documents kept", report["labels"]),
        _counted("Personal data", "masked in documents that passed the rules", report["masked"]),
        _counted("Contamination", "documents that hold a test item", report["contaminated"]),
        _counted("Unreadable", "records", report["problems"]),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}: corpus report</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1><p>{_headline(report)}</p>{''.join(sections)}</body></html>\n"
    )


def _headline(report: Json) -> str:
    left_out = report["read"] - report["kept"] - report["quarantined"]
    return (
        f"{report['read']:,} records read = {report['kept']:,} kept + {left_out:,} left out + "
        f"{report['quarantined']:,} unreadable."
    )


def _funnel(report: Json) -> str:
    rows = [
        [step["reason"], step["rule"] or "", step["documents"], step["bytes"], step["words"]]
        for step in report["funnel"]
    ]
    most = max((row[2] for row in rows), default=1)
    body = "".join(
        f"<tr><td>{escape(reason)}</td><td>{escape(rule)}</td>{_figures(figures)}"
        f"{_bar(figures[0] / most)}</tr>"
        for reason, rule, *figures in rows
    )
    head = _head(["what", "rule"], ["documents", "bytes", "words"])
    return f'<h2 id="funnel">Funnel</h2><table>{head}{body}</table>'


def _rejected(samples: Sequence[Json]) -> str:
    if not samples:
        return ""
    groups: dict[tuple[str, str], list[Json]] = {}
    for row in samples:
        groups.setdefault((row["reason"], row["rule"] or ""), []).append(row)
    blocks = []
    for (reason, rule), rows in sorted(groups.items()):
        inner = "".join(_document(row) for row in rows)
        name = escape(f"{reason} {rule}".strip())
        blocks.append(f"<details><summary>{name}: {len(rows)} shown</summary>{inner}</details>")
    return f'<h2 id="rejected">Left out, by reason</h2>{"".join(blocks)}'


def _document(row: Json) -> str:
    facts = [row["id"]]
    facts += [
        f"{key} {row[key]:.4g}" if isinstance(row[key], float) else f"{key} {row[key]}"
        for key in ("value", "threshold", "into", "jaccard", "language")
        if row.get(key) is not None
    ]
    return f'<p class="facts">{escape("  ·  ".join(facts))}</p>{_text(row["text"])}'


def _cleaned(samples: Sequence[Json]) -> str:
    if not samples:
        return ""
    pairs = "".join(
        f'<p class="facts">{escape(row["id"])}</p>'
        f'<div class="pair">{_text(row["before"])}{_text(row["after"])}</div>'
        for row in samples
    )
    return f'<h2 id="cleaned">The cleaner: before and after</h2>{pairs}'


def _clusters(samples: Sequence[Json]) -> str:
    if not samples:
        return ""
    rows = "".join(
        f"<tr><td>{escape(row['into'])}</td>{_figures([row['documents']])}"
        f"<td>{escape(', '.join(row['examples']))}</td></tr>"
        for row in samples
    )
    head = "<tr><th>stays</th><th class=n>merged into it</th><th>such as</th></tr>"
    return f'<h2 id="clusters">Largest clusters of duplicates</h2><table>{head}{rows}</table>'


def _counted(title: str, unit: str, counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    most = max(counts.values())
    rows = "".join(
        f"<tr><td>{escape(name)}</td>{_figures([number])}{_bar(number / most)}</tr>"
        for name, number in counts.items()
    )
    key = title.lower().replace(" ", "-")
    return f'<h2 id="{key}">{title}</h2><table>{_head([""], [unit])}{rows}</table>'


def _head(words: Iterable[str], figures: Iterable[str]) -> str:
    cells = [f"<th>{word}</th>" for word in words]
    cells += [f"<th class=n>{figure}</th>" for figure in figures]
    return f"<tr>{''.join(cells)}<th></th></tr>"


def _figures(numbers: Iterable[int]) -> str:
    return "".join(f"<td class=n>{number:,}</td>" for number in numbers)


def _bar(share: float) -> str:
    return f'<td class=bar><div style="width:{100 * share:.1f}%"></div></td>'


def _text(text: str | None) -> str:
    text = text or ""
    return f"<pre>{escape(text[:CHARS])}{'…' if len(text) > CHARS else ''}</pre>"
