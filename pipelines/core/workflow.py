"""Workflows: named steps -> a plan (REUSE or RUN, and why) -> artifacts.

A workflow is a list of steps, each a stage's settings; `@name` in a setting refers to an earlier
step. Nothing here imports a stage before it runs, so planning needs no Ray, torch or MLflow.
"""

import contextlib
import copy
import datetime as dt
import fcntl
import hashlib
import importlib
import importlib.metadata
import json
import logging
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from pipelines.core.artifact import (
    MANIFEST,
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
from pipelines.core.errors import ArtifactError, ConfigError, DataError
from pipelines.core.storage import Store

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
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
        """Append a step; returns the reference by which later steps name it.

        Raises:
            ConfigError: the name is taken or not a plain word, or an input names no earlier step.
        """
        if not _NAME.fullmatch(name) or name in self.steps:
            raise ConfigError(
                f"step {name!r}: expected a new name of lower-case letters, digits, - and _, "
                f"for it names folders; taken: {', '.join(self.steps) or 'none'}"
            )
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
    sources: Mapping[str, Artifact] = field(default_factory=dict)
    facts: Json = field(default_factory=dict)  # empty while an input has still to run


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
                made[name] = _make(planned, store, placement, observers, fresh_code)
            else:
                made[name] = planned.artifact
                for observer in observers:
                    observer.reused(name, planned.artifact)
    return {name: artifact for name, artifact in made.items() if artifact is not None}


def check_sources(workflow: Workflow) -> None:
    """Make sure, before any cluster starts, that everything made elsewhere is there and whole.

    Raises:
        DataError: a raw file is missing.
        ArtifactError: an artifact named by URI is missing or torn.
    """
    for config in workflow.steps.values():
        config.raw_digests()
        for reference, kinds in inputs(config).values():
            if not reference.startswith("@"):
                open_artifact(reference, kinds)


def snapshot(workflow: Workflow) -> Json:
    """Every step's settings, as JSON."""
    return {name: config.model_dump(mode="json") for name, config in workflow.steps.items()}


def fingerprint(config: StageConfig, digests: Mapping[str, str]) -> str:
    """Hex SHA-256 of what the step is: stage, version, identity settings, input contents."""
    return _hash(_facts(config, digests))


def _hash(facts: Json) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _facts(config: StageConfig, digests: Mapping[str, str]) -> Json:
    return {
        "stage": config.stage,
        "version": config.version,
        "config": identity(config),
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
    facts = _facts(config, {key: source.digest for key, source in sources.items()})
    return _look(Planned(name, config, "RUN", "", None, sources, facts), store, fresh_code)


def _look(planned: Planned, store: Store, fresh_code: bool) -> Planned:
    """`planned` with what the store holds of it now."""
    target = _target(store, planned)
    if not target.exists(MANIFEST):
        return replace(planned, reason=_why(planned, store))
    try:
        artifact = open_artifact(target.uri, (planned.config.makes,))
        artifact.verify()
        if artifact.manifest.fingerprint != _hash(planned.facts):
            raise ArtifactError(f"{target.uri}: holds another step's artifact")
    except ArtifactError as error:
        return replace(planned, reason=f"damaged: {error}")
    note = ""
    if artifact.manifest.code.get("source") != source_digest(planned.config.stage):
        if fresh_code:
            return replace(planned, reason="its code has changed since (--fresh-code)")
        note = "; its code has changed since (--fresh-code reruns it)"
    reason = f"made {artifact.manifest.started}{note}"
    return replace(planned, action="REUSE", reason=reason, artifact=artifact)


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
    store: Store,
    placement: Placement,
    observers: list[Observer],
    fresh_code: bool,
) -> Artifact:
    name, config, target = planned.name, planned.config, _target(store, planned)
    with _lock(store, target):
        again = _look(planned, store, fresh_code)
        if again.artifact is not None:  # another run made it while this one waited
            for observer in observers:
                observer.reused(name, again.artifact)
            return again.artifact
        work = Workspace.take(_cleared(store, target))
        for observer in observers:
            observer.started(name, config, planned.sources)
        began, clock = dt.datetime.now(dt.UTC), time.perf_counter()
        try:
            outcome = _executed(planned, work, placement, observers)
            facts = _record(planned, outcome, store) | {
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


def _cleared(store: Store, target: Store) -> Store:
    """Where the step works, once whatever is in the artifact's place has been moved out of it.

    An object store keeps an unfinished try in that very place, to be continued.
    """
    work = _work(store, target)
    if (store.is_local or target.exists(MANIFEST)) and (aside := set_aside(target)):
        log.warning("%s: what lay there was moved to %s", target.uri, aside)
        work.delete("")  # an old try may share the damage, or the code that --fresh-code rejects
    return work


def _record(planned: Planned, outcome: Outcome, store: Store) -> Json:
    """The manifest's facts about a step that has just been made."""
    config = planned.config
    return {
        "kind": config.makes,
        "stage": config.stage,
        "name": planned.name,
        "fingerprint": _hash(planned.facts),
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


def _target(store: Store, planned: Planned) -> Store:
    return store.below(f"{planned.config.stage}/{planned.name}-{_hash(planned.facts)[:8]}")


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


def _why(planned: Planned, store: Store) -> str:
    """The difference from the newest artifact that this step made before."""
    stage, made = planned.config.stage, re.compile(rf"{planned.name}-[0-9a-f]{{8}}")
    earlier: Manifest | None = None
    for folder in filter(made.fullmatch, store.folders(stage)):
        with contextlib.suppress(ArtifactError):
            manifest = open_artifact(store.locate(f"{stage}/{folder}")).manifest
            if earlier is None or manifest.started > earlier.started:
                earlier = manifest
    if earlier is None:
        return "not made yet"
    changes = list(_differences(earlier.identity, planned.facts))
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
    """The source tree's git commit, `-dirty` if it was changed since, or nothing outside one."""
    folder = str(Path(__file__).parent)
    command = ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
