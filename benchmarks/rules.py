"""The FineWeb filter chain, ours and datatrove's, on the same files in one run: verdicts and speed.

The chain is FineWeb's: Gopher repetition, Gopher quality, C4 without the full-stop rule, FineWeb
quality. Round r judges every document whose number is r modulo `--every`: both sides in turn, each
in a new process on one core that first reads the texts into memory. Timed is the CPU time of the
judging alone (`time.process_time`), the first look at every word included. Every verdict and every
edited text is compared.

    python benchmarks/rules.py --data DIR --datatrove PYTHON --rounds 16 --every 16

PYTHON is the interpreter of a separate environment with `datatrove[processing,io]==0.10.*` and
`spacy==3.8.*` (or the environment variable RAYLINE_DATATROVE_PYTHON). This file runs there too.
"""

import argparse
import gzip
import hashlib
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDERS = ("pretrain", "dedup", "planted")
RESULTS = Path(__file__).with_suffix(".md")
Row = list[str]  # "kept" or the reason, hash of the edited text or ""


def texts(data: Path, every: int, offset: int) -> list[tuple[str, str]]:
    """(file name, text) of every document of a slice, in order of files."""
    paths = (path for folder in FOLDERS for path in sorted((data / folder).glob("*.jsonl.gz")))
    found = []
    for path in paths:
        if not path.name.startswith("truth"):
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                taken = itertools.islice(lines, offset, None, every)
                found += [(path.name, str(json.loads(line)["text"])) for line in taken]
    return found


def digest(text: str) -> str:
    """Short hash of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def ours() -> Callable[[str], Row]:
    """A judge by our rule sets."""
    from pipelines.corpus.rules.sets import judge

    def run(text: str) -> Row:
        verdict = judge(text, ("gopher@fineweb", "c4", "fineweb"))
        if verdict.failure:
            return [f"{verdict.failure.rule_set} {verdict.failure.rule}", ""]
        return ["kept", verdict.text]

    return run


def datatrove() -> Callable[[str], Row]:
    """A judge by datatrove's filters, its model warm."""
    from datatrove.data import Document
    from datatrove.pipeline import filters
    from datatrove.utils.text import split_into_words

    chain = [
        filters.GopherRepetitionFilter(),
        filters.GopherQualityFilter(),
        filters.C4QualityFilter(filter_no_terminal_punct=False),
        filters.FineWebQualityFilter(),
    ]
    split_into_words("warm up.")

    def run(text: str) -> Row:
        document = Document(text=text, id="")
        for part in chain:
            try:
                result = part.filter(document)
            except (ZeroDivisionError, IndexError) as error:  # its answer to an empty text
                return [f"{type(part).__name__} {type(error).__name__}", ""]
            kept, reason = result if isinstance(result, tuple) else (result, "")
            if not kept:
                return [f"{type(part).__name__} {reason}", ""]
        return ["kept", document.text]

    return run


def side(options: argparse.Namespace) -> dict[str, Any]:
    """One side's verdicts and CPU seconds, in this process."""
    documents = texts(options.data, options.every, options.offset)
    run = ours() if options.side == "ours" else datatrove()
    before = time.process_time()
    rows = [run(text) for _, text in documents]
    seconds = time.process_time() - before
    return {"seconds": seconds, "rows": [[why, digest(text) if text else ""] for why, text in rows]}


def measure(name: str, python: str, options: argparse.Namespace, offset: int) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [python, __file__, "--side", name, "--data", str(options.data)]
    command += ["--every", str(options.every), "--offset", str(offset)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    if name == "ours":
        environment["PYTHONPATH"] = str(Path(__file__).parent.parent)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"slice {offset}: {name} {result['seconds']:.1f} s", flush=True)
    return result


def versions(python: str, *packages: str) -> str:
    """Versions of packages in an environment."""
    code = "import importlib.metadata as m, sys; print(*((p, m.version(p)) for p in sys.argv[1:]))"
    done = subprocess.run([python, "-c", code, *packages], stdout=subprocess.PIPE, check=True)
    found = re.findall(r"'(\S+?)', '(\S+?)'", done.stdout.decode())
    return ", ".join(" ".join(pair) for pair in found)


