"""A model, a task and settings in; the learnt weights and their history out. No Ray.

`fit` is one process's view. A batch is cut in `optimise.shards` parts whatever the number of
processes, process r of W learns from parts r, r + W, ..., and gradients are added up once a step.
Two terms add up to the same bits in either order, so one process and two give the same weights with
two parts; with more, they agree to rounding.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pipelines.core.artifact import Workspace
from pipelines.core.config import Json
from pipelines.core.errors import DataError
from pipelines.core.group import PROGRESS, LeaveError
from pipelines.tasks.protocol import Batch, Task
from pipelines.train import state
from pipelines.train.config import Optimise
from pipelines.train.preempt import Notice
from pipelines.train.schedule import learning_rate
from pipelines.train.team import Parallel, Replicated, Team
from pipelines.train.throughput import Meter, peak_flops, precision

log = logging.getLogger(__name__)

POINTS = 100  # progress points a run
WRITE_S = 1.0  # seconds between rewrites of the progress file
BETAS, EPSILON = (0.9, 0.999), 1e-8  # Loshchilov and Hutter 2019; torch's own


@dataclass(frozen=True)
class Fitted:
    """What `fit` leaves beside the weights in the model.

    `history` has a point a step: `step` (from 1), `loss`, `learning_rate` and the task's figures.
    It and `tokens` repeat exactly; `measured` does not, and has no rate if no step was left.
    """

    history: list[Json]
    tokens: int
    measured: dict[str, float]


class Progress:
    """Points of this try, kept in the workspace for whoever follows the run."""

    def __init__(self, out: Workspace, steps: int) -> None:
        self._out, self._steps = out, steps
        self._points: list[Json] = []
        self._written = 0.0

    def add(self, point: Json, measured: dict[str, float]) -> None:
        """Note a step, if it is one of about a hundred that are."""
        last = point["step"] == self._steps
        if point["step"] % max(1, self._steps // POINTS) and not last:
            return
        rates = {name: measured[name] for name in ("tokens_per_s", "mfu")}
        self._points.append(point | rates | {"steps": self._steps})
        if last or time.monotonic() - self._written >= WRITE_S:
            self._out.write(PROGRESS, json.dumps(self._points).encode())
            self._written = time.monotonic()


def fit(model: Any, task: Task, optimise: Optimise, out: Workspace) -> Fitted:
    """Learn `task` from the newest verified checkpoint in `out`, or from the start.

    Args:
        model: a transformers model with the weights to start from; learnt in place.
        task: what is learnt.
        optimise: how.
        out: where checkpoints are read, and written by process 0.

    Raises:
        ArtifactError: a process cannot read the checkpoint that process 0 resumes from.
        DataError: the loss or a gradient is not finite; names the step and the rows.
        LeaveError: a process was told to go; the step that was under way is in a checkpoint.
    """
    team = Team()
    model.to(team.device).train()
    parallel: Parallel = Replicated(model, team)
    optimizer = adamw(model, optimise)
    done = parallel.resume(out, optimizer)
    history, tokens = list(done.history), done.tokens
    progress = Progress(out, optimise.steps)
    with Notice(out, team.rank) as notice:
        learner = _Learner(model, task, optimise, optimizer, team, parallel, notice)
        for point, seen in learner.steps(done.step):
            history.append(point)
            tokens += seen
            step, last = point["step"], point["step"] == optimise.steps
            if not team.rank:
                progress.add(point | {"tokens": tokens}, learner.meter.read())
            if learner.leaving or last or step % optimise.checkpoint_steps == 0:
                tensors = parallel.capture(optimizer)
                parallel.write(out, state.Checkpoint(step, tokens, history, tensors))
            if learner.leaving and not last:
                raise LeaveError(f"told to leave; the checkpoint of step {step} is written")
    learner.meter.raise_peak(learner.peak())
    parallel.gather()
    return Fitted(history, tokens, learner.meter.read() | {"precision_bits": learner.bits})


def adamw(model: torch.nn.Module, optimise: Optimise) -> torch.optim.AdamW:
    """Fused AdamW that decays matrices, and neither biases nor norms."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": optimise.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=optimise.learning_rate, betas=BETAS, eps=EPSILON, fused=True
    )


