"""FLOPs against torch's own counter, and the precision that hardware allows."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForPreTraining

from pipelines.tasks.protocol import Batch
from pipelines.train import throughput


def test_flops_agree_with_those_torch_counts() -> None:
    config = BertConfig(
        vocab_size=500,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=128,
        hidden_dropout_prob=0,
        attention_probs_dropout_prob=0,
    )
    config._attn_implementation = "eager"
    model = BertForPreTraining(config)
    ids = torch.randint(0, 500, (4, 64))
    with FlopCounterMode(display=False) as counter:
        hidden = model.bert(input_ids=ids).last_hidden_state
        model.cls.predictions(hidden.flatten(0, 1)[:40]).sum().backward()
    batch = Batch({}, {}, rows=(0, 1, 2, 3), tokens=4 * 64, predicted=40)
    counted = counter.get_total_flops()
    # Torch's count lacks the embeddings' gradient products and has no pooler here.
    assert throughput.model_flops(config, batch) == pytest.approx(counted, rel=0.02)


def test_padding_is_not_work() -> None:
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    config.intermediate_size = 16
    batch = Batch({"input_ids": torch.zeros(2, 64)}, {}, rows=(0, 1), tokens=20)
    # A token: 4 * 8 * 8 + 2 * 8 * 16 weights, and 2 * 8 products with each of 10 tokens.
    assert throughput.model_flops(config, batch) == 6 * 20 * (512 + 160)


def test_auto_takes_bf16_only_where_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert throughput.precision("auto", cpu) is torch.float32
    assert throughput.precision("bf16", cpu) is torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert throughput.precision("auto", cpu) is torch.bfloat16
    assert throughput.precision("fp32", cpu) is torch.float32


def test_the_share_of_the_peak_is_of_the_highest_one_measured() -> None:
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    meter = throughput.Meter(config, 2e9)
    assert meter.read() == {}  # no step, no rate
    meter.count([Batch({}, {}, rows=(0,), tokens=20)])
    first = meter.read()
    assert first["tokens_per_s"] == pytest.approx(20 / first["seconds"])
    meter.raise_peak(4e9)
    assert meter.read() == first | {"mfu": first["mfu"] / 2}  # and time stood still since the step
    meter.raise_peak(1e9)
    assert meter.read()["mfu"] == first["mfu"] / 2


def test_the_peak_is_above_what_any_core_does_and_below_what_none_does() -> None:
    assert 1e8 < throughput.peak_flops(torch.device("cpu"), torch.float32, 0.1) < 1e13
