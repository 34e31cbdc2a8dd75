"""Trainings that are killed at random: do all end with the same weights and history?

Each run learns one model from a few real texts in a fresh store, by a driver of its own with 1 or 2
workers. At random moments one worker, or the driver with all its processes, gets SIGKILL; a killed
driver is started again in the same store, with 1 or 2 workers as chance has it, until one ends. In
some runs the newest checkpoint is also cut short, emptied or has a bit flipped in between. The
sha256 of every published file (weights, history) is compared with that of a run that nobody
disturbed. Run, and run again with the same `--folder` to go on where it ended:

    python benchmarks/train_faults.py --data DIR --folder DIR [--runs 20] [--seed 0]
"""

import argparse
import contextlib
import gzip
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from corpus_faults import digest, family, kill

from pipelines.core import cluster
from pipelines.core.artifact import Artifact, Workspace, commit, open_artifact
from pipelines.core.config import Placement
from pipelines.core.storage import Store
from pipelines.core.workflow import Step
from pipelines.model.config import ModelConfig
from pipelines.tasks.config import MaskedLM
from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokenizer.encode import open_backend
from pipelines.tokenizer.train import train
from pipelines.tokens import shards
from pipelines.tokens.encode import encode
from pipelines.train.config import Optimise, TrainConfig
from pipelines.train.stage import make

RESULTS = Path(__file__).with_suffix(".md")
TEXTS = "pretrain/en_web_ewt.jsonl.gz"
DOCUMENTS, LENGTH = 300, 64
LIMIT_S, TRIES = 900, 1  # of a run; drivers, and workers, of a run that are killed at most
WORKER = "RayTrainWorker"
GIVEN_UP = "the same command continues"  # says a driver whose processes were lost too often
CONFIG = TrainConfig(
    data="@tokens",
    tokenizer="@vocab",
    model=ModelConfig(layers=2, width=64, heads=2, feedforward=128, max_length=LENGTH, dropout=0.1),
    task=MaskedLM(),
    optimise=Optimise(
        steps=200, batch_rows=16, learning_rate=1e-3, checkpoint_steps=20, precision="fp32"
    ),
)


@dataclass
class Run:
    """How one run went: the workers of each of its drivers, whom it lost, what was harmed."""

    number: int
    workers: list[int] = field(default_factory=list)
    drivers_killed: int = 0
    workers_killed: int = 0
    given_up: int = 0
    harmed: list[str] = field(default_factory=list)
    passed_over: int = 0
    seconds: float = 0.0
    digest: str = ""


def texts_of(data: Path) -> list[str]:
    """The first documents."""
    with gzip.open(data / TEXTS, "rt", encoding="utf-8") as rows:
        return [json.loads(row)["text"] for row, _ in zip(rows, range(DOCUMENTS), strict=False)]


def sample(texts: list[str], folder: Path) -> None:
    """A Tokenizer and Tokens of texts."""
    config = TokenizerConfig(corpus="@none", vocab_size=1000, max_length=LENGTH)
    work = Workspace.take(Store.at(str(folder / ".work" / "vocab")))
    train(config, texts).save_pretrained(work.store.uri)
    _commit(work, folder / "vocab", "Tokenizer")
    tokenizer = open_backend(folder / "vocab")
    size = tokenizer.get_vocab_size()
    encoded = encode(list(enumerate(texts)), tokenizer, LENGTH)
    work = Workspace.take(Store.at(str(folder / ".work" / "tokens")))
    for name, content in shards.files(0, encoded, size).items():
        work.write(name, content)
    index = shards.index([encoded.counts], length=LENGTH, vocab_size=size, tokenizer="0" * 64)
    work.write(shards.INDEX, index)
    _commit(work, folder / "tokens", "Tokens")


def _commit(work: Workspace, folder: Path, kind: str) -> Artifact:
    facts: dict[str, Any] = {"kind": kind, "stage": kind.lower(), "name": kind.lower()}
    facts |= {"fingerprint": "0" * 64, "identity": {}, "inputs": {}}
    return commit(work, Store.at(str(folder)), facts)


def drive(folder: Path, store: Path, workers: int, steps: int, every: int) -> None:
    """One driver: learn in `store`, going on from what is there."""
    optimise = CONFIG.optimise.model_copy(update={"steps": steps, "checkpoint_steps": every})
    config = CONFIG.model_copy(update={"optimise": optimise})
    inputs = {
        "data": open_artifact(str(folder / "tokens")),
        "tokenizer": open_artifact(str(folder / "vocab")),
    }
    placement = Placement(storage=str(store), workers=workers, cpus=2)
    with cluster.session(placement):
        work = Workspace.take(Store.at(str(store / "work")))
        make(config, Step("base", inputs, work, placement, lambda _: None))
    (store / "done").touch()


def workers_of(driver: int) -> list[Any]:
    """The processes of a driver that learn."""
    found = []
    for process in family(driver):
        with contextlib.suppress(Exception):
            if WORKER in " ".join(process.cmdline()):
                found.append(process)
    return sorted(found, key=lambda process: int(process.pid))


def harm(store: Path, chance: random.Random) -> str:
    """Damage a file of the newest checkpoint; says what was done, or nothing if there is none."""
    folders = sorted((store / "work" / ".checkpoints").glob("*/manifest.json"))
    if not folders:
        return ""
    path = chance.choice(sorted(folders[-1].parent.iterdir()))
    data, kind = path.read_bytes(), chance.choice(("cut", "emptied", "flipped"))
    place = chance.randrange(len(data))
    changed = {
        "cut": data[:place],
        "emptied": b"",
        "flipped": data[:place]
        + bytes([data[place] ^ 1 << chance.randrange(8)])
        + data[place + 1 :],
    }
    path.write_bytes(changed[kind])
    return f"{path.name} {kind}"