@dataclass
class Slice:
    """What both sides make of one slice of the documents."""

    documents: list[tuple[str, str]]
    mine: dict[str, Any]
    theirs: dict[str, Any]

    @property
    def size(self) -> float:
        """MB of UTF-8 text."""
        return sum(len(text.encode()) for _, text in self.documents) / 1e6

    def pairs(self) -> Iterator[tuple[str, str, Row, Row]]:
        """File, text, our row, their row."""
        rows = zip(self.documents, self.mine["rows"], self.theirs["rows"], strict=True)
        yield from ((file, text, one, other) for (file, text), one, other in rows)


def compare(options: argparse.Namespace) -> list[Slice]:
    """Every round's slice, judged by both."""
    found = []
    for offset in range(options.rounds):
        mine = measure("ours", sys.executable, options, offset)
        theirs = measure("datatrove", options.datatrove, options, offset)
        found.append(Slice(texts(options.data, options.every, offset), mine, theirs))
    return found


def report(slices: list[Slice], options: argparse.Namespace) -> str:
    """The results file."""
    pairs = [pair for part in slices for pair in part.pairs()]
    differ = [pair for pair in pairs if differs(pair[2], pair[3])]
    equal = 100 - 100 * len(differ) / len(pairs)
    size = sum(part.size for part in slices)
    mine = [part.size / part.mine["seconds"] for part in slices]
    theirs = [part.size / part.theirs["seconds"] for part in slices]
    ratios = [one / other for one, other in zip(mine, theirs, strict=True)]
    kept = Counter(file for file, _, one, _ in pairs if one[0] == "kept")
    files = Counter(file for file, *_ in pairs)
    named = Counter((one[0], other[0]) for *_, one, other in pairs if one[0] != "kept")
    table = "\n".join(
        f"| {name} | {statistics.median(found):.2f} | {min(found):.2f} | {max(found):.2f} |"
        for name, found in (("ours", mine), ("datatrove", theirs), ("ratio", ratios))
    )
    shown = "".join(
        f"\n- {file} `{text[:40]!r}`: {one[0]}, datatrove {other[0]}"
        for file, text, one, other in differ
    )
    return f"""# Rule sets: the FineWeb chain, ours and datatrove's

Written by `python benchmarks/rules.py --rounds {options.rounds} --every {options.every}`:
{len(pairs)} documents, {size:.1f} MB of UTF-8 text ({options.rounds} of {options.every} slices of
pretrain, dedup and planted), one core of {os.cpu_count()} ({platform.machine()}, load
{os.getloadavg()[0]:.1f}), Python {platform.python_version()}, {versions(sys.executable, "numpy")};
{versions(options.datatrove, "datatrove", "spacy")}.

| chain | MB per CPU-second, median of {options.rounds} | least | most |
|---|---:|---:|---:|
{table}

Every round starts with nothing known, so the first look at every word is in the time: the more
text, the faster ours is.

Verdict and edited text are equal for {len(pairs) - len(differ)} of {len(pairs)} documents
({equal:.2f} %).
{shown}

| file | documents | kept |
|---|---:|---:|
{chr(10).join(f"| {file} | {number} | {kept[file]} |" for file, number in sorted(files.items()))}

Where a text fails several rules, ours names the cheapest. The twelve most frequent pairs:

| ours | datatrove | documents |
|---|---|---:|
{chr(10).join(f"| {one} | {other} | {number} |" for (one, other), number in named.most_common(12))}
"""


def differs(one: Row, other: Row) -> bool:
    """Whether the verdicts or the edited texts are different."""
    return (one[0] == "kept") != (other[0] == "kept") or one[1] != other[1]


def main() -> None:
    """Measure and write the results, or be one side of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--datatrove", default=os.environ.get("RAYLINE_DATATROVE_PYTHON"))
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--every", type=int, default=16)
    parser.add_argument("--side", choices=["ours", "datatrove"])
    parser.add_argument("--offset", type=int, default=0)
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
