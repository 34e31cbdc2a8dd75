"""A model's parameters and settings in; the optimizer that moves them out.

With Muon there are two in one, for it is defined for matrices alone: embeddings, heads and vectors
are AdamW's. Muon's updates are scaled to AdamW's size, so one learning rate and one weight decay
serve both (Liu et al. 2025, section 2.2).
"""

from collections.abc import Sequence
from typing import Any, Protocol, assert_never

import torch
from torch import nn

from pipelines.train.config import AdamW, Muon, Optimise
from pipelines.train.muon import Muon as MatrixMuon

EPSILON = 1e-8  # AdamW's; Kingma and Ba 2015, algorithm 1


class Optimizer(Protocol):
    """What training asks of one: torch's own, or several as one."""

    state: Any  # entries by parameter
    param_groups: list[dict[str, Any]]

    def step(self) -> Any:
        """Move the weights by their gradients."""


class Together:
    """Optimizers of different parameters as one, with one table of state."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.state: Any = parts[0].state
        for part in parts[1:]:
            part.state = self.state  # each finds its own parameters' entries in it
        self.param_groups = [group for part in parts for group in part.param_groups]
        self._parts = parts

    def step(self) -> None:
        """Move the weights by their gradients."""
        for part in self._parts:
            part.step()


def open_optimizer(model: nn.Module, optimise: Optimise) -> Optimizer:
    """The one that `optimise.optimizer` names, over every parameter of `model`."""
    parameters = list(model.parameters())
    match optimise.optimizer:
        case AdamW(beta1=beta1, beta2=beta2):
            return _adamw(parameters, optimise, (beta1, beta2))
        case Muon(momentum=momentum, beta1=beta1, beta2=beta2):
            matrices = hidden_matrices(model)
            rate, decay = optimise.learning_rate, optimise.weight_decay
            muon = MatrixMuon(matrices, rate, momentum, decay)
            taken = {id(matrix) for matrix in matrices}
            others = [parameter for parameter in parameters if id(parameter) not in taken]
            return Together([muon, _adamw(others, optimise, (beta1, beta2))])
        case other:
            assert_never(other)


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The matrices of the repeated blocks: no embeddings and no heads, which Muon does not suit.

    Source: Jordan 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    modules = list(model.modules())
    tables = {id(module.weight) for module in modules if isinstance(module, nn.Embedding)}
    found = {
        id(parameter): parameter
        for block in modules
        if isinstance(block, nn.ModuleList)
        for parameter in block.parameters()
        if parameter.ndim == 2 and id(parameter) not in tables
    }
    return list(found.values())


def _adamw(
    parameters: Sequence[nn.Parameter], optimise: Optimise, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """Fused AdamW that decays matrices, and neither biases nor norms."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": optimise.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=optimise.learning_rate, betas=betas, eps=EPSILON, fused=True
    )
