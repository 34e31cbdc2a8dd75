"""Workflows: named steps -> a plan (REUSE or RUN, and why) -> artifacts.

A workflow is a list of steps, each a stage's settings; `@name` in a setting refers to an earlier
step. Nothing here imports a stage before it runs, so planning needs no Ray, torch or MLflow.
"""

import contextlib
import copy
import datetime
import fcntl
import hashlib
import importlib
import importlib.metadata
import json
import logging
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pipelines.core.artifact import (
    Artifact,
    InputRecord,
    Manifest,
    Workspace,
    commit,
    open_artifact,
    set_aside,
)
from pipelines.core.config import (
    Json,
    Placement,
    StageConfig,
    identity,
    inputs,
    nearest,
    parse,
)
from pipelines.core.errors import ArtifactError, ConfigError
from pipelines.core.storage import Store

log = logging.getLogger(__name__)

RECORDED = ("ray", "torch", "transformers", "tokenizers", "pyarrow", "numpy", "mlflow", "rayline")


@dataclass(frozen=True)
class Outcome:
    """What a stage says of the artifact it wrote.

    `metrics` follow from the bytes and repeat exactly; `measured` (seconds, rates) do not.
    """

    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What a stage's `make(config, step)` is given beside its settings."""

    name: str
    inputs: Mapping[str, Artifact]
    out: Workspace
    placement: Placement
    report: Callable[[Json], None]


class Observer(Protocol):
    """Who is told of a run's events: the terminal, MLflow."""

    def started(self, name: str, config: StageConfig, made_from: Mapping[str, Artifact]) -> None:
        """A step begins."""

    def progress(self, name: str, facts: Json) -> None:
        """A running step reports numbers, such as step, loss, tokens_per_s."""

    def finished(self, name: str, artifact: Artifact, made_from: Mapping[str, Artifact]) -> None:
        """A step has committed its artifact."""

    def reused(self, name: str, artifact: Artifact) -> None:
        """A step's artifact was there already."""

    def failed(self, name: str, error: BaseException) -> None:
        """A step raised."""


class Workflow:
    """Named steps in order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.steps: dict[str, StageConfig] = {}
        self.compared: dict[str, str] = {}
        self.served: str | None = None
        self.example = ""

    def add(self, name: str, config: StageConfig) -> str:
        """Append a step; returns the reference by which later steps name it."""
        for setting, (reference, _) in inputs(config).items():
            if reference.startswith("@") and reference[1:] not in self.steps:
                raise ConfigError(
                    f"{name}.{setting}={reference}: no earlier step of that name; "
                    f"{nearest(reference[1:], list(self.steps))}"
                )
        self.steps[name] = config
        return f"@{name}"

    def compare(self, reports: Mapping[str, str]) -> None:
        """Show these Reports (title -> reference) side by side when a run ends."""
        self.compared = {title: reference[1:] for title, reference in reports.items()}

    def serve(self, reference: str, example: str) -> None:
        """Name the step that `rayline serve` takes, and a text to try it with."""
        self.served, self.example = reference[1:], example

    def override(self, step: str, changes: Json, where: str) -> "Workflow":
        """This workflow with some settings of one step changed.

        Raises:
            ConfigError: a setting does not exist, or a value does not fit.
        """
        if not isinstance(changes, dict):
            raise ConfigError(f"{where}: {step} is a step; set its fields, as {step}.field=value")
        changed = copy.copy(self)
        config = self.steps[step]
        data = config.model_dump(mode="json")
        _merge(data, changes)
        changed.steps = self.steps | {step: parse(type(config), data, f"{where}: {step}")}
        return changed


def _merge(data: Json, changes: Json) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(data.get(key), dict):
            _merge(data[key], value)
        else:
            data[key] = value


@dataclass(frozen=True)
class Planned:
    """One step of a plan."""

    name: str
    config: StageConfig
    action: Literal["REUSE", "RUN"]
    reason: str
    artifact: Artifact | None = None
    damaged: bool = False


def plan(workflow: Workflow, store: Store, *, fresh_code: bool = False) -> list[Planned]:
    """What `run` would do, step by step, and why.

    Raises:
        ConfigError: a raw input is missing.
        ArtifactError: an input named by URI is missing, damaged or of another kind.
    """
    made: dict[str, Artifact | None] = {}
    steps = []
    for name, config in workflow.steps.items():
        planned = _plan_step(name, config, made, store, fresh_code)
        made[name] = planned.artifact
        steps.append(planned)
    return steps


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
    """
    store = Store.at(placement.storage)
    made: dict[str, Artifact | None] = {}
    with contextlib.ExitStack() as stack:
        opened = False
        for name, config in workflow.steps.items():
            planned = _plan_step(name, config, made, store, fresh_code)
            if planned.artifact is None:
                if not opened:
                    stack.enter_context(session(placement))
                    opened = True
                made[name] = _make(planned, made, store, placement, observers, fresh_code)
            else:
                made[name] = planned.artifact
                for observer in observers:
                    observer.reused(name, planned.artifact)
    return {name: artifact for name, artifact in made.items() if artifact is not None}


