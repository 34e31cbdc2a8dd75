"""Two tiny stages that need no Ray, and a program that runs them and can kill itself.

python fake.py STORAGE [N]     run the workflow; SIGKILL itself at the Nth flush or rename
"""

import contextlib
import hashlib
import os
import signal
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from pipelines.core.artifact import Artifact
from pipelines.core.config import Input, Location, Placement, StageConfig
from pipelines.core.run import run
from pipelines.core.workflow import Observer, Outcome, Step, Workflow


class WordsConfig(StageConfig):
    stage: ClassVar[str] = "fake"
    makes: ClassVar[str] = "Corpus"

    words: tuple[str, ...] = ("one", "two")
    raw: str | None = Location(default=None, description="a file whose text is one more word")

    def raw_digests(self) -> dict[str, str]:
        if self.raw is None:
            return {}
        data = Path(self.raw).read_bytes()
        return {Path(self.raw).name: hashlib.sha256(data).hexdigest()}


class JoinConfig(StageConfig):
    stage: ClassVar[str] = "fake"
    makes: ClassVar[str] = "Report"

    corpus: str = Input("Corpus", description="what is joined")
    separator: str = " "


def make(config: StageConfig, step: Step) -> Outcome:
    journal = Path(os.environ["FAKE_JOURNAL"]) if "FAKE_JOURNAL" in os.environ else None
    if journal:
        with journal.open("a") as file:
            file.write(f"{step.name}\n")
    if isinstance(config, WordsConfig):
        words = [*config.words, *([Path(config.raw).read_text()] if config.raw else [])]
        for number, word in enumerate(words):
            name = f"data/part-{number}"
            if not step.out.exists(name):
                step.out.write(name, word.encode())
            step.out.write(".ledger", str(number).encode())
            step.report({"step": number, "done": (number + 1) / len(words)})
            time.sleep(float(os.environ.get("FAKE_SLOW_S", "0")))
        return Outcome(counts={"words": len(words)}, measured={"words_per_s": 7.0})
    assert isinstance(config, JoinConfig)
    corpus = step.inputs["corpus"]
    words = [corpus.read(name).decode() for name in corpus.files()]
    step.out.write("report.json", config.separator.join(words).encode())
    return Outcome(metrics={"accuracy": 0.5})


def install() -> None:
    """Make `pipelines.fake.stage` importable."""
    stage = types.ModuleType("pipelines.fake.stage")
    stage.make = make  # type: ignore[attr-defined]
    sys.modules["pipelines.fake"] = types.ModuleType("pipelines.fake")
    sys.modules["pipelines.fake.stage"] = stage


def flow(separator: str = " ", **words: Any) -> Workflow:
    workflow = Workflow("fake")
    corpus = workflow.add("words", WordsConfig(**words))
    workflow.add("joined", JoinConfig(corpus=corpus, separator=separator))
    return workflow


def run_flow(
    workflow: Workflow, storage: str, *observers: Observer, **options: Any
) -> dict[str, Artifact]:
    place = Placement(storage=storage, workers=options.pop("workers", 1))
    no_ray: Callable[[Placement], Any] = lambda placement: contextlib.nullcontext()  # noqa: E731
    return run(workflow, place, list(observers), session=no_ray, **options)


def kill_at(number: int) -> None:
    """SIGKILL this process just before the `number`th flush or rename from now on."""
    left = [number]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in ("fsync", "rename", "replace"):
        setattr(os, name, counted(getattr(os, name)))


if __name__ == "__main__":
    install()
    if len(sys.argv) > 2:
        kill_at(int(sys.argv[2]))
    run_flow(flow(), sys.argv[1])
