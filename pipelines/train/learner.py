"""A batch's number in; the gradients of that batch and its figures out: one process's side of it.

A batch is cut in `optimise.shards` parts whatever the number of processes; each learns from its own
parts, and gradients and figures are added up once a step.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from pipelines.core.errors import DataError
from pipelines.tasks.protocol import Batch, Task
from pipelines.train.config import Optimise
from pipelines.train.optimizers import Optimizer
from pipelines.train.team import Parallel, Team
from pipelines.train.throughput import Meter


@dataclass(frozen=True)
class Taken:
    """A batch whose gradients the parameters have now, clipped.

    `figures` has the `loss` and the task's own; `norm` is the gradient's before clipping. `flags`
    tells which of the processes' flags any of them had set.
    """

    figures: dict[str, float]
    norm: float
    tokens: int
    flags: tuple[bool, ...]


class Learner:
    """Takes batches, in one of the processes that learn together."""

    def __init__(
        self,
        task: Task,
        optimise: Optimise,
        dtype: torch.dtype,
        team: Team,
        parallel: Parallel,
        meter: Meter,
    ) -> None:
        self._task, self._optimise, self._dtype = task, optimise, dtype
        self.team, self.parallel, self.meter = team, parallel, meter

    def take(self, number: int, step: int, flags: Sequence[bool]) -> Taken:
        """Make the gradients of batch `number` for step `step` (both from 0).

        `flags` travel with the sums, so that all processes know of them after the same step.

        Raises:
            DataError: the loss or a gradient is not finite; names the step and the rows.
        """
        with self.meter.waiting():
            batches = self._task.batches(number)
        figures, found = self._added_up(number, batches, flags)
        norm = self.parallel.clip(self._optimise.clip)
        if not (math.isfinite(figures["loss"]) and math.isfinite(norm)):
            raise DataError(_diverged(step, figures["loss"], norm, batches))
        self.meter.count(batches)
        return Taken(figures, norm, sum(batch.tokens for batch in batches), found)

    def move(self, optimizer: Optimizer, rate: float) -> None:
        """Change the weights by the gradients, at learning rate `rate`."""
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()

    def _added_up(
        self, number: int, batches: Sequence[Batch], flags: Sequence[bool]
    ) -> tuple[dict[str, float], tuple[bool, ...]]:
        """The loss and figures of the whole batch, whose gradients the parameters then have."""
        counts = {
            name: max(1, sum(batch.counts[name] for batch in batches)) for name in batches[0].counts
        }
        self.parallel.clear()
        sums = torch.zeros(len(counts), device=self.team.device)
        for part, weight in self.parallel.turns(batches):
            self._seed(_dropout_seed(self._optimise.seed, number, part))
            found = self._backward(batches[part], counts, weight)
            sums += weight * torch.stack([found[name].detach() for name in counts])
        self.parallel.add_up()
        sums = torch.cat([sums, torch.tensor(flags, device=self.team.device).float()])
        self.team.add(sums)
        totals = sums.tolist()
        means = {name: total / counts[name] for name, total in zip(counts, totals, strict=False)}
        loss = sum(weight * means[name] for name, weight in self._task.objectives.items())
        return {"loss": loss} | means, tuple(total > 0 for total in totals[len(counts) :])

    def _seed(self, seed: int) -> None:
        """Set this device's generator alone.

        `torch.manual_seed` also formats a trace for each kind of device that is not there, which
        took half of a very small model's step.
        """
        if self.team.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)

    def _backward(
        self, batch: Batch, counts: dict[str, int], weight: float
    ) -> dict[str, torch.Tensor]:
        device = self.team.device
        tensors = {name: tensor.to(device) for name, tensor in batch.tensors.items()}
        mixed = self._dtype is torch.bfloat16
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed):
            found = self.parallel.sums(self._task, replace(batch, tensors=tensors))
        shares = self._task.objectives.items()
        loss = torch.stack(
            [found[name] * (weight * share / counts[name]) for name, share in shares]
        ).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return found


def _dropout_seed(seed: int, number: int, part: int) -> int:
    """Of one part's forward pass, so that no generator's state needs to be kept."""
    digest = hashlib.sha256(f"{seed}/{number}/{part}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _diverged(step: int, loss: float, norm: float, batches: Sequence[Batch]) -> str:
    rows = [row for batch in batches for row in batch.rows]
    return (
        f"step {step + 1}: loss {loss}, gradient norm {norm}, expected finite numbers; the weights "
        f"were not changed by it; its rows are {rows}: lower optimise.learning_rate or "
        "optimise.clip, or look at these rows"
    )