def fingerprint(config: StageConfig, digests: Mapping[str, str]) -> str:
    """Hex SHA-256 of what the step is: stage, version, identity settings, input contents."""
    facts = _facts(config, digests)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _facts(config: StageConfig, digests: Mapping[str, str]) -> Json:
    return {
        "stage": config.stage,
        "version": config.version,
        "config": json.loads(json.dumps(identity(config))),
        "inputs": dict(digests),
        "raw": config.raw_digests(),
    }


def _plan_step(
    name: str,
    config: StageConfig,
    made: Mapping[str, Artifact | None],
    store: Store,
    fresh_code: bool,
) -> Planned:
    pending = [
        reference[1:]
        for reference, _ in inputs(config).values()
        if reference.startswith("@") and made[reference[1:]] is None
    ]
    if pending:
        return Planned(name, config, "RUN", f"its input {', '.join(sorted(set(pending)))} runs")
    sources = resolve(name, config, made)
    mark = fingerprint(config, {key: source.digest for key, source in sources.items()})
    try:
        artifact = open_artifact(_target(store, name, config, mark).uri, (config.makes,))
        artifact.verify()
    except ArtifactError as error:
        if _target(store, name, config, mark).exists("artifact.json"):
            return Planned(name, config, "RUN", f"damaged: {error}", damaged=True)
        return Planned(name, config, "RUN", _why(name, config, sources, store))
    drift = artifact.manifest.code.get("source") != source_digest(config.stage)
    if drift and fresh_code:
        return Planned(
            name, config, "RUN", "its code has changed since (--fresh-code)", damaged=True
        )
    note = "; its code has changed since (--fresh-code reruns it)" if drift else ""
    return Planned(name, config, "REUSE", f"made {artifact.manifest.started}{note}", artifact)


def resolve(
    name: str, config: StageConfig, made: Mapping[str, Artifact | None]
) -> dict[str, Artifact]:
    """The artifacts a step reads, by its setting."""
    found = {}
    for setting, (reference, kinds) in inputs(config).items():
        artifact = made[reference[1:]] if reference.startswith("@") else open_artifact(reference)
        assert artifact is not None
        if artifact.kind not in kinds:
            raise ConfigError(
                f"{name}.{setting}={reference}: is a {artifact.kind}, expected {' or '.join(kinds)}"
            )
        found[setting] = artifact
    return found