class _Learner:
    """One process's side of each optimizer step."""

    def __init__(
        self,
        model: Any,
        task: Task,
        optimise: Optimise,
        optimizer: torch.optim.AdamW,
        team: Team,
        parallel: Parallel,
        notice: Notice,
    ) -> None:
        self._task, self._optimise, self._optimizer = task, optimise, optimizer
        self._team, self._parallel, self._notice = team, parallel, notice
        self.leaving = False
        self._dtype = precision(optimise.precision, team.device)
        self.bits = torch.finfo(self._dtype).bits
        log.info("matrices are multiplied in %d bits on %s", self.bits, team.device)
        self.meter = Meter(model.config, self.peak())

    def peak(self) -> float:
        """FLOP/s of all processes together, measured at the same time."""
        self._team.add(torch.zeros(1, device=self._team.device))  # wait until all are here
        found = torch.tensor([peak_flops(self._team.device, self._dtype)], device=self._team.device)
        self._team.add(found)
        return float(found)

    def steps(self, start: int) -> Iterator[tuple[Json, int]]:
        """Take every step from `start` on; yields its point of the history, and its tokens."""
        for step in range(start, self._optimise.steps):
            batches = self._task.batches(step)
            means = self._means(step, batches)
            norm = self._parallel.clip(self._optimise.clip)
            if not (math.isfinite(means["loss"]) and math.isfinite(norm)):
                raise DataError(_diverged(step, means["loss"], norm, batches))
            rate = learning_rate(step, self._optimise)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._optimizer.step()
            self.meter.count(batches)
            point = {"step": step + 1, "learning_rate": rate} | means
            yield point, sum(batch.tokens for batch in batches)

    def _means(self, step: int, batches: Sequence[Batch]) -> dict[str, float]:
        """The loss and figures of the whole batch, whose gradients the parameters then have.

        Whether a process was told to leave is added up with them, so that all know of it at once.
        """
        counts = {
            name: max(1, sum(batch.counts[name] for batch in batches)) for name in batches[0].counts
        }
        self._parallel.clear()
        sums = torch.zeros(len(counts) + 1, device=self._team.device)
        sums[-1] = self._notice.given()
        for part, weight in self._parallel.turns(batches):
            torch.manual_seed(_dropout_seed(self._optimise.seed, step, part))
            found = self._backward(batches[part], counts, weight)
            sums[:-1] += weight * torch.stack([found[name].detach() for name in counts])
        self._parallel.add_up()
        self._team.add(sums)
        *totals, told = sums.tolist()
        self.leaving = told > 0
        pairs = zip(counts, totals, strict=True)
        means = {name: total / counts[name] for name, total in pairs}
        loss = sum(weight * means[name] for name, weight in self._task.objectives.items())
        return {"loss": loss} | means

    def _backward(
        self, batch: Batch, counts: dict[str, int], weight: float
    ) -> dict[str, torch.Tensor]:
        device = self._team.device
        tensors = {name: tensor.to(device) for name, tensor in batch.tensors.items()}
        mixed = self._dtype is torch.bfloat16
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed):
            found = self._parallel.sums(self._task, replace(batch, tensors=tensors))
        shares = self._task.objectives.items()
        loss = torch.stack(
            [found[name] * (weight * share / counts[name]) for name, share in shares]
        ).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return found


def _dropout_seed(seed: int, step: int, part: int) -> int:
    """Of one part's forward pass, so that no generator's state needs to be kept."""
    digest = hashlib.sha256(f"{seed}/{step}/{part}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _diverged(step: int, loss: float, norm: float, batches: Sequence[Batch]) -> str:
    rows = [row for batch in batches for row in batch.rows]
    return (
        f"step {step + 1}: loss {loss}, gradient norm {norm}, expected finite numbers; the weights "
        f"were not changed by it; its rows are {rows}: lower optimise.learning_rate or "
        "optimise.clip, or look at these rows"
    )
