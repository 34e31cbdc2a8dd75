"""Which parameter is moved by what."""

import pytest
import torch
from torch import nn

from pipelines.model.build import Vocabulary, build
from pipelines.model.config import ModelConfig
from pipelines.train.config import Optimise
from pipelines.train.optimizers import hidden_matrices, open_optimizer

SHAPES = {
    "bert": ModelConfig(layers=2, width=16, heads=2, feedforward=32, max_length=32),
    "llama": ModelConfig(architecture="llama", layers=2, width=16, heads=2, feedforward=32),
    "t5": ModelConfig(architecture="t5", layers=2, width=16, heads=2, feedforward=32),
}
# Each block's matrices: queries, keys, values, output; two or three of the MLP; T5's decoder has
# attention to the source too.
MATRICES = {"bert": 2 * 6, "llama": 2 * 7, "t5": 2 * 7 + 2 * 11}
MUON = Optimise.model_validate({"steps": 1, "weight_decay": 0.1, "optimizer": {"kind": "muon"}})


def model_of(name: str) -> nn.Module:
    return build(SHAPES[name], Vocabulary(50, 0, 1, 2, 3), None, 0)


def test_biases_and_norms_do_not_decay() -> None:
    groups = open_optimizer(nn.Linear(3, 2), Optimise(steps=1)).param_groups
    decayed = [[p.ndim for p in group["params"]] for group in groups]
    assert (decayed, [group["weight_decay"] for group in groups]) == ([[2], [1]], [0.01, 0.0])


@pytest.mark.parametrize("name", SHAPES)
def test_muon_takes_the_blocks_matrices_and_nothing_else(name: str) -> None:
    model = model_of(name)
    names = {id(p): n for n, p in model.named_parameters()}
    taken = [names[id(matrix)] for matrix in hidden_matrices(model)]
    assert len(taken) == MATRICES[name]
    assert not [n for n in taken if "embed" in n or "cls" in n or "bias" in n or "lm_head" in n]


@pytest.mark.parametrize("name", SHAPES)
def test_every_parameter_is_moved_by_exactly_one_of_the_two(name: str) -> None:
    model = model_of(name)
    moved = [id(p) for group in open_optimizer(model, MUON).param_groups for p in group["params"]]
    assert sorted(moved) == sorted(id(p) for p in model.parameters())


def test_both_move_at_the_rate_that_is_set() -> None:
    model = model_of("bert")
    optimizer = open_optimizer(model, MUON)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()
    assert not any(torch.equal(before[name], p) for name, p in model.named_parameters())