def _make(
    planned: Planned,
    made: Mapping[str, Artifact | None],
    store: Store,
    placement: Placement,
    observers: list[Observer],
    fresh_code: bool,
) -> Artifact:
    name, config = planned.name, planned.config
    sources = resolve(name, config, made)
    mark = fingerprint(config, {key: source.digest for key, source in sources.items()})
    target = _target(store, name, config, mark)
    with _lock(store, f"{config.stage}/{name}-{mark[:8]}"):
        again = _plan_step(name, config, made, store, fresh_code)
        if again.artifact is not None:  # another run made it while this one waited
            for observer in observers:
                observer.reused(name, again.artifact)
            return again.artifact
        if again.damaged and (aside := set_aside(target)):
            log.warning("%s: the earlier artifact was moved to %s", name, aside)
        work = Workspace.take(_work(store, target, config, name, mark))
        for observer in observers:
            observer.started(name, config, sources)

        def report(facts: Json) -> None:
            for observer in observers:
                observer.progress(name, facts)

        started, clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
        try:
            stage = importlib.import_module(f"pipelines.{config.stage}.stage")
            outcome: Outcome = stage.make(config, Step(name, sources, work, placement, report))
        except BaseException as error:
            for observer in observers:
                observer.failed(name, error)
            raise
        facts = _record(planned, sources, mark, outcome, store) | {
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - clock, 3),
        }
        commit(work, target, facts)
    artifact = open_artifact(target.uri, (config.makes,))
    for observer in observers:
        observer.finished(name, artifact, sources)
    return artifact


def _record(
    planned: Planned, sources: Mapping[str, Artifact], mark: str, outcome: Outcome, store: Store
) -> Json:
    """The manifest's facts about a step that has just been made."""
    config = planned.config
    digests = {key: source.digest for key, source in sources.items()}
    return {
        "kind": config.makes,
        "stage": config.stage,
        "name": planned.name,
        "fingerprint": mark,
        "identity": _facts(config, digests),
        "inputs": {
            key: InputRecord(
                name=source.manifest.name,
                kind=source.kind,
                digest=source.digest,
                path=source.uri.removeprefix(store.uri).lstrip("/"),
            )
            for key, source in sources.items()
        },
        "raw": config.raw_digests(),
        "counts": outcome.counts,
        "metrics": outcome.metrics,
        "measured": outcome.measured,
        "versions": _versions(),
        "code": {"source": source_digest(config.stage), "commit": _commit()},
        "config": config.model_dump(mode="json"),
    }


def _target(store: Store, name: str, config: StageConfig, mark: str) -> Store:
    return store.below(f"{config.stage}/{name}-{mark[:8]}")


def _work(store: Store, target: Store, config: StageConfig, name: str, mark: str) -> Store:
    """Beside the target on a file system; under it on an object store, which cannot rename."""
    if store.is_local:
        return store.below(f".work/{config.stage}/{name}-{mark[:8]}")
    return target.below("data")


@contextlib.contextmanager
def _lock(store: Store, name: str) -> Iterator[None]:
    """Hold a step against other live drivers; the kernel frees it when this one dies.

    An object store has no locks: there the epoch alone decides, and the newest driver wins.
    """
    if not store.is_local:
        yield
        return
    path = Path(store.locate(f".work/{name}.lock"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("%s: another run is making this step; waiting for it", name)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _why(name: str, config: StageConfig, sources: Mapping[str, Artifact], store: Store) -> str:
    """The difference from the newest artifact that this step made before."""
    earlier: Manifest | None = None
    for folder in store.folders(config.stage):
        if not folder.startswith(f"{name}-") or ".damaged-" in folder:
            continue
        with contextlib.suppress(ArtifactError):
            manifest = open_artifact(store.locate(f"{config.stage}/{folder}")).manifest
            if earlier is None or manifest.started > earlier.started:
                earlier = manifest
    if earlier is None:
        return "not made yet"
    now = _facts(config, {key: source.digest for key, source in sources.items()})
    changes = list(_differences(earlier.identity, now))
    return "changed: " + ", ".join(changes[:4]) + (", ..." if len(changes) > 4 else "")


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            below = key if path in ("", "config") else f"{path}.{key}"
            yield from _differences(old.get(key), new.get(key), below)
    elif old != new:
        yield f"{path} {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:21]}..."


def source_digest(stage: str) -> str:
    """Hex SHA-256 of the stage folder's source, recorded so that `plan` can show drift."""
    folder = Path(__file__).parent.parent / stage
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for package in RECORDED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _commit() -> str:
    """The source tree's git commit, or nothing outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
