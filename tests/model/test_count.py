"""Parameters and arithmetic counted from a shape are those of the model that is built from it."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as some
from torch.utils.flop_counter import FlopCounterMode

from pipelines.model.build import Vocabulary, build
from pipelines.model.config import FAMILIES, ModelConfig
from pipelines.model.count import flops_per_token, parameters

SMALL = {"layers": 3, "width": 48, "heads": 4, "feedforward": 40, "max_length": 24}
SHAPES = [
    *(f"{name}-nano" for name in ("bert", "modernbert", "llama", "qwen3", "t5", "bart")),
    *(SMALL | {"architecture": name} for name in ("bert", "modernbert", "llama", "t5", "bart")),
    SMALL | {"architecture": "llama", "kv_heads": 2, "tied": False},
    SMALL | {"architecture": "qwen3", "kv_heads": 1, "head_width": 20},
    SMALL | {"architecture": "t5", "head_width": 10},
]
# Entries of the vocabulary, and the parameters that the authors' own checkpoint has.
PUBLISHED = [
    ("bert-base", 30522, 110_106_428),
    ("bert-large", 30522, 336_226_108),
    ("modernbert-base", 50368, 149_655_232),
    ("llama-15m", 32000, 15_191_712),
    ("llama-1.1b", 32000, 1_100_048_384),
    ("llama-7b", 32000, 6_738_415_616),
    ("qwen3-0.6b", 151936, 596_049_920),
    ("qwen3-1.7b", 151936, 1_720_574_976),
    ("qwen3-4b", 151936, 4_022_468_096),
    ("qwen3-8b", 151936, 8_190_735_360),
    ("bart-base", 50265, 139_420_416),
    ("bart-large", 50265, 406_291_456),
    # Version 1.1 has a head of its own beside the embeddings; here they are one table.
    ("t5-small", 32128, 76_961_152 - 32128 * 512),
    ("t5-base", 32128, 247_577_856 - 32128 * 768),
    ("t5-xl", 32128, 2_849_757_184 - 32128 * 2048),
    ("t5-xxl", 32128, 11_135_332_352 - 32128 * 4096),
]


def shaped(given: object) -> ModelConfig:
    return ModelConfig.model_validate(given)


@pytest.mark.parametrize("given", SHAPES, ids=str)
@pytest.mark.parametrize("vocabulary", [33, 200])
def test_parameters_are_those_of_the_built_model(given, vocabulary):
    model = build(shaped(given), Vocabulary(vocabulary, 0, 1, 2, 3), None, seed=0)
    assert parameters(shaped(given), vocabulary) == model.num_parameters()


@some.composite
def shapes(draw) -> ModelConfig:
    """Any small shape that its architecture allows."""
    architecture, heads = draw(some.sampled_from(list(FAMILIES))), draw(some.integers(1, 6))
    facts = {
        "architecture": architecture,
        "layers": draw(some.integers(1, 4)),
        "width": heads * 2 * draw(some.integers(4, 8)),
        "heads": heads,
        "feedforward": draw(some.integers(8, 40)),
        "max_length": draw(some.integers(8, 40)),
    }
    if FAMILIES[architecture] == "decoder":
        facts["kv_heads"] = draw(some.sampled_from([n for n in range(1, 7) if heads % n == 0]))
        facts["tied"] = draw(some.sampled_from([None, True, False]))
    if architecture in ("qwen3", "t5"):
        facts["head_width"] = 2 * draw(some.integers(1, 9))
    return ModelConfig.model_validate(facts)


@drawn(shape=shapes(), vocabulary=some.integers(4, 90))
@settings(max_examples=30, deadline=None)
def test_parameters_of_any_shape_are_those_of_the_built_model(shape, vocabulary):
    model = build(shape, Vocabulary(vocabulary, 0, 1, 2, 3), None, seed=0)
    assert parameters(shape, vocabulary) == model.num_parameters()


@pytest.mark.parametrize(("name", "vocabulary", "expected"), PUBLISHED)
def test_named_sizes_have_the_published_parameters(name, vocabulary, expected):
    assert parameters(shaped(name), vocabulary) == expected


@pytest.mark.parametrize("given", SHAPES, ids=str)
def test_flops_are_those_counted_while_the_model_runs(given):
    shape, vocabulary, length, targets = shaped(given), 50, 16, 12
    model = build(shape, Vocabulary(vocabulary, 0, 1, 2, 3), None, seed=0)
    model.set_attn_implementation("eager")  # the counter does not know every fused kernel
    ids = torch.full((1, length), 7)
    more = {"decoder_input_ids": ids[:, :targets]} if model.config.is_encoder_decoder else {}
    counter = FlopCounterMode(display=False)
    with counter:
        found = model(input_ids=ids, **more)
        logits = found.prediction_logits if shape.architecture == "bert" else found.logits
        loss = logits.square().mean()
        if shape.architecture == "bert":
            loss = loss + found.seq_relationship_logits.sum()
        loss.backward()
    asked = flops_per_token(
        shape, vocabulary, length, 1.0, len(more) * targets / length, len(more) * targets
    )
    counted = counter.get_total_flops()
    if shape.architecture == "bert":  # what it does once a row
        counted -= 6 * (shape.width**2 + 2 * shape.width)
    assert length * asked == pytest.approx(counted, rel=1e-12)


def test_attention_is_counted_by_hand():
    """A block of 4 wide matrices: 4 of 8 x 8, 2 of 8 x 16; 4 x 8 operations for each key."""
    shape = ModelConfig(layers=1, width=8, heads=2, feedforward=16)
    without_head = 3 * (2 * (4 * 64 + 2 * 128) + 4 * 8 * 10)
    assert flops_per_token(shape, 100, length=10, predicted=0) == without_head
    head = 3 * 2 * (64 + 800)
    assert flops_per_token(shape, 100, length=10, predicted=0.5) == without_head + head / 2


def test_modernbert_sees_a_window_in_two_layers_of_three():
    shape = ModelConfig(
        architecture="modernbert", layers=6, width=8, heads=2, feedforward=16, max_length=4096
    )
    near, far = (flops_per_token(shape, 100, length) for length in (129, 1129))
    assert far - near == 3 * 4 * 8 * 2 * 1000  # layers 0 and 3 alone


def test_counting_loads_no_torch():
    code = "import sys, pipelines.model.count; print({'torch', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
