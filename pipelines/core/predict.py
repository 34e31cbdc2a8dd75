"""What a step will cost, before it runs: facts of its inputs in; FLOPs, memory, time as text out.

A stage's own module turns facts into a `Prediction`; here are the facts, the speed that this store
has seen, and the words. Nothing is loaded but manifests, so `plan` stays fast.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.core.artifact import Artifact, Manifest, open_artifact
from pipelines.core.config import Json, StageConfig, inputs
from pipelines.core.errors import ArtifactError
from pipelines.core.plan import Planned
from pipelines.core.storage import Store

SECONDS = ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (0.0, "s"))
UNITS = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


@dataclass(frozen=True)
class Facts:
    """What is known of an input: its stage's settings, counts if it is made, what it is made from.

    `inputs` refer as settings do: `@step`, or a path in the store.
    """

    stage: str
    config: Json
    counts: Mapping[str, int]
    inputs: Mapping[str, str]

    @staticmethod
    def made(artifact: Artifact) -> "Facts":
        """Those of an artifact."""
        found = artifact.manifest
        made_from = {role: record.path for role, record in found.inputs.items()}
        return Facts(found.stage, found.config, found.counts, made_from)

    @staticmethod
    def pending(config: StageConfig) -> "Facts":
        """Those of a step that has still to run."""
        made_from = {role: reference for role, (reference, _) in inputs(config).items()}
        return Facts(config.stage, config.model_dump(mode="json"), {}, made_from)


class Book:
    """Looks inputs' facts up: in a plan's steps by `@name`, in a store by path."""

    def __init__(self, store: Store, steps: Mapping[str, Planned] | None = None) -> None:
        self._store, self._steps = store, steps or {}

    def __getitem__(self, reference: str) -> Facts | None:
        """The facts of what `reference` names, or None if it is not there."""
        if reference.startswith("@"):
            planned = self._steps.get(reference[1:])
            if planned is None:
                return None
            if planned.artifact is None:
                return Facts.pending(planned.config)
            return Facts.made(planned.artifact)
        for place in (f"{self._store.uri}/{reference}", reference):
            with contextlib.suppress(ArtifactError):
                return Facts.made(open_artifact(place))
        return None

    def rate(self, parameters: int) -> "Rate | None":
        """FLOP/s of a process in the finished training whose size is nearest, if there is one."""
        best: tuple[float, Manifest] | None = None
        for folder in self._store.folders("train"):
            try:
                found = open_artifact(self._store.locate(f"train/{folder}")).manifest
            except ArtifactError:
                continue
            if found.measured.get("flops_per_s") and found.counts.get("parameters"):
                far = abs(math.log(found.counts["parameters"] / parameters))
                newer = best is None or (-far, found.started) > (-best[0], best[1].started)
                best = (far, found) if newer else best
        if best is None:
            return None
        measured = best[1].measured
        return Rate(measured["flops_per_s"] / measured.get("processes", 1.0), best[1].name)


@dataclass(frozen=True)
class Rate:
    """FLOP/s that one process reached, and in which step."""

    flops_per_s: float
    step: str


@dataclass(frozen=True)
class Prediction:
    """What a training step costs.

    `flops` are of the whole step, `bytes` of one of its `processes`. `most` says that rows may be
    shorter than was reckoned with, so the step may cost less.
    """

    parameters: int
    tokens: int
    flops: float
    bytes: float
    processes: int
    most: bool

    def seconds(self, rate: Rate | None) -> float | None:
        """How long it takes where processes compute at `rate`, or None."""
        return None if rate is None else self.flops / (rate.flops_per_s * self.processes)


def told(name: str, prediction: Prediction, rate: Rate | None) -> str:
    """One line for `plan`."""
    seconds = prediction.seconds(rate)
    time = "time not known before a first training in this store"
    if seconds is not None and rate is not None:
        speed = amount(rate.flops_per_s * prediction.processes, "FLOP/s")
        time = f"about {duration(seconds)} at {speed} (as {rate.step} had)"
    most = "at most " if prediction.most else ""
    return (
        f"{name}: {amount(prediction.parameters)} parameters, {most}"
        f"{amount(prediction.tokens)} tokens, {amount(prediction.flops, 'FLOP')}, about "
        f"{amount(prediction.bytes, 'B')} a worker, {time}"
    )


def compared(name: str, predicted_s: float, actual_s: float) -> str:
    """One line for the end of a run."""
    return (
        f"{name}: predicted {duration(predicted_s)}, took {duration(actual_s)} "
        f"({actual_s / predicted_s:.2f} times)"
    )


def duration(seconds: float) -> str:
    """Seconds in the unit a person would use."""
    size, unit = next((size, unit) for size, unit in SECONDS if seconds >= 2 * size)
    return f"{seconds / (size or 1.0):.3g} {unit}"


def amount(value: float, unit: str = "") -> str:
    """A number with the prefix that leaves up to three digits before the point."""
    power = 0
    while value >= 1000 and power < len(UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {UNITS[power]}{unit}".rstrip()
