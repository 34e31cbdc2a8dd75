"""Runs of the corpus stage that are killed at random: do all end with the same bytes?

Each run makes one corpus of a few real files in a fresh store, with 1 or 2 CPUs, by a driver of
its own. At random moments a Ray worker of it, or the driver with all its
processes, gets SIGKILL; a killed driver is started again in the same store until one ends. The
sha256 of every file is compared with that of a run that nobody killed, and read = kept + rejected
+ merged + quarantined is checked. Run:

    python benchmarks/corpus_faults.py --data DIR [--runs 100] [--seed 0] [--megabytes 1]
"""

import argparse
import contextlib
import gzip
import hashlib
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipelines.core import cluster
from pipelines.core.artifact import Workspace
from pipelines.core.config import Placement
from pipelines.core.storage import Store
from pipelines.core.workflow import Step
from pipelines.corpus.config import CorpusConfig
from pipelines.corpus.sources import Files
from pipelines.corpus.stage import make

RESULTS = Path(__file__).with_suffix(".md")
FILES = ("planted/corpus.jsonl.gz", "dedup/powershell_docs_5.1_7.4.jsonl.gz")
LIMIT_S, TRIES = 600, 3  # of a run; drivers of a run that are killed at most
EARLIEST = 0.3  # of an undisturbed run's time, before a kill: Ray takes about as much to start
WORKER = "ray::"  # how the title of a process that runs a task begins


@dataclass(frozen=True)
class Run:
    """How one run went."""

    cpus: int
    drivers: int
    workers: int
    digest: str
    balanced: bool


def sample(data: Path, folder: Path, megabytes: float) -> None:
    """The first documents of every file, as JSON lines."""
    for number, name in enumerate(FILES):
        left, lines = megabytes * 1e6 / len(FILES), []
        with gzip.open(data / name, "rt", encoding="utf-8") as rows:
            for row in rows:
                left -= len(row.encode())
                if left < 0:
                    break
                lines.append(row)
        (folder / f"{number}.jsonl").write_text("".join(lines), encoding="utf-8")


def drive(raw: Path, store: Path, cpus: int) -> None:
    """One driver: make the corpus in `store`, going on from what is there."""
    os.environ.pop("RAY_ADDRESS", None)
    placement = Placement(storage=str(store), cpus=cpus)
    config = CorpusConfig(
        sources=(Files(paths=(str(raw),)),), languages=(), shard_docs=60, holdout=0.1
    )
    with cluster.session(placement):
        work = Workspace.take(Store.at(str(store / "work")))
        make(config, Step("corpus", {}, work, placement, lambda _: None))
    (store / "done").touch()


def digest(store: Path) -> str:
    """Of the names and bytes of all files that the stage publishes."""
    found, folder = hashlib.sha256(), store / "work"
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if not name.startswith("."):
            found.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def balanced(store: Path) -> bool:
    """Whether every document read is in one place."""
    report = json.loads((store / "work" / "report.json").read_text())
    placed = report["kept"] + sum(report["rejected"].values()) + report["quarantined"]
    return bool(report["read"] == placed)


def family(driver: int) -> list[psutil.Process]:
    """A driver and every process of its own Ray."""
    try:
        leader = psutil.Process(driver)
        return [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL to each that still lives."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def workers_of(driver: int) -> list[psutil.Process]:
    """The processes of a driver's Ray that can run a task."""
    found = []
    for process in family(driver):
        with contextlib.suppress(psutil.NoSuchProcess):
            title = " ".join(process.cmdline())
            if title.startswith(WORKER) and "Agent" not in title:
                found.append(process)
    return sorted(found, key=lambda process: process.pid)


def attempt(
    raw: Path, store: Path, cpus: int, chance: random.Random | None = None, usual: float = LIMIT_S
) -> Run:
    """One corpus, by as many drivers as it takes; nothing is killed without `chance`.

    The moments are drawn over `usual`, the seconds of a run that nobody disturbs.
    """
    drivers = workers = 0
    deadline = time.monotonic() + LIMIT_S
    while not (store / "done").exists():
        driver = subprocess.Popen(
            [sys.executable, __file__, "--drive", str(raw), str(store), str(cpus)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
            stdout=subprocess.DEVNULL,
            stderr=(complaints := (store.parent / f"{store.name}.err").open("ab")),
        )
        try:
            first = EARLIEST * usual
            while driver.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    driver.wait(chance.uniform(first, usual) if chance else 1)
                first = 0.0
                if driver.poll() is not None or chance is None:
                    continue
                if drivers < TRIES and chance.random() < 0.5:
                    drivers += 1
                    break
                if alive := workers_of(driver.pid):
                    kill([chance.choice(alive)])
                    workers += 1
        finally:
            kill(family(driver.pid))
            driver.wait()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{store}: not made in {LIMIT_S} s, {drivers} drivers killed")
        if driver.returncode > 0:
            said = Path(complaints.name).read_text(errors="replace")[-4000:]
            raise RuntimeError(f"{store}: a driver ended with {driver.returncode}:\n{said}")
    return Run(cpus, drivers, workers, digest(store), balanced(store))


def trial(raw: Path, folder: Path, runs: int, seed: int) -> tuple[Run, list[Run]]:
    """A run that nobody disturbs, and `runs` that are killed."""
    clock = time.monotonic()
    calm = attempt(raw, folder / "calm", 2)
    usual = time.monotonic() - clock
    found = []
    for number in range(runs):
        chance = random.Random(f"{seed}-{number}")
        found.append(attempt(raw, folder / f"run{number}", chance.choice((1, 2)), chance, usual))
        same = found[-1].digest == calm.digest
        print(f"run {number}: {found[-1]} {'same' if same else 'DIFFERENT'}", flush=True)
    return calm, found


def main() -> None:
    """Kill, compare and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--megabytes", type=float, default=1.0)
    parser.add_argument("--drive", nargs=3)
    options = parser.parse_args()
    if options.drive:
        raw, store, cpus = options.drive
        drive(Path(raw), Path(store), int(cpus))
        return
    with tempfile.TemporaryDirectory(prefix="rf", dir="/tmp") as name:
        raw = Path(name) / "raw"
        raw.mkdir()
        sample(options.data, raw, options.megabytes)
        start = time.perf_counter()
        calm, found = trial(raw, Path(name), options.runs, options.seed)
        minutes = (time.perf_counter() - start) / 60
    same = sum(run.digest == calm.digest for run in found)
    facts = {
        "runs": len(found),
        "same bytes as an undisturbed run": same,
        "every document accounted for": sum(run.balanced for run in found),
        "runs with 1 CPU, the others with 2": sum(run.cpus == 1 for run in found),
        "drivers killed": sum(run.drivers for run in found),
        "workers killed": sum(run.workers for run in found),
    }
    table = "\n".join(f"| {name} | {number} |" for name, number in facts.items())
    text = f"""# The corpus stage, killed at random

Written by `python benchmarks/corpus_faults.py --runs {options.runs} --seed {options.seed}
--megabytes {options.megabytes}` in {minutes:.0f} minutes: {platform.machine()}, {os.cpu_count()}
cores, Python {platform.python_version()}.

| | |
|---|---:|
{table}
"""
    RESULTS.write_text(text)
    print(text)
    sys.exit(same != len(found))


if __name__ == "__main__":
    main()
