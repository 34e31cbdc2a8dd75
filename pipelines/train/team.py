"""The processes that learn together: who they are, and how the weights lie among them.

`Parallel` is what the loop asks of either way: `Replicated`, where every process holds all weights,
and `Sharded` (in `sharded.py`), where each holds its share.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import distributed

from pipelines.core.artifact import Workspace
from pipelines.tasks.protocol import Batch, Sums
from pipelines.train import state
from pipelines.train.optimizers import Optimizer

Answer = TypeVar("Answer")
SIGN_S = 1.0  # seconds between signs of life
NONE = -1  # in place of a checkpoint's batch, where there is no checkpoint


class Team:
    """The processes that learn together; alone where there is no torch process group."""

    def __init__(self) -> None:
        alone = not (distributed.is_available() and distributed.is_initialized())
        self.rank = 0 if alone else distributed.get_rank()
        self.size = 1 if alone else distributed.get_world_size()
        self.device = torch.device("cpu")
        if torch.cuda.is_available() and (alone or distributed.get_backend() == "nccl"):
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))

    def add(self, tensor: torch.Tensor) -> None:
        """Replace `tensor` by its sum over all processes."""
        if self.size > 1:
            distributed.all_reduce(tensor)

    def done(self, job: Callable[[], Answer]) -> Answer:
        """What this process's `job` returns, once all have done theirs, however long one takes.

        A process that waits for another gives it up after minutes; so all tell each other often
        that they are still there.
        """
        if self.size == 1:
            return job()
        with ThreadPoolExecutor(1, "job") as pool:
            mine = pool.submit(job)
            while True:
                wait([mine], timeout=SIGN_S)
                left = torch.tensor([0.0 if mine.done() else 1.0], device=self.device)
                self.add(left)
                if not left.item():
                    return mine.result()

    def any(self, flag: bool) -> bool:
        """Whether it is set in any process."""
        found = torch.tensor([float(flag)], device=self.device)
        self.add(found)
        return bool(found)

    def agreed(self, step: int) -> int:
        """The `step` of process 0, in every process."""
        found = torch.tensor([0 if self.rank else step], device=self.device)
        self.add(found)
        return int(found)


class Parallel(Protocol):
    """The weights, gradients and checkpoints of one model among the processes that learn it.

    Every process calls the same methods in the same order. The optimizer is made of the model's
    parameters after this object was.
    """

    def turns(self, sizes: Sequence[int]) -> Iterator[tuple[int, float]]:
        """Of parts of so many rows, those that this process learns from, each with its weight.

        A weight of 0 is of a part that is another's: it keeps processes that wait for one another
        in step, and must change neither sums nor gradients.
        """

    def sums(self, sums: Sums, batch: Batch) -> dict[str, torch.Tensor]:
        """A task's `sums` of the model."""

    def clear(self) -> None:
        """Forget the gradients of the step before."""

    def add_up(self) -> None:
        """Make the gradients the sums over all processes."""

    def clip(self, largest: float) -> float:
        """Scale the gradients to norm `largest` where it is above; returns the norm before."""

    def capture(self, optimizer: Optimizer) -> dict[str, torch.Tensor]:
        """Copies on the CPU of every tensor of this process that the next step depends on."""

    def write(self, out: Workspace, checkpoint: state.Checkpoint) -> None:
        """Commit a checkpoint of captured tensors; may run in a thread beside the steps."""

    def resume(
        self, out: Workspace, optimizer: Optimizer, batch: int | None = None
    ) -> state.Checkpoint:
        """Take up the newest whole checkpoint that process 0 finds; that of step 0 if none is.

        With `batch`, take up the one after so many batches. Each process finding its own, one that
        a file system shows an older listing would go on from other weights than its peers, and
        nobody would notice.

        Raises:
            ArtifactError: a process cannot read it, or it is of another model.
        """

    def weights(self) -> dict[str, torch.Tensor]:
        """Copies on the CPU of the whole weights, in process 0; nothing in others."""

    def gather(self) -> None:
        """Put the whole weights into every process's model, after the last step."""


