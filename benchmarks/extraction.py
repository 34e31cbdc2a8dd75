"""HTML to text, side by side in one run: ours, resiliparse alone, trafilatura alone.

    python benchmarks/extraction.py DATA         writes benchmarks/extraction.md

DATA holds html/trafilatura_eval.tar.gz: 300 pages with strings the text must and must not contain.
"""

import json
import platform
import sys
import tarfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import trafilatura
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding

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


def pages(data: Path) -> tuple[list[dict[str, list[str]]], list[str]]:
    """The truth and the decoded page of each item."""
    with tarfile.open(data / "html/trafilatura_eval.tar.gz") as archive:
        found = {
            member.name.rpartition("/")[2]: archive.extractfile(member).read()
            for member in archive
            if member.isfile()
        }
    truth = [json.loads(line) for line in found["truth.jsonl"].splitlines()]
    raw = [found[row["file"]] for row in truth]
    return truth, [bytes_to_str(data, detect_encoding(data)) for data in raw]


def score(truth: list[dict[str, list[str]]], texts: list[str]) -> tuple[float, float, float]:
    """Precision, recall and F1 of the strings found."""
    pairs = list(zip(truth, texts, strict=True))
    right = sum(string in text for row, text in pairs for string in row["with"])
    wrong = sum(string in text for row, text in pairs for string in row["without"])
    precision, recall = right / (right + wrong), right / sum(len(row["with"]) for row in truth)
    return precision, recall, 2 * precision * recall / (precision + recall)


def main() -> None:
    """Race and write the table."""
    truth, texts = pages(Path(sys.argv[1]))
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    scores = {}
    for function in CONTESTANTS.values():
        function(texts[0])
    for _ in range(RACES):
        for name, function in CONTESTANTS.items():
            began = time.process_time()
            found = [function(text) or "" for text in texts]
            seconds[name].append(time.process_time() - began)
            scores[name] = score(truth, found)
    base = seconds["trafilatura"]
    names = ("resiliparse", "trafilatura", "lxml")
    lines = [
        "# HTML to text",
        "",
        f"Written by `benchmarks/extraction.py`. {len(texts)} pages, {RACES} races, CPU seconds; "
        f"{platform.machine()}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in names)
        + ". The thresholds of `extract.py` were chosen on these pages.",
        "",
        "| | precision | recall | F1 | pages/CPU-s | times trafilatura (least to most) |",
        "|---|---|---|---|---|---|",
    ]
    for name, took in seconds.items():
        ratios = sorted(theirs / mine for theirs, mine in zip(base, took, strict=True))
        lines.append(
            f"| {name} | "
            + " | ".join(f"{value:.4f}" for value in scores[name])
            + f" | {len(texts) / median(took):.0f} | {median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
        )
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