def attempt(folder: Path, store: Path, run: Run, chance: random.Random | None, size: str) -> Run:
    """One training, by as many drivers as it takes; nothing is disturbed without `chance`."""
    began, deadline = time.monotonic(), time.monotonic() + LIMIT_S
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    environment.pop("RAY_ADDRESS", None)
    shutil.rmtree(store, ignore_errors=True)  # of a benchmark that was itself stopped
    store.mkdir()
    while not (store / "done").exists():
        run.workers.append(chance.choice((1, 2)) if chance else 2)
        log = store / f"driver{len(run.workers)}.log"
        command = [sys.executable, __file__, "--drive", folder, store, run.workers[-1]]
        with log.open("w") as errors:
            driver = subprocess.Popen(
                [*map(str, command), *size.split()],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        try:
            _disturb(driver, run, chance, deadline)
        finally:
            kill(family(driver.pid))
            driver.wait()
        run.passed_over += log.read_text().count("not used")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{store}: not made in {LIMIT_S} s: {run}")
        if driver.returncode > 0:
            said = log.read_text()
            if GIVEN_UP not in said:
                raise RuntimeError(f"{store}: a driver ended by itself: {said[-2000:]}")
            run.given_up += 1
        if chance and chance.random() < 0.5 and not (store / "done").exists():
            run.harmed += [told] if (told := harm(store, chance)) else []
    run.seconds, run.digest = round(time.monotonic() - began, 1), digest(store)
    return run


def _disturb(
    driver: "subprocess.Popen[bytes]",
    run: Run,
    chance: random.Random | None,
    deadline: float,
) -> None:
    """Wait for a driver, or until it is to be killed; kills a worker now and then."""
    while driver.poll() is None and time.monotonic() < deadline:
        if chance is None or not workers_of(driver.pid):
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(0.2)
            continue
        # Its workers are there; most of what follows is their start, some of it learning.
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(chance.uniform(0, 20))
        if driver.poll() is not None:
            return
        if run.drivers_killed < TRIES and chance.random() < 0.5:
            run.drivers_killed += 1
            return
        if run.workers_killed < TRIES and (alive := workers_of(driver.pid)):
            kill([chance.choice(alive)])
            run.workers_killed += 1
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(2)  # the others of the group go before new ones come


def trial(folder: Path, runs: range, seed: int, size: str) -> list[Run]:
    """The runs of these numbers, and number -1 that nobody disturbs; those done are kept."""
    kept = folder / "runs.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    found = {run.number: run for run in (Run(**json.loads(line)) for line in lines)}
    for number in (-1, *runs):
        if number in found:
            continue
        chance = random.Random(f"{seed}-{number}") if number >= 0 else None
        found[number] = attempt(folder, folder / f"run{number}", Run(number), chance, size)
        with kept.open("a") as log:
            log.write(json.dumps(asdict(found[number])) + "\n")
        same = found[number].digest == found[-1].digest
        print(f"{found[number]} {'same' if same else 'DIFFERENT'}", flush=True)
    return [found[number] for number in (-1, *runs)]


def main() -> None:
    """Kill, compare and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=CONFIG.optimise.steps)
    parser.add_argument("--every", type=int, default=CONFIG.optimise.checkpoint_steps)
    parser.add_argument("--drive", nargs="+")
    options = parser.parse_args()
    if options.drive:
        folder, store, *numbers = options.drive
        drive(Path(folder), Path(store), *map(int, numbers))
        return
    if not (options.folder / "tokens").exists():
        options.folder.mkdir(parents=True, exist_ok=True)
        sample(texts_of(options.data), options.folder)
    size = f"{options.steps} {options.every}"
    calm, *found = trial(options.folder, range(options.runs), options.seed, size)
    same = sum(run.digest == calm.digest for run in found)
    text = report(calm, found, same, options)
    RESULTS.write_text(text)
    print(text)
    sys.exit(same != len(found))


def report(calm: Run, found: list[Run], same: int, options: argparse.Namespace) -> str:
    """The results as a page."""
    changed = [run for run in found if len(set(run.workers)) > 1]
    facts = {
        "runs": len(found),
        "same weights and history, bit for bit, as the undisturbed run": same,
        "drivers killed": sum(run.drivers_killed for run in found),
        "workers killed": sum(run.workers_killed for run in found),
        "drivers that gave up after three losses and were started again": sum(
            run.given_up for run in found
        ),
        "runs whose number of workers changed": len(changed),
        "checkpoints cut short, emptied or with a bit flipped": sum(
            len(run.harmed) for run in found
        ),
        "times the log named a checkpoint that was passed over": sum(
            run.passed_over for run in found
        ),
        "seconds of a run, median": sorted(run.seconds for run in found)[len(found) // 2],
        "seconds of the undisturbed run": calm.seconds,
    }
    table = "\n".join(f"| {name} | {number} |" for name, number in facts.items())
    rows = "\n".join(
        f"| {run.number} | {', '.join(map(str, run.workers))} | {run.drivers_killed} | "
        f"{run.workers_killed} | {', '.join(run.harmed) or '-'} |"
        for run in found
    )
    return f"""# Training, killed at random

Written by `python benchmarks/train_faults.py --runs {options.runs} --seed {options.seed}
--steps {options.steps} --every {options.every}`: {platform.machine()}, {os.cpu_count()} cores,
Python {platform.python_version()}. A BERT of 2 layers and width 64 on {DOCUMENTS} web texts.

| | |
|---|---:|
{table}

Each run, from seed `{options.seed}-<number>`:

| run | workers of its drivers | drivers killed | workers killed | harmed |
|---:|---|---:|---:|---|
{rows}
"""


if __name__ == "__main__":
    main()
