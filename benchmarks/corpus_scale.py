"""The corpus stage on 64 MB and on 512 MB, with 1 CPU and with 2: memory of a process, and time.

    python benchmarks/corpus_scale.py [--rounds 3]      writes benchmarks/corpus_scale.md

A round is the smaller input with 1 CPU and then with 2. The larger input is the smaller one
repeated, every copy with a word of its own in each line, so that copies are near-duplicates: the
costliest case for deduplication. Resident memory is looked at every 0.2 s in every process of Ray's
that runs tasks, and in the driver.
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
SMALL_MB, COPIES = 64, 8
EVERY_S = 0.2


def texts() -> Iterator[str]:
    """The documents of the data, over and over."""
    while True:
        for folder in FOLDERS:
            for path in sorted((DATA / folder).glob("*.jsonl.gz")):
                with gzip.open(path, "rt", encoding="utf-8") as lines:
                    yield from (str(json.loads(line)["text"]) for line in lines)


def write(folder: Path, copies: int) -> None:
    """A file of `SMALL_MB` of text for every copy."""
    folder.mkdir()
    for copy in range(copies):
        size = 0
        with (folder / f"part-{copy:03d}.jsonl").open("w", encoding="utf-8") as file:
            for text in texts():
                marked = text.replace("\n", f" copy{copy}\n") if copy else text
                file.write(json.dumps({"text": marked}, ensure_ascii=False) + "\n")
                size += len(marked.encode())
                if size > SMALL_MB * 1e6:
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
    rows, ratios, tasks = [], [], {1: 0.0, COPIES: 0.0}
    with scratch() as temporary:
        root = Path(temporary)
        for copies in (1, COPIES):
            write(root / f"input-{copies}", copies)
        for number, (copies, cpus) in enumerate([*((1, 1), (1, 2)) * rounds, (COPIES, 2)]):
            seconds, peaks, read = measure(root / f"input-{copies}", cpus, root / f"{number}")
            if cpus == 1:
                alone = seconds
            elif copies == 1:
                ratios.append(alone / seconds)
            tasks[copies] = max(tasks[copies], peaks["task"])
            rows.append(
                f"| {copies * SMALL_MB} | {cpus} | {read:,} | {seconds:.0f} "
                f"| {peaks['task']:.0f} | {peaks['driver']:.0f} |"
            )
            print(rows[-1], flush=True)
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    text = f"""# The corpus stage as the input and the machine grow

`python benchmarks/corpus_scale.py --rounds {rounds}`; {platform.machine()}, {os.cpu_count()} CPUs,
Python {platform.python_version()}. Seconds are of the whole stage, without Ray's start.

**2 CPUs: {spread} times as fast as 1** (median of {rounds} rounds, least and most).
**Memory of the largest task: {tasks[COPIES] / tasks[1]:.2f} times for {COPIES} times the text.**

| MB of text | CPUs | documents | seconds | MB, largest task | MB, driver |
|---:|---:|---:|---:|---:|---:|
"""
    text += "\n".join([*rows, ""])
    Path(__file__).with_suffix(".md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
