"""A batch's number in; the gradients of that batch and its figures out: one process's side of it.

A batch is cut in `optimise.shards` parts whatever the number of processes. Each makes its own parts
and learns from them; counts are added up before, gradients and figures after.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from pipelines.core.errors import DataError
from pipelines.tasks.protocol import Batch, Sums, Task
from pipelines.train.ahead import Ahead, Turn
from pipelines.train.config import Optimise
from pipelines.train.optimizers import Optimizer
from pipelines.train.team import Parallel, Team
from pipelines.train.throughput import Meter, Work


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
        sums: Sums,
        ahead: Ahead,
        optimise: Optimise,
        dtype: torch.dtype,
        team: Team,
        parallel: Parallel,
        meter: Meter,
    ) -> None:
        self._task, self._sums, self._ahead = task, sums, ahead
        self._optimise, self._dtype = optimise, dtype
        self.team, self.parallel, self.meter = team, parallel, meter
        nothing = task.batch(np.empty(0, np.int64), 0)
        self._names = sorted(nothing.counts)

    def take(self, number: int, step: int, flags: Sequence[bool]) -> Taken:
        """Make the gradients of batch `number` for step `step` (both from 0).

        `flags` travel with the sums, so that all processes know of them after the same step.

        Raises:
            DataError: the loss or a gradient is not finite; names the step and the rows.
        """
        with self.meter.waiting():
            share = self._ahead.take(number, more=step + 1 < self._optimise.steps)
        counts, work = self._totals(share.turns)
        figures, found = self._added_up(number, share.turns, counts, flags)
        norm = self.parallel.clip(self._optimise.clip)
        if not (math.isfinite(figures["loss"]) and math.isfinite(norm)):
            raise DataError(_diverged(step, figures["loss"], norm, share.rows))
        self.meter.count(work)
        return Taken(figures, norm, round(work.tokens), found)

    def move(self, optimizer: Optimizer, rate: float) -> None:
        """Change the weights by the gradients, at learning rate `rate`."""
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()

    def _totals(self, turns: Sequence[Turn]) -> tuple[dict[str, int], Work]:
        """Over how many items each figure is summed, and the work, of all processes."""
        own = [turn.batch for turn in turns if turn.weight]
        counts = [sum(batch.counts[name] for batch in own) for name in self._names]
        work = self.meter.work(own)
        # Whole numbers up to 2^53 are exact in fp64, in any order.
        numbers = [*counts, work.tokens, work.places, work.flops]
        totals = torch.tensor(numbers, dtype=torch.float64, device=self.team.device)
        self.team.add(totals)
        *found, tokens, places, flops = totals.tolist()
        return (
            {name: max(1, round(count)) for name, count in zip(self._names, found, strict=True)},
            Work(tokens, places, flops),
        )

    def _added_up(
        self, number: int, turns: Sequence[Turn], counts: dict[str, int], flags: Sequence[bool]
    ) -> tuple[dict[str, float], tuple[bool, ...]]:
        """The loss and figures of the whole batch, whose gradients the parameters then have."""
        self.parallel.clear()
        sums = torch.zeros(len(counts), device=self.team.device)
        for turn in turns:
            self._seed(_dropout_seed(self._optimise.seed, number, turn.part))
            found = self._backward(turn.batch, counts, turn.weight)
            sums += turn.weight * torch.stack([found[name].detach() for name in counts])
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
            found = self.parallel.sums(self._sums, replace(batch, tensors=tensors))
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


def _diverged(step: int, loss: float, norm: float, rows: Sequence[int]) -> str:
    return (
        f"step {step + 1}: loss {loss}, gradient norm {norm}, expected finite numbers; the weights "
        f"were not changed by it; its rows are {rows}: lower optimise.learning_rate or "
        "optimise.clip, or look at these rows"
    )
