"""Weights of a running step in; their loss on held-out rows, and the best of them out. No Ray.

Training hands weights in (`hand_in`) and goes on; another process judges them (`keep_judging`) and
leaves a score beside them. So that a run decides the same however long that takes, the validation
after which training ends looks at the scores before it, and waits for one that is not there yet.
A score that is missing or not a number ranks worst.

The scores are working files: they follow from weights and rows, so a run that resumes finds them.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load, save

from pipelines.core.artifact import Workspace
from pipelines.core.errors import ArtifactError, DataError, RaylineError, StorageError
from pipelines.tasks.batches import Batches

FOLDER = ".validation"
END, FAILED = f"{FOLDER}/end", f"{FOLDER}/failed"
LOOK_S = 0.5  # seconds between looks for new weights, or for a score
_REMEDY = f"remove {FOLDER} and .checkpoints in the step's work folder, then run again"
Score = dict[str, float | None]


@dataclass(frozen=True)
class Judging:
    """How a run is judged: every so many steps, and for how long without a better one.

    `score(batch, wait_s)` has the figures of the weights handed in after `batch` batches, or None
    if they are not there within `wait_s` seconds.
    """

    every: int
    patience: int | None
    score: Callable[[int, float], Score | None]


def hand_in(out: Workspace, batch: int, weights: dict[str, torch.Tensor]) -> None:
    """Leave weights to be judged; a score of an earlier try stands if it is of the same bits."""
    data = save(weights)
    if out.exists(_score(batch)) and _judged(out, batch) != hashlib.sha256(data).hexdigest():
        out.delete(_score(batch))
    out.write(_weights(batch), data)


def score_of(out: Workspace, batch: int, wait_s: float) -> Score | None:
    """The figures left by `keep_judging`, or None if there are none within `wait_s` seconds.

    Raises:
        RaylineError: the process that judges has failed; gives its reason.
        ArtifactError: a newer driver has taken this step over.
    """
    end = time.monotonic() + wait_s
    while True:
        with suppress(StorageError):  # a store that does not answer now may answer the next time
            if out.exists(_score(batch)):
                score: Score = json.loads(out.read(_score(batch)))["figures"]
                return score
            out.fence()
            if out.exists(FAILED):
                raise RaylineError(f"validation: {out.read(FAILED).decode()}")
        if time.monotonic() >= end:
            return None
        time.sleep(LOOK_S)


def remembered(
    score: Callable[[int, float], Score | None],
) -> Callable[[int, float], Score | None]:
    """The same, but what was found is not looked for again: a score does not change in a try."""
    found: dict[int, Score] = {}

    def look(batch: int, wait_s: float) -> Score | None:
        if batch not in found and (one := score(batch, wait_s)) is not None:
            found[batch] = one
        return found.get(batch)

    return look


def best(scores: Sequence[Score | None]) -> int:
    """The place of the lowest loss, the first of equals; None and what is no number ranks worst."""
    losses = [_loss(score) for score in scores]
    return min(range(len(losses)), key=lambda place: (losses[place], place))


def exhausted(scores: Sequence[Score | None], patience: int) -> bool:
    """Whether the last `patience` scores are all no better than one before them."""
    return bool(scores) and len(scores) - 1 - best(scores) >= patience


def kept(out: Workspace, handed: Sequence[tuple[int, int]]) -> list[int]:
    """The places of those handed in, by (batch, step), whose weights are there.

    Those that were once judged worse are not. Handed in again by a run that went on with other
    threads, the better may by a hair be the worse.

    Raises:
        ArtifactError: of none the weights are there.
    """
    there = _batches(set(out.names(FOLDER)))
    found = [place for place, (batch, _) in enumerate(handed) if batch in there]
    if not found:
        raise ArtifactError(f"{out.store.uri}/{FOLDER}: no weights that were judged; {_REMEDY}")
    return found


def best_weights(out: Workspace, batch: int) -> dict[str, torch.Tensor]:
    """The weights handed in after `batch` batches, as they were judged.

    Raises:
        ArtifactError: they are gone or were altered.
    """
    data = out.read(_weights(batch))
    if hashlib.sha256(data).hexdigest() != _judged(out, batch):
        raise ArtifactError(
            f"{out.store.uri}/{_weights(batch)}: not the weights that were judged; {_REMEDY}"
        )
    return dict(load(data))


@torch.no_grad()
def put(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy handed-in weights into the same model."""
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])


