"""The corpus stage as the input grows, and with 1 CPU and with 2: memory of a process, and time.

    python benchmarks/corpus_scale.py [--rounds 3]      writes benchmarks/corpus_scale.md

Memory is compared on 64 and on 512 MB, 2 CPUs; time on 256 MB, with 1 CPU and then with 2 in each
round. Every input is files of the same 64 MB, each with a word of its own in every line, so that
they are near-duplicates: the costliest case for deduplication. Memory that is a process's own is
looked at every 0.2 s in every process of Ray's that runs tasks, and in the driver.
"""

import argparse
import gzip
import json
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
SMALL, MIDDLE, LARGE = 1, 4, 8  # files
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


@contextmanager
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


def measure(folder: Path, cpus: int, root: Path) -> tuple[float, dict[str, float], int]:
    """Seconds, peaks and documents of one run."""
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
    peaks: dict[str, float] = {}
    with cluster.session(placement), watched(peaks):
        clock = time.perf_counter()
        made = run(flow, placement, [], session=cluster.session)
        seconds = time.perf_counter() - clock
    return seconds, peaks, made["docs"].manifest.counts["read"]


def main() -> None:
    """Run the cases, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    rows, seconds, tasks = [], [], []
    with scratch() as temporary:
        root = Path(temporary)
        for copies in (SMALL, MIDDLE, LARGE):
            write(root / f"input-{copies}", copies)
        cases = [*[(MIDDLE, 1), (MIDDLE, 2)] * rounds, (SMALL, 2), (LARGE, 2)]
        for number, (copies, cpus) in enumerate(cases):
            spent, peaks, read = measure(root / f"input-{copies}", cpus, root / f"{number}")
            seconds.append(spent)
            tasks.append(peaks["task"])
            rows.append(
                f"| {copies * FILE_MB} | {cpus} | {read:,} | {spent:.0f} "
                f"| {peaks['task']:.0f} | {peaks['driver']:.0f} |"
            )
            print(rows[-1], flush=True)
    alone, together = seconds[: 2 * rounds : 2], seconds[1 : 2 * rounds : 2]
    ratios = [one / two for one, two in zip(alone, together, strict=True)]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    text = f"""# The corpus stage as the input and the machine grow

`python benchmarks/corpus_scale.py --rounds {rounds}`; {platform.machine()}, {os.cpu_count()} CPUs,
Python {platform.python_version()}. Seconds are of the whole stage, without Ray's start.

**2 CPUs: {spread} times as fast as 1** on {MIDDLE * FILE_MB} MB (median of {rounds} rounds, least
and most).
**Memory of the largest task: {tasks[-1] / tasks[-2]:.2f} times for {LARGE} times the text.**

| MB of text | CPUs | documents | seconds | MB, largest task | MB, driver |
|---:|---:|---:|---:|---:|---:|
"""
    text += "\n".join([*rows, ""])
    Path(__file__).with_suffix(".md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
