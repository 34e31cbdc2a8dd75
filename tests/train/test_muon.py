"""Muon against torch's own, which computes in bf16, and against the decomposition it stands for."""

import pytest
import torch
from torch import nn

from pipelines.train.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(6, 8), (8, 6), (5, 5)])
def test_singular_values_become_about_one_and_their_vectors_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    found = orthogonal(matrix)
    values = torch.linalg.svdvals(found)
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.allclose(left.T @ found @ right.T, torch.diag(values[: min(shape)]), atol=0.5)
    exact = (left @ right).flatten()
    assert float(nn.functional.cosine_similarity(found.flatten(), exact, dim=0)) > 0.97


@pytest.mark.parametrize("shape", [(16, 24), (24, 16)])
def test_steps_are_torchs_up_to_its_bf16(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    ours, theirs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    mine = Muon([ours], 0.01, 0.95, 0.1)
    other = torch.optim.Muon(
        [theirs], lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(4):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        mine.step()
        other.step()
    moved, expected = ((weight.detach() - 1).flatten() for weight in (ours, theirs))
    # bf16 has 3 digits, and the iteration magnifies what is lost of small singular values.
    assert float(nn.functional.cosine_similarity(moved, expected, dim=0)) > 0.999
    assert float(moved.norm()) == pytest.approx(float(expected.norm()), rel=0.02)


def test_an_update_is_of_adamws_size() -> None:
    torch.manual_seed(2)
    weight = nn.Parameter(torch.zeros(32, 64))
    weight.grad = torch.randn(32, 64)
    Muon([weight], 1.0, 0.95, 0.0).step()
    # An orthogonal (32, 64) has a root mean square of 1 / sqrt(64), which is scaled by .2 sqrt(64).
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.2, rel=0.2)


def test_no_gradient_moves_nothing_but_by_decay() -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.zeros(4, 4)
    Muon([weight], 0.1, 0.95, 0.5).step()
    assert torch.allclose(weight, torch.full((4, 4), 0.95))
