"""The processes that learn together: who they are, and what they add up."""

import math
import os

import torch
from torch import distributed


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


class Gradients:
    """All gradients of a model in one flat tensor, so that one call adds them up among processes.

    DistributedDataParallel would want every loss computed inside one `forward`, and divides by the
    number of processes, which rounds when that is no power of two.
    """

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
