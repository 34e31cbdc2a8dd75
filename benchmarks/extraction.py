"""HTML to text, side by side in one run: ours, resiliparse alone, trafilatura alone.

    python benchmarks/extraction.py DATA         writes benchmarks/extraction.md

DATA holds html/trafilatura_eval.tar.gz: 300 pages with strings the text must and must not contain;
and html/readability_pages.tar.gz: 82 pages with the article that Mozilla's readability expects, on
which no threshold of ours was chosen.
"""

import json
import platform
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median

import trafilatura
from lxml import html
from resiliparse.extract.html2text import extract_plain_text

from pipelines.corpus.encoding import declared_charset, page_text
from pipelines.corpus.extract import extract

RACES = 3


def ours(page: str) -> str:
    """Our text, or none of a page that is refused."""
    try:
        return extract(page)
    except ValueError:
        return ""


CONTESTANTS: dict[str, Callable[[str], str | None]] = {
    "ours": ours,
    "resiliparse, main content": lambda page: extract_plain_text(page, main_content=True),
    "trafilatura": lambda page: trafilatura.extract(page, include_comments=False),
    "trafilatura, fast": lambda page: trafilatura.extract(page, include_comments=False, fast=True),
}


def files(archive: Path) -> dict[str, bytes]:
    """The files of a tar archive."""
    with tarfile.open(archive) as opened:
        members = [member for member in opened if member.isfile()]
        return {member.name: opened.extractfile(member).read() for member in members}


def decoded(page: bytes) -> str:
    """A page's characters, for all contestants alike."""
    return page_text(page, declared_charset(page))


def marked(data: Path) -> tuple[list[dict[str, list[str]]], list[str]]:
    """The strings wanted and unwanted, and the page, of each item of trafilatura's set."""
    found = {
        name.rpartition("/")[2]: content
        for name, content in files(data / "html/trafilatura_eval.tar.gz").items()
    }
    truth = [json.loads(line) for line in found["truth.jsonl"].splitlines()]
    return truth, [decoded(found[row["file"]]) for row in truth]


def articles(data: Path) -> tuple[list[Counter[str]], list[str]]:
    """The words of the article, and the page, of each item of readability's set."""
    found = files(data / "html/readability_pages.tar.gz")
    names = sorted({name.partition("/")[0] for name in found})
    wanted = [html.fromstring(found[f"{name}/expected.html"]) for name in names]
    words = [Counter(article.text_content().split()) for article in wanted]
    return words, [decoded(found[f"{name}/source.html"]) for name in names]


def overlap(truth: list[Counter[str]], texts: list[str]) -> tuple[float, float, float]:
    """Precision, recall and F1 of the words, means over the pages."""
    rows = []
    for wanted, text in zip(truth, texts, strict=True):
        found = Counter(text.split())
        both = (wanted & found).total()
        precision, recall = both / max(1, found.total()), both / max(1, wanted.total())
        rows.append((precision, recall, 2 * both / max(1, found.total() + wanted.total())))
    return tuple(mean(column) for column in zip(*rows, strict=True))


def score(truth: list[dict[str, list[str]]], texts: list[str]) -> tuple[float, float, float]:
    """Precision, recall and F1 of the strings found."""
    pairs = list(zip(truth, texts, strict=True))
    right = sum(string in text for row, text in pairs for string in row["with"])
    wrong = sum(string in text for row, text in pairs for string in row["without"])
    precision, recall = right / (right + wrong), right / sum(len(row["with"]) for row in truth)
    return precision, recall, 2 * precision * recall / (precision + recall)


def race(truth: list, texts: list[str], judge: Callable) -> list[str]:
    """Every contestant's score and speed on the same pages, as lines of a table."""
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    scores = {}
    for function in CONTESTANTS.values():
        function(texts[0])
    for _ in range(RACES):
        for name, function in CONTESTANTS.items():
            began = time.process_time()
            found = [function(text) or "" for text in texts]
            seconds[name].append(time.process_time() - began)
            scores[name] = judge(truth, found)
    lines = [
        "| | precision | recall | F1 | pages/CPU-s | times trafilatura (least to most) |",
        "|---|---|---|---|---|---|",
    ]
    for name, took in seconds.items():
        pairs = zip(seconds["trafilatura"], took, strict=True)
        ratios = sorted(theirs / mine for theirs, mine in pairs)
        lines.append(
            f"| {name} | "
            + " | ".join(f"{value:.4f}" for value in scores[name])
            + f" | {len(texts) / median(took):.0f} | {median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
        )
    return lines


def main() -> None:
    """Race on both sets and write the tables."""
    data = Path(sys.argv[1])
    names = ("resiliparse", "trafilatura", "lxml")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    tuned, held_out = marked(data), articles(data)
    lines = [
        "# HTML to text",
        "",
        (
            f"Written by `benchmarks/extraction.py`: {RACES} races, CPU seconds; "
            f"{platform.machine()}, Python {platform.python_version()}, {versions}."
        ),
        "",
        (
            f"{len(tuned[1])} pages of trafilatura's own evaluation, by strings that the text "
            "must and must not contain. The thresholds of `extract.py` were chosen on them:"
        ),
        "",
        *race(*tuned, score),
        "",
        (
            f"{len(held_out[1])} pages of readability's tests, by words of the article that it "
            "expects, means over the pages. Nothing was chosen on them:"
        ),
        "",
        *race(*held_out, overlap),
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
