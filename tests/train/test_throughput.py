"""FLOPs against torch's own counter and against the count by shape; what is work."""

import time
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipelines.model.build import Vocabulary, build
from pipelines.model.config import ModelConfig
from pipelines.model.count import flops_per_token
from pipelines.tasks.protocol import Batch
from pipelines.train import throughput

VOCABULARY = Vocabulary(300, 0, bos_id=1, eos_id=2)
ROWS, LENGTH, TARGETS = 4, 160, 24  # longer than ModernBERT's window of 129
SHAPES = {
    "bert": ModelConfig(layers=3, width=32, heads=2, feedforward=128, max_length=LENGTH),
    "modernbert": ModelConfig(
        architecture="modernbert", layers=3, width=32, heads=2, feedforward=48, max_length=LENGTH
    ),
    "llama": ModelConfig(
        architecture="llama", layers=3, width=32, heads=4, kv_heads=2, feedforward=96
    ),
    "qwen3": ModelConfig(
        architecture="qwen3", layers=2, width=32, heads=4, head_width=16, feedforward=96
    ),
    "t5": ModelConfig(architecture="t5", layers=2, width=32, heads=4, head_width=4, feedforward=64),
    "bart": ModelConfig(
        architecture="bart", layers=2, width=32, heads=4, feedforward=64, max_length=LENGTH
    ),
}


def model_of(shape: ModelConfig) -> Any:
    return build(shape, VOCABULARY, None, 0)


def batch_of(shape: ModelConfig, predicted: int) -> Batch:
    tensors = {"input_ids": torch.ones(ROWS, LENGTH, dtype=torch.long)}
    if shape.family == "encoder-decoder":
        tensors["labels"] = torch.ones(ROWS, TARGETS, dtype=torch.long)
    return Batch(tensors, {}, tuple(range(ROWS)), ROWS * LENGTH, predicted)


@pytest.mark.parametrize("name", SHAPES)
def test_flops_told_from_the_model_are_those_told_from_its_shape(name: str) -> None:
    shape = SHAPES[name]
    both = shape.family == "encoder-decoder"
    predicted = ROWS * TARGETS if both else 100
    found = throughput.costs(model_of(shape)).flops(batch_of(shape, predicted))
    expected = flops_per_token(
        shape,
        VOCABULARY.size,
        LENGTH,
        predicted / (ROWS * LENGTH),
        TARGETS / LENGTH if both else 0.0,
        TARGETS if both else 0.0,
    )
    assert found == pytest.approx(ROWS * LENGTH * expected, rel=1e-12)


@pytest.mark.parametrize("name", ["bert", "llama", "t5", "bart"])
def test_flops_agree_with_those_torch_counts(name: str) -> None:
    shape = SHAPES[name]
    model = model_of(shape)
    model.set_attn_implementation("eager")
    ids = torch.randint(5, 300, (ROWS, LENGTH))
    given = {"input_ids": ids}
    predicted = ROWS * LENGTH
    if shape.family == "encoder-decoder":
        given["labels"] = torch.randint(5, 300, (ROWS, TARGETS))
        predicted = ROWS * TARGETS
    with FlopCounterMode(display=False) as counter:
        found = model(**given)
        (found.prediction_logits if name == "bert" else found.logits).sum().backward()
    counted = counter.get_total_flops()
    # Torch counts BERT's pooler and T5's biases too, once a row or a batch.
    expected = throughput.costs(model).flops(batch_of(shape, predicted))
    assert expected == pytest.approx(counted, rel=0.02)


def test_padding_is_not_work() -> None:
    costs = throughput.costs(model_of(SHAPES["bert"]))
    whole = Batch({"input_ids": torch.ones(1, 20)}, {}, (0,), 20)
    mask = torch.tensor([[1] * 20 + [0] * 44])
    padded = Batch({"input_ids": torch.ones(1, 64), "attention_mask": mask}, {}, (0,), 20)
    assert costs.flops(padded) == costs.flops(whole)


def test_what_lies_in_another_document_is_not_work() -> None:
    costs = throughput.costs(model_of(SHAPES["llama"]))
    places = torch.tensor([[*range(12), *range(8)]])
    packed = Batch(
        {"input_ids": torch.ones(1, 20), "position_ids": places}, {}, (0,), 20, predicted=18
    )
    apart = [
        Batch({"input_ids": torch.ones(1, size)}, {}, (0,), size, predicted=size - 1)
        for size in (12, 8)
    ]
    assert costs.flops(packed) == pytest.approx(sum(map(costs.flops, apart)))


def test_auto_takes_bf16_only_where_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert throughput.precision("auto", cpu) is torch.float32
    assert throughput.precision("bf16", cpu) is torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert throughput.precision("auto", cpu) is torch.bfloat16
    assert throughput.precision("fp32", cpu) is torch.float32


def test_rates_count_what_was_done_and_the_share_of_the_highest_peak_measured() -> None:
    model = model_of(SHAPES["bert"])
    meter = throughput.Meter(model, 2e9)
    assert meter.read() == {}  # no step, no rate
    mask = torch.tensor([[1] * 20 + [0] * 44])
    batch = Batch({"input_ids": torch.ones(1, 64), "attention_mask": mask}, {}, (0,), 20)
    with meter.waiting():
        time.sleep(0.01)
    meter.count(meter.work([batch]))
    first = meter.read()
    assert first["tokens_per_s"] == pytest.approx(64 / first["seconds"])
    assert first["useful_tokens_per_s"] == pytest.approx(20 / first["seconds"])
    flops = throughput.costs(model).flops(batch)
    assert first["flops_per_s"] == pytest.approx(flops / first["seconds"])
    assert first["mfu"] == pytest.approx(flops / first["seconds"] / 2e9)
    assert 0.01 <= first["loader_wait"] * first["seconds"] <= first["seconds"]
    meter.raise_peak(4e9)
    assert meter.read() == first | {"mfu": first["mfu"] / 2}  # and time stood still since the step
    meter.raise_peak(1e9)
    assert meter.read()["mfu"] == first["mfu"] / 2


def test_the_peak_is_above_what_any_core_does_and_below_what_none_does() -> None:
    assert 1e8 < throughput.peak_flops(torch.device("cpu"), torch.float32, 0.1) < 1e13