@torch.no_grad()
def judge(model: Any, batches: Batches, rows: int | None) -> Score:
    """Means of the task's figures over its first `rows` rows, and their `loss`, in fp32.

    Rows are those of epoch 0, in whole batches; each figure's sum is divided by its count once, so
    short batches weigh what they should. A loss that is no number is None.
    """
    model.eval()
    task, held = batches.task, batches.num_rows
    wanted = held if rows is None else min(rows, held)
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for number in range(-(-wanted // batches.batch_rows)):
        for batch in batches.whole(number):
            if not batch.rows:
                continue
            for name, total in task.sums(model, batch).items():
                sums[name] = sums.get(name, 0.0) + float(total)
                counts[name] = counts.get(name, 0) + batch.counts[name]
    means = {name: total / max(1, counts[name]) for name, total in sums.items()}
    loss = sum(weight * means[name] for name, weight in task.objectives.items())
    figures = {"loss": loss} | means
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def keep_judging(out: Workspace, judged: Callable[[dict[str, torch.Tensor]], Score]) -> None:
    """Judge what is handed in until `end` is there; keep the best weights and drop the others.

    Returns at once if the run has failed.

    Args:
        out: the step's workspace.
        judged: the figures of weights.
    """
    while True:
        ending = out.exists(END)  # before looking: what was handed in before the end is judged
        names = set(out.names(FOLDER))
        for batch in sorted(_batches(names)):
            if out.exists(FAILED):
                return
            if _score(batch) in names:
                continue
            data = out.read(_weights(batch))
            figures = judged(dict(load(data)))
            if out.read(_weights(batch)) == data:  # else a newer try has handed in its own
                facts = {"figures": figures, "weights": hashlib.sha256(data).hexdigest()}
                out.write(_score(batch), json.dumps(facts).encode())
                _tidy(out)
            else:
                ending = False
        if ending:
            return
        time.sleep(LOOK_S)


def begin(out: Workspace) -> None:
    """Forget how an earlier try ended."""
    out.delete(END)
    out.delete(FAILED)


def end(out: Workspace, reason: str = "") -> None:
    """Have `keep_judging` return; with a reason, have whoever waits for a score fail with it.

    Raises:
        StorageError: neither can be written.
    """
    try:
        if reason:
            out.write(FAILED, reason.encode())
        out.write(END, b"")
    except StorageError:
        raise
    except ArtifactError:  # a newer driver has taken over, and has its own
        return


def finite(scores: Sequence[Score | None]) -> None:
    """Refuse to choose among scores of which none is a number.

    Raises:
        DataError: says so.
    """
    if all(math.isinf(_loss(score)) for score in scores):
        raise DataError(
            f"validation: none of {len(scores)} losses is a number; look at the rows that are "
            "judged on, or lower optimise.learning_rate"
        )


def _judged(out: Workspace, batch: int) -> str:
    """Hex SHA-256 of the weights that a score is of."""
    digest: str = json.loads(out.read(_score(batch)))["weights"]
    return digest


def _tidy(out: Workspace) -> None:
    names = set(out.names(FOLDER))
    judged = sorted(batch for batch in _batches(names) if _score(batch) in names)
    scores = [json.loads(out.read(_score(batch)))["figures"] for batch in judged]
    for place, batch in enumerate(judged):
        if place != best(scores):
            out.delete(_weights(batch))


def _loss(score: Score | None) -> float:
    loss = score.get("loss") if score else None
    return math.inf if loss is None or math.isnan(loss) else loss


def _batches(names: set[str]) -> set[int]:
    """The batches whose weights are there."""
    return {
        int(name.removeprefix(f"{FOLDER}/").removesuffix(".safetensors"))
        for name in names
        if name.endswith(".safetensors")
    }


def _weights(batch: int) -> str:
    return f"{FOLDER}/{batch:08d}.safetensors"


def _score(batch: int) -> str:
    return f"{FOLDER}/{batch:08d}.json"
