"""Matrices and their gradients in; matrices moved by the nearest orthogonal ones out.

`torch.optim.Muon` multiplies in bf16 on every machine. On a CPU without bf16 arithmetic that took
440 ms a step for a model of 1.5 M parameters, where AdamW takes 3; so a CPU computes in fp32 here.

Source: Jordan 2024, "Muon: An optimizer for hidden layers in neural networks".
"""

from collections.abc import Sequence
from typing import Any

import torch

# Of the quintic Newton-Schulz iteration and its number of steps: Jordan 2024.
A, B, C, STEPS = 3.4445, -4.7750, 2.0315, 5
EPSILON = 1e-7
# An update's root mean square is made that of AdamW's: Liu et al. 2025, equation 4.
SIZE = 0.2


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal, with decoupled weight decay."""

    def __init__(
        self, matrices: Sequence[torch.nn.Parameter], rate: float, momentum: float, decay: float
    ) -> None:
        defaults = {"lr": rate, "momentum": momentum, "weight_decay": decay}
        super().__init__(matrices, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move the matrices by their gradients."""
        assert closure is None
        for group in self.param_groups:
            for matrix in group["params"]:
                self._move(matrix, group["lr"], group["momentum"], group["weight_decay"])

    def _move(self, matrix: torch.nn.Parameter, rate: float, momentum: float, decay: float) -> None:
        assert matrix.grad is not None
        kept = self.state[matrix]
        if not kept:
            kept["momentum_buffer"] = torch.zeros_like(matrix)
        mean = kept["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
        update = orthogonal(matrix.grad.lerp(mean, momentum))
        matrix.mul_(1 - rate * decay)
        matrix.add_(update, alpha=-rate * SIZE * max(matrix.shape) ** 0.5)


def orthogonal(matrix_MN: torch.Tensor) -> torch.Tensor:
    """About `U V'` of the matrix's singular value decomposition `U S V'` (M, N).

    Singular values come out between .7 and 1.2, which serves as well as 1.
    """
    wide = matrix_MN.bfloat16() if matrix_MN.is_cuda else matrix_MN
    tall = len(wide) > wide.shape[1]
    wide = wide.T if tall else wide
    wide = wide / wide.norm().clamp(min=EPSILON)
    for _ in range(STEPS):
        gram = wide @ wide.T
        wide = A * wide + (B * gram + C * gram @ gram) @ wide
    found: torch.Tensor = (wide.T if tall else wide).to(matrix_MN.dtype)
    return found
