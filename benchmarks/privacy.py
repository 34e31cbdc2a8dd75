"""Masking of personal data, ours and datatrove's, on the same texts in one run: speed and misses.

datatrove's `PIIFormatter` masks e-mail and IPv4; ours here masks all eight types. Each round runs
both sides in turn, each in a new process that first reads the texts into memory; timed is the CPU
time of masking alone (`time.process_time`). Clean documents are those in which both sides find
nothing. A planted value is missed if it still stands in the masked text.

    python benchmarks/privacy.py --data DIR --datatrove PYTHON --rounds 5

PYTHON is the interpreter of a separate environment with `datatrove[processing,io]==0.10.*` (or the
environment variable RAYLINE_DATATROVE_PYTHON). This file runs there too.
"""

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILES = ("en_books", "en_web_ewt", "en_wikitext2_valid", "zh_d2l", "zh_luxun")
TAKEN = 1200  # documents of a file, at most
RESULTS = Path(__file__).with_suffix(".md")


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def ours() -> Callable[[str], str]:
    """Our mask, of all types."""
    from pipelines.safety.pii import mask

    return lambda text: mask(text)[0]


def datatrove() -> Callable[[str], str]:
    """The formatter of datatrove, of e-mail and public IPv4 addresses."""
    from datatrove.pipeline.formatters import PIIFormatter

    return PIIFormatter().format


def side(options: argparse.Namespace) -> dict[str, Any]:
    """What one side changes, misses and takes."""
    run = {"ours": ours, "datatrove": datatrove}[options.side]()
    named = [
        (name, str(row["text"]))
        for name in FILES
        for row in rows(options.data / f"pretrain/{name}.jsonl.gz")[:TAKEN]
    ]
    texts = [text for _, text in named]
    run(texts[0])
    seconds, changed = [], []
    for text in texts:
        clock = time.process_time()
        masked = run(text)
        seconds.append(time.process_time() - clock)
        changed.append(masked != text)
    planted = {row["id"]: row["text"] for row in rows(options.data / "planted/corpus.jsonl.gz")}
    missed: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for row in rows(options.data / "planted/truth.jsonl.gz"):
        if "pii" in row:
            masked = run(planted[row["id"]])
            for entity in row["pii"]:
                total[entity["type"]] += 1
                missed[entity["type"]] += entity["value"] in masked
    return {
        "files": [name for name, _ in named],
        "sizes": [len(text.encode()) for text in texts],
        "seconds": seconds,
        "changed": changed,
        "missed": missed,
        "total": total,
    }


def compare(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The answers of both sides in every round."""
    answers: dict[str, list[dict[str, Any]]] = {"ours": [], "datatrove": []}
    for _ in range(options.rounds):
        for name, python in (("ours", sys.executable), ("datatrove", options.datatrove)):
            command = [python, __file__, "--data", str(options.data), "--side", name]
            paths = {"PYTHONPATH": str(Path(__file__).parent.parent)} if name == "ours" else {}
            done = subprocess.run(
                command, stdout=subprocess.PIPE, check=True, env=os.environ | paths
            )
            answers[name].append(json.loads(done.stdout.splitlines()[-1]))
    return answers


def rates(answers: list[dict[str, Any]], taken: list[bool]) -> list[float]:
    """MB of UTF-8 text a CPU-second over the documents taken, by round."""
    return [
        sum(size for size, take in zip(one["sizes"], taken, strict=True) if take)
        / 1e6
        / sum(second for second, take in zip(one["seconds"], taken, strict=True) if take)
        for one in answers
    ]


def report(answers: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> str:
    """The results as a page."""
    own, other = answers["ours"][0], answers["datatrove"][0]
    clean = [not a and not b for a, b in zip(own["changed"], other["changed"], strict=True)]
    groups = {
        f"clean of {file}": [
            a and name == file for a, name in zip(clean, own["files"], strict=True)
        ]
        for file in FILES
    }
    groups |= {"clean of all": clean, "all": [True] * len(clean)}
    lines = []
    for name, taken in groups.items():
        size = sum(s for s, take in zip(own["sizes"], taken, strict=True) if take) / sum(taken)
        one, two = rates(answers["ours"], taken), rates(answers["datatrove"], taken)
        figures = (one, two, [a / b for a, b in zip(one, two, strict=True)])
        cells = [f"{statistics.median(x):.1f} ({min(x):.1f}-{max(x):.1f})" for x in figures]
        lines.append(f"| {name} | {sum(taken)} | {size:,.0f} | {' | '.join(cells)} |")
    missed = [
        f"| {kind} | {number} | {own['missed'].get(kind, 0)} | {other['missed'].get(kind, 0)} |"
        for kind, number in sorted(own["total"].items())
    ]
    return f"""# Masking personal data, beside datatrove

`python benchmarks/privacy.py --rounds {options.rounds}` on {platform.machine()},
{os.cpu_count()} cores (shared with other work), Python {platform.python_version()}. MB of UTF-8
text a CPU-second: median of {options.rounds} rounds (least-most). Ours masks eight types,
datatrove's formatter two. The shorter a document, the more its fixed cost weighs.

| documents | number | mean bytes | ours | datatrove | ratio |
|---|---:|---:|---:|---:|---:|
{chr(10).join(lines)}

Planted values that still stand in the masked text:

| type | planted | missed by ours | missed by datatrove |
|---|---:|---:|---:|
{chr(10).join(missed)}
"""


def main() -> None:
    """Measure and write the results, or be one side of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--datatrove", default=os.environ.get("RAYLINE_DATATROVE_PYTHON"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=["ours", "datatrove"])
    options = parser.parse_args()
    if options.side:
        print(json.dumps(side(options)))
    elif not options.datatrove:
        parser.error("--datatrove or RAYLINE_DATATROVE_PYTHON must name a Python with datatrove")
    else:
        RESULTS.write_text(report(compare(options), options), encoding="utf-8")
        print(RESULTS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
