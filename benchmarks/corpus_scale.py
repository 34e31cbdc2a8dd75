"""The corpus stage as the input grows, and with 1 CPU and with 2: memory of a process, and time.

    python benchmarks/corpus_scale.py [--rounds 3]      writes benchmarks/corpus_scale.md

Time is of 512 MB, with 1 CPU and then with 2 in each round; memory of 64 and 512 MB, in runs of
their own. Every input is files of the same 64 MB, each with a word of its own in every line, so
that they are near-duplicates: the costliest case for deduplication. Memory that is a process's own
is looked at every 0.2 s in every process of Ray's that runs tasks, and in the driver, which takes a
fifth of a core.
"""

import argparse
import contextlib
import gzip
import json
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from pipelines.core import cluster
from pipelines.core.config import Placement
from pipelines.core.run import run
from pipelines.core.storage import scratch
from pipelines.core.workflow import Workflow
from pipelines.corpus.config import CorpusConfig, NearDuplicates
from pipelines.corpus.sources import Files

DATA = Path(os.environ.get("RAYLINE_DATA", Path(__file__).parents[2] / "shared" / "data"))
FOLDERS = ("pretrain", "dedup")
FILE_MB = 64
SMALL, LARGE = 1, 8  # files
EVERY_S = 0.2


def texts() -> Iterator[str]:
    """The documents of the data, over and over."""
    while True:
        for folder in FOLDERS:
            for path in sorted((DATA / folder).glob("*.jsonl.gz")):
                with gzip.open(path, "rt", encoding="utf-8") as lines:
                    yield from (str(json.loads(line)["text"]) for line in lines)


def write(folder: Path, copies: int) -> None:
    """A file of `FILE_MB` of text for every copy."""
    folder.mkdir()
    for copy in range(copies):
        size = 0
        with (folder / f"part-{copy:03d}.jsonl").open("w", encoding="utf-8") as file:
            for text in texts():
                marked = text.replace("\n", f" copy{copy}\n") if copy else text
                file.write(json.dumps({"text": marked}, ensure_ascii=False) + "\n")
                size += len(marked.encode())
                if size > FILE_MB * 1e6:
                    break


@contextlib.contextmanager
def watched(peaks: dict[str, float]) -> Iterator[None]:
    """Keep the highest resident MB of a task process and of this one while the block runs."""
    done = threading.Event()

    def look() -> None:
        here = psutil.Process()
        while not done.wait(EVERY_S):
            for process in [here, *here.children(recursive=True)]:
                try:
                    task = process.name().startswith("ray::") and "Actor" not in process.name()
                    kind = "driver" if process == here else "task" if task else ""
                    memory = process.memory_full_info().uss / 1e6
                except psutil.Error:
                    continue
                peaks[kind] = max(peaks.get(kind, 0.0), memory)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def measure(
    folder: Path, cpus: int, root: Path, peaks: dict[str, float] | None = None
) -> tuple[float, int]:
    """Seconds and documents of one run; watches memory if `peaks` is given."""
    flow = Workflow("scale")
    flow.add(
        "docs",
        CorpusConfig(
            sources=(Files(paths=(str(folder),)),),
            languages=(),
            near_duplicates=NearDuplicates(alarm=None),  # whole files of them are wanted here
        ),
    )
    placement = Placement(storage=str(root), cpus=cpus)
    watching = contextlib.nullcontext() if peaks is None else watched(peaks)
    with cluster.session(placement), watching:
        clock = time.perf_counter()
        made = run(flow, placement, [], session=cluster.session)
        seconds = time.perf_counter() - clock
    return seconds, made["docs"].manifest.counts["read"]


def main() -> None:
    """Run the cases, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with scratch() as temporary:
        root = Path(temporary)
        for copies in (SMALL, LARGE):
            write(root / f"input-{copies}", copies)
        ratios, times = timed(root, rounds)
        peaks, memory = held(root)
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    text = f"""# The corpus stage as the input and the machine grow

`python benchmarks/corpus_scale.py --rounds {rounds}`; {platform.machine()}, {os.cpu_count()} CPUs,
Python {platform.python_version()}.

**2 CPUs: {spread} times as fast as 1** on {LARGE * FILE_MB} MB (median of {rounds} rounds, least
and most). Seconds are of the whole stage, without Ray's start.

| MB of text | CPUs | documents | seconds |
|---:|---:|---:|---:|
{chr(10).join(times)}

**Memory of the largest task: {peaks[1] / peaks[0]:.2f} times for {LARGE} times the text.**

| MB of text | MB, largest task | MB, driver |
|---:|---:|---:|
{chr(10).join(memory)}
"""
    Path(__file__).with_suffix(".md").write_text(text)
    sys.stdout.write(text)


def timed(root: Path, rounds: int) -> tuple[list[float], list[str]]:
    """How many times faster 2 CPUs are, each round, and the rows of the table."""
    ratios, rows = [], []
    for number in range(rounds):
        seconds = []
        for cpus in (1, 2):
            spent, read = measure(root / f"input-{LARGE}", cpus, root / f"{number}-{cpus}")
            seconds.append(spent)
            rows.append(f"| {LARGE * FILE_MB} | {cpus} | {read:,} | {spent:.0f} |")
            print(rows[-1], flush=True)
        ratios.append(seconds[0] / seconds[1])
    return ratios, rows


def held(root: Path) -> tuple[list[float], list[str]]:
    """The largest task's MB with little and much text, and the rows of the table."""
    tasks, rows = [], []
    for copies in (SMALL, LARGE):
        peaks: dict[str, float] = {}
        measure(root / f"input-{copies}", 2, root / f"memory-{copies}", peaks)
        tasks.append(peaks["task"])
        rows.append(f"| {copies * FILE_MB} | {peaks['task']:.0f} | {peaks['driver']:.0f} |")
        print(rows[-1], flush=True)
    return tasks, rows


if __name__ == "__main__":
    main()