class Replicated:
    """Every process holds all weights, and gradients are added up once a step.

    DistributedDataParallel would want every loss computed inside one `forward`, and divides by the
    number of processes, which rounds when that is no power of two.
    """

    def __init__(self, model: torch.nn.Module, team: Team) -> None:
        self._model, self._team = model, team
        self._gradients = Gradients(model)

    def turns(self, sizes: Sequence[int]) -> Iterator[tuple[int, float]]:
        """Parts r, r + W, ... of process r of W, less those without rows."""
        for part in range(self._team.rank, len(sizes), self._team.size):
            if sizes[part]:
                yield part, 1.0

    def sums(self, sums: Sums, batch: Batch) -> dict[str, torch.Tensor]:
        """A task's `sums` of the model."""
        return sums(self._model, batch)

    def clear(self) -> None:
        """Forget the gradients of the step before."""
        self._gradients.flat.zero_()

    def add_up(self) -> None:
        """Make the gradients the sums over all processes, in one call."""
        self._team.add(self._gradients.flat)

    def clip(self, largest: float) -> float:
        """Scale the gradients to norm `largest` where it is above; returns the norm before."""
        return self._gradients.clip(largest)

    def capture(self, optimizer: Optimizer) -> dict[str, torch.Tensor]:
        """Copies of weights and moments in process 0, which writes for all; nothing in others."""
        if self._team.rank:
            return {}
        return state.capture(self._model, optimizer)

    def write(self, out: Workspace, checkpoint: state.Checkpoint) -> None:
        """Commit a checkpoint, in process 0."""
        if not self._team.rank:
            state.write(out, checkpoint)

    def resume(
        self, out: Workspace, optimizer: Optimizer, batch: int | None = None
    ) -> state.Checkpoint:
        """Take up the newest whole checkpoint that process 0 finds; that of step 0 if none is."""
        found = self._team.done(partial(first_found, self._team, out, batch))
        agreed = self._team.agreed(found.batch if found.tensors else NONE)
        if agreed != NONE:
            found = self._team.done(partial(same_found, self._team, out, agreed, found))
            state.restore(self._model, optimizer, found)
        return found

    def weights(self) -> dict[str, torch.Tensor]:
        """Copies on the CPU of the weights, in process 0; nothing in others."""
        named = [] if self._team.rank else self._model.named_parameters()
        return {name: state.copied(parameter) for name, parameter in named}

    def gather(self) -> None:
        """Nothing to do: every process has them."""


def first_found(team: Team, out: Workspace, batch: int | None) -> state.Checkpoint:
    """In process 0 the newest whole checkpoint, or that after `batch`; the empty one in others."""
    if team.rank:
        return state.Checkpoint()
    return state.newest_verified(out) if batch is None else state.at(out, batch)


def same_found(
    team: Team, out: Workspace, agreed: int, found: state.Checkpoint
) -> state.Checkpoint:
    """The checkpoint after `agreed` batches, which process 0 has `found`."""
    return state.at(out, agreed) if team.rank else found


class Gradients:
    """All gradients of a model in one flat tensor, so that one call adds them up."""

    def __init__(self, model: torch.nn.Module) -> None:
        parameters = list(model.parameters())
        sizes = [parameter.numel() for parameter in parameters]
        self.flat = torch.zeros(sum(sizes), device=parameters[0].device)
        for parameter, piece in zip(parameters, torch.split(self.flat, sizes), strict=True):
            parameter.grad = piece.view_as(parameter)

    def clip(self, largest: float) -> float:
        """Scale down to norm `largest` where it is above; returns the norm before."""
        norm = float(torch.linalg.vector_norm(self.flat))
        if largest < norm < math.inf:
            self.flat.mul_(largest / norm)
        return norm
