"""A model of one weight and tasks of plain numbers, whose every gradient is known by hand."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import BertConfig

from pipelines.tasks.protocol import Batch
from tests.tasks.by_step import ByStep


class Weight(torch.nn.Module):
    """One weight, which starts at 5; the loop also asks of what transformers models have."""

    def __init__(self, first: float = 5.0) -> None:
        super().__init__()
        self.config = BertConfig(
            vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1
        )
        self.weight = torch.nn.Parameter(torch.tensor([[first]]))

    @property
    def base_model(self) -> "Weight":
        return self

    def set_attn_implementation(self, name: str) -> None:
        """It has no attention to set."""


class Distance(ByStep):
    """Rows are numbers x, the loss is (weight - x)^2; `value(batch)` gives the x of a batch."""

    objectives: Mapping[str, float] = {"distance": 1.0}

    def __init__(self, value: Callable[[int], float]) -> None:
        self._value = value
        self.asked: list[int] = []

    def parts(self, step: int) -> list[Batch]:
        self.asked.append(step)
        x = torch.full((1, 1), self._value(step))
        return [Batch({"input_ids": x}, {"distance": 1}, (step,), 1)]

    def sums(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        return {"distance": ((model.weight - batch.tensors["input_ids"]) ** 2).sum()}
