"""Workflows: named steps, each a stage's settings; `@name` in a setting refers to an earlier step.

Also what a stage is given (`Step`) and gives back (`Outcome`), and who is told of it (`Observer`).
"""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipelines.core.artifact import Artifact, Workspace, open_artifact
from pipelines.core.config import Json, Placement, StageConfig, given, inputs, nearest, parse
from pipelines.core.errors import ConfigError

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


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

    def override(self, step: str, changes: Json, where: Callable[[str], str]) -> "Workflow":
        """This workflow with some settings of one step changed.

        Args:
            step: its name.
            changes: the settings, nested as they are.
            where: tells the place that a dotted key, the step's name first, was read from.

        Raises:
            ConfigError: a setting does not exist, or a value does not fit.
        """
        if not isinstance(changes, dict):
            raise ConfigError(
                f"{where(step)}: {step} is a step; set its fields, as {step}.field=value"
            )
        changed = copy.copy(self)
        config = self.steps[step]
        parsed = parse(
            type(config),
            _merged(given(config), changes),
            lambda key: f"{where(f'{step}.{key}')}: {step}",
        )
        changed.steps = self.steps | {step: parsed}
        return changed


def _merged(old: Any, new: Any) -> Any:
    """`old` with the settings of `new` in it; a group of another kind replaces the old one."""
    match old, new:
        case dict(), dict() if new.get("kind", old.get("kind")) == old.get("kind"):
            return old | {key: _merged(old.get(key), value) for key, value in new.items()}
        case list(), dict() if new.keys() <= {str(place) for place in range(len(old))}:
            return [_merged(item, new.get(str(place), item)) for place, item in enumerate(old)]
        case _:
            return new


def check_sources(workflow: Workflow) -> None:
    """Make sure, before any cluster starts, that everything made elsewhere is there.

    Raises:
        DataError: a raw file is missing.
        ArtifactError: an artifact named by URI is missing or of another kind.
    """
    for config in workflow.steps.values():
        config.raw_digests()
    elsewhere(workflow)


def elsewhere(workflow: Workflow) -> dict[str, Artifact]:
    """The artifacts that steps name by path or URI, not by `@step`, opened.

    Raises:
        ArtifactError: one is missing or of another kind.
    """
    named = (found for config in workflow.steps.values() for found in inputs(config).values())
    return {
        reference: open_artifact(reference, kinds)
        for reference, kinds in named
        if not reference.startswith("@")
    }


def snapshot(workflow: Workflow) -> Json:
    """Every step's settings, as JSON."""
    return {name: config.model_dump(mode="json") for name, config in workflow.steps.items()}
