"""A workflow and a store -> what a run would do: REUSE or RUN each step, and why.

Nothing here imports a stage, so planning needs no Ray, torch or MLflow.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pipelines.core.artifact import MANIFEST, Artifact, Manifest, open_artifact
from pipelines.core.config import Json, StageConfig, identity, inputs
from pipelines.core.errors import ArtifactError, ConfigError, StorageError
from pipelines.core.storage import Store
from pipelines.core.workflow import Workflow

PACKAGE = "pipelines"
_IMPORT = re.compile(r"^\s*from (pipelines[\w.]*) import (\([^)]*\)|.*)$", re.MULTILINE)


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
        planned = plan_step(name, config, made, store, fresh_code)
        made[name] = planned.artifact
        steps.append(planned)
    return steps


def hashed(facts: Json) -> str:
    """Hex SHA-256 of a step's facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def facts_of(config: StageConfig, digests: Mapping[str, str]) -> Json:
    """What a step is: the JSON that its fingerprint is taken of."""
    return {
        "stage": config.stage,
        "version": config.version,
        "config": identity(config),
        "inputs": dict(digests),
        "raw": config.raw_digests(),
    }


def plan_step(
    name: str,
    config: StageConfig,
    made: Mapping[str, Artifact | None],
    store: Store,
    fresh_code: bool,
) -> Planned:
    """One step's plan, given what the steps before it have made; None is still to be made."""
    pending = [
        reference[1:]
        for reference, _ in inputs(config).values()
        if reference.startswith("@") and made[reference[1:]] is None
    ]
    if pending:
        return Planned(name, config, "RUN", f"its input {', '.join(sorted(set(pending)))} runs")
    sources = resolve(name, config, made)
    facts = facts_of(config, {key: source.digest for key, source in sources.items()})
    return look(Planned(name, config, "RUN", "", None, sources, facts), store, fresh_code)


def look(planned: Planned, store: Store, fresh_code: bool) -> Planned:
    """`planned` with what the store holds of it now."""
    target = target_of(store, planned)
    if not target.exists(MANIFEST):
        return replace(planned, reason=_why(planned, store))
    try:
        artifact = open_artifact(target.uri, (planned.config.makes,))
        artifact.verify()
        if artifact.manifest.fingerprint != hashed(planned.facts):
            raise ArtifactError(f"{target.uri}: holds another step's artifact")
    except StorageError:  # not damage: it must not be set aside for that
        raise
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


def target_of(store: Store, planned: Planned) -> Store:
    """Where the step's artifact lies, or will."""
    return store.below(f"{planned.config.stage}/{planned.name}-{hashed(planned.facts)[:8]}")


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
    """Hex SHA-256 of the source a stage runs, recorded so that `plan` can show drift.

    That is its `stage.py` and every module it imports, directly or not, except `core`, which moves
    bytes and makes none.
    """
    digest = hashlib.sha256()
    for module, text in sorted(_imported(f"{PACKAGE}.{stage}.stage").items()):
        digest.update(module.encode() + b"\0" + text)
    return digest.hexdigest()


def _imported(module: str) -> dict[str, bytes]:
    """A module's source and that of the modules it imports, by name; nothing is executed."""
    found: dict[str, bytes] = {}
    pending = {module}
    while pending:
        name = pending.pop()
        path = Path(__file__).parents[2] / f"{name.replace('.', '/')}.py"
        if name in found or name.startswith(f"{PACKAGE}.core.") or not path.is_file():
            continue
        found[name] = path.read_bytes()
        for package, names in _IMPORT.findall(found[name].decode()):
            pending |= {package} | {f"{package}.{part}" for part in re.findall(r"\w+", names)}
    return found
