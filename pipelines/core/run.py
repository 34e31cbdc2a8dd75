"""A workflow and a placement -> its artifacts: what is there is reused, the rest is made.

One driver at a time makes a step (a lock); a dead driver's step is continued from what it wrote.
"""

import contextlib
import datetime as dt
import fcntl
import importlib
import importlib.metadata
import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipelines.core.artifact import (
    MANIFEST,
    Artifact,
    InputRecord,
    Workspace,
    commit,
    open_artifact,
    set_aside,
)
from pipelines.core.config import Json, Placement
from pipelines.core.errors import DataError
from pipelines.core.plan import Planned, hashed, look, plan_step, source_digest, target_of
from pipelines.core.storage import Store
from pipelines.core.workflow import Observer, Outcome, Step, Workflow, elsewhere

log = logging.getLogger(__name__)

CODE = ".code"  # the digest of the code that wrote what lies in a work folder
RECORDED = ("ray", "torch", "transformers", "tokenizers", "pyarrow", "numpy", "mlflow", "rayline")


def run(
    workflow: Workflow,
    placement: Placement,
    observers: list[Observer],
    *,
    session: Callable[[Placement], contextlib.AbstractContextManager[Any]],
    fresh_code: bool = False,
) -> dict[str, Artifact]:
    """Make every step's artifact, reusing those already made; returns them by step name.

    Args:
        workflow: the steps.
        placement: where and how widely they run.
        observers: told of each event.
        session: opens the Ray cluster; entered only if a step has to run.
        fresh_code: also run steps whose stage's source has changed since.

    Raises:
        ArtifactError: an artifact that is named by path or URI is missing or damaged.
    """
    for artifact in elsewhere(workflow).values():
        artifact.verify()  # every file is hashed: a plan only looks at the manifest
    store = Store.at(placement.storage)
    made: dict[str, Artifact | None] = {}
    with contextlib.ExitStack() as stack:
        opened = False
        for name, config in workflow.steps.items():
            planned = plan_step(name, config, made, store, fresh_code)
            if planned.artifact is None:
                if not opened:
                    stack.enter_context(session(placement))
                    opened = True
                made[name] = _make(planned, workflow.name, store, placement, observers, fresh_code)
            else:
                made[name] = planned.artifact
                for observer in observers:
                    observer.reused(name, planned.artifact)
    return {name: artifact for name, artifact in made.items() if artifact is not None}


def _make(
    planned: Planned,
    workflow: str,
    store: Store,
    placement: Placement,
    observers: list[Observer],
    fresh_code: bool,
) -> Artifact:
    name, config, target = planned.name, planned.config, target_of(store, planned)
    with _lock(store, target):
        again = look(planned, store, fresh_code)
        if again.artifact is not None:  # another run made it while this one waited
            for observer in observers:
                observer.reused(name, again.artifact)
            return again.artifact
        work = Workspace.take(_cleared(store, target, config.stage, fresh_code))
        if not work.exists(CODE):
            work.write(CODE, source_digest(config.stage).encode())
        began, clock = dt.datetime.now(dt.UTC), time.perf_counter()
        try:
            for observer in observers:
                observer.started(name, config, planned.sources)
            outcome = _executed(planned, work, placement, observers)
            facts = _record(planned, workflow, outcome, store) | {
                "started": began.isoformat(timespec="seconds"),
                "seconds": round(time.perf_counter() - clock, 3),
            }
            commit(work, target, facts)
        except BaseException as error:
            for observer in observers:
                observer.failed(name, error)
            raise
    artifact = open_artifact(target.uri, (config.makes,))
    for observer in observers:
        observer.finished(name, artifact, planned.sources)
    return artifact


def _executed(
    planned: Planned, work: Workspace, placement: Placement, observers: list[Observer]
) -> Outcome:
    """What the stage's `make` returned.

    Raises:
        DataError: a raw file changed while the stage read it.
    """

    def report(facts: Json) -> None:
        for observer in observers:
            observer.progress(planned.name, facts)

    stage = importlib.import_module(f"pipelines.{planned.config.stage}.stage")
    step = Step(planned.name, planned.sources, work, placement, report)
    outcome: Outcome = stage.make(planned.config, step)
    now, before = planned.config.raw_digests(), planned.facts["raw"]
    if changed := sorted(key for key in now | before if now.get(key) != before.get(key)):
        work.delete("")  # nobody can tell which of its files saw which content
        raise DataError(
            f"{planned.name}: raw files changed while they were read: {', '.join(changed[:3])}; "
            "run again once nothing writes to them"
        )
    return outcome


def _cleared(store: Store, target: Store, stage: str, fresh_code: bool) -> Store:
    """Where the step works, once whatever is in the artifact's place has been moved out of it.

    An object store keeps an unfinished try in that very place, to be continued.
    """
    work = _work(store, target)
    if (store.is_local or target.exists(MANIFEST)) and (aside := set_aside(target)):
        log.warning("%s: what lay there was moved to %s", target.uri, aside)
        work.delete("")  # an old try may share the damage
    if work.exists(CODE) and work.read(CODE).decode() != source_digest(stage):
        if fresh_code:
            work.delete("")
        else:
            log.warning(
                "%s: goes on with what an unfinished run of other code wrote (--fresh-code "
                "starts anew)",
                target.uri,
            )
    return work


def _record(planned: Planned, workflow: str, outcome: Outcome, store: Store) -> Json:
    """The manifest's facts about a step that has just been made."""
    config = planned.config
    return {
        "kind": config.makes,
        "stage": config.stage,
        "name": planned.name,
        "workflow": workflow,
        "fingerprint": hashed(planned.facts),
        "identity": planned.facts,
        "inputs": {
            key: InputRecord(
                name=source.manifest.name,
                kind=source.kind,
                digest=source.digest,
                path=source.uri.removeprefix(f"{store.uri}/"),  # so a moved store still finds it
            )
            for key, source in planned.sources.items()
        },
        "raw": planned.facts["raw"],
        "counts": outcome.counts,
        "metrics": outcome.metrics,
        "measured": outcome.measured,
        "versions": _versions(),
        "code": {"source": source_digest(config.stage), "commit": _commit()},
        "config": config.model_dump(mode="json"),
    }


def _work(store: Store, target: Store) -> Store:
    """Beside the target on a file system; under it on an object store, which cannot rename."""
    if store.is_local:
        return store.below(f".work/{target.uri.removeprefix(store.uri + '/')}")
    return target.below("data")


@contextlib.contextmanager
def _lock(store: Store, target: Store) -> Iterator[None]:
    """Hold a step against other live drivers; the kernel frees it when this one dies.

    An object store has no locks: there the epoch alone decides, and the newest driver wins.
    """
    if not store.is_local:
        yield
        return
    path = Path(f"{_work(store, target).uri}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("%s: another run is making it; waiting", target.uri)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _versions() -> dict[str, str]:
    found = {}
    for package in RECORDED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _commit() -> str:
    """The source tree's git commit, `-dirty` if it was changed since, or nothing outside one."""
    folder = str(Path(__file__).parent)
    command = ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
