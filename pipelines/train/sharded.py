"""A model whose weights, gradients and moments are shared out among the processes (FSDP2).

Each transformer block, and what is outside of them, gathers its weights before it runs and lets
them go after; gradients are added up and shared out as they come. Source: Rajbhandari et al. 2020,
section 5.3 (ZeRO, stage 3); Zhao et al. 2023.

With parts and processes as in `loop.py`, sums have the same terms as in `Replicated`: with two
parts, one process and two learn the same bits. Three things make sure of it. Matrices are cut
between rows, and the gradient's norm is added up row by row. Vectors, a thousandth of the weights,
are not cut: fused AdamW rounds the last few numbers of a tensor otherwise than the rest, so it must
see the same ends. And what no process learns from counts as zero, as where nothing is shared out.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers.modeling_layers import GradientCheckpointingLayer

from pipelines.core.artifact import Workspace
from pipelines.tasks.protocol import Batch, Sums
from pipelines.train import sharded_state, state
from pipelines.train.optimizers import Optimizer
from pipelines.train.team import NONE, Gradients, Team, first_found, same_found


def blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The repeated layers: what transformers can compute anew on the way back."""
    return [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]


class _Whole(torch.nn.Module):
    """The model and what is asked of it as one module, whose forward gathers and lets go.

    Tasks call parts of a model, such as its encoder and then its head on some positions alone;
    FSDP knows only calls of the module that it was given.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, sums: Sums, batch: Batch) -> dict[str, torch.Tensor]:
        return sums(self.model, batch)


class Sharded:
    """Every process holds its share of each matrix's rows; alone, all of them."""

    def __init__(self, model: torch.nn.Module, team: Team) -> None:
        self._model, self._team, self._whole = model, team, _Whole(model)
        self._begin: dict[str, int] = {}  # where each tensor's rows begin among those of all
        self._count = 0
        for name, parameter in model.named_parameters():
            self._begin[name], self._count = self._count, self._count + len(parameter)
        vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
        self._vectors = Gradients(torch.nn.ParameterList(vectors))
        if team.size == 1:
            return
        # Checkpoints are written beside the steps, so they have a group of their own.
        self._group = distributed.new_group(backend="gloo")
        self._mesh = DeviceMesh.from_group(self._group, "cpu")
        mesh = init_device_mesh(team.device.type, (team.size,))
        for module in (*blocks(model), self._whole):
            layer = fully_shard(module, mesh=mesh, ignored_params=set(vectors))
            layer.set_gradient_divide_factor(1.0)  # a sum, as its counts are of the whole batch
            layer.set_force_sum_reduction_for_comms(True)

    def turns(self, sizes: Sequence[int]) -> Iterator[tuple[int, float]]:
        """Parts r, r + W, ... of process r of W, and in place of one without rows another's."""
        full = [part for part, rows in enumerate(sizes) if rows]
        for first in range(0, len(sizes), self._team.size):
            theirs = range(first, first + self._team.size)
            if not set(theirs) & set(full):
                continue
            part = theirs[self._team.rank]
            yield (part, 1.0) if part in full else (full[0], 0.0)

    def sums(self, sums: Sums, batch: Batch) -> dict[str, torch.Tensor]:
        """A task's `sums` of the model; every process must call it as often."""
        found: dict[str, torch.Tensor] = self._whole(sums, batch)
        if not torch.is_grad_enabled() and isinstance(self._whole, FSDPModule):
            self._whole.reshard()  # as no backward pass will
        return found

    def clear(self) -> None:
        """Forget the gradients of the step before."""
        self._vectors.flat.zero_()
        for parameter in self._model.parameters():
            if parameter.ndim > 1:
                parameter.grad = None

    def add_up(self) -> None:
        """Add the vectors' up, as the matrices' were as they came; what has none gets zeros."""
        self._team.add(self._vectors.flat)
        for parameter in self._model.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def clip(self, largest: float) -> float:
        """Scale the gradients to norm `largest` where it is above; returns the norm before.

        A row's squares are added up in fp64 by the process that has it, and all rows in one order.
        """
        squares_R = torch.zeros(self._count, dtype=torch.float64, device=self._team.device)
        gradients = []
        for name, parameter in self._model.named_parameters():
            gradient, first = _local(parameter.grad), self._first(parameter)
            gradients.append(gradient)
            if isinstance(parameter, DTensor) or not self._team.rank:
                begin = self._begin[name] + first
                squares = gradient.double().square()
                wide = math.prod(gradient.shape[1:])
                squares_R[begin : begin + len(gradient)] = squares.view(-1, wide).sum(1)
        self._team.add(squares_R)
        norm = float(squares_R.sum().sqrt())
        if largest < norm < math.inf:
            for gradient in gradients:
                gradient.mul_(largest / norm)
        return norm

    def capture(self, optimizer: Optimizer) -> dict[str, torch.Tensor]:
        """Copies on the CPU of this process's share of weights and moments."""
        tensors = state.tensors_of(self._model, optimizer)
        return {name: self._copied(tensor) for name, tensor in tensors.items()}

    def write(self, out: Workspace, checkpoint: state.Checkpoint) -> None:
        """Commit a checkpoint: each process writes its share, and process 0 what proves all."""
        folder = state.folder_of(checkpoint.batch)
        with state.whole_or_none(out, checkpoint):
            files = sharded_state.save(checkpoint.tensors, out, folder, self._process_group)
        if not self._team.rank:
            state.write(out, replace(checkpoint, tensors={}), files)

    def resume(
        self, out: Workspace, optimizer: Optimizer, batch: int | None = None
    ) -> state.Checkpoint:
        """Take up the newest whole checkpoint that process 0 finds; that of step 0 if none is."""
        found = self._team.done(partial(first_found, self._team, out, batch))
        agreed = self._team.agreed(NONE if found == state.Checkpoint() else found.batch)
        if agreed == NONE:
            return found
        found = self._team.done(partial(same_found, self._team, out, agreed, found))
        folder = state.folder_of(agreed)
        like, hashes = dict(self._model.named_parameters()), state.hashes_of(out, folder)
        tensors = sharded_state.load(like, out, folder, hashes, self._process_group)
        state.restore(self._model, optimizer, replace(found, tensors=tensors))
        return found

    def weights(self) -> dict[str, torch.Tensor]:
        """Copies on the CPU of the whole weights, in process 0; nothing in others."""
        found = {}
        for name, parameter in self._model.named_parameters():
            whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
            if not self._team.rank:
                found[name] = state.copied(whole)
        return found

    def gather(self) -> None:
        """Put the whole weights into every process's model, after the last step."""
        for module in self._whole.modules():
            if isinstance(module, FSDPModule):
                module.unshard()
        for parameter in self._model.parameters():
            parameter.data = parameter.data.clone()  # out of the buffers that they came in

    @property
    def _process_group(self) -> distributed.ProcessGroup | None:
        return None if self._team.size == 1 else self._group

    def _first(self, parameter: torch.Tensor) -> int:
        """The first of its rows that this process has; cut as `torch.chunk` does."""
        if not isinstance(parameter, DTensor):
            return 0
        return min(len(parameter), self._team.rank * -(-len(parameter) // self._team.size))

    def _copied(self, tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, DTensor):
            return state.copied(tensor)
        return DTensor.from_local(
            state.copied(tensor.to_local()),
            self._mesh,
            tensor.placements,
            shape=tensor.shape,
            stride=tensor.stride(),
            run_check=False,
        )


def _local(tensor: Any) -> torch.Tensor:
    """This process's rows of a tensor, without copying them."""
    found: torch.Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return found
