"""Building models: seeded, shaped as asked, and started from another's encoder."""

from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

from pipelines.core.artifact import Artifact
from pipelines.model.build import Labels, Vocabulary, build, start
from pipelines.model.config import NANO, ModelConfig

SHAPE = ModelConfig(layers=1, width=16, heads=2, feedforward=32, max_length=32)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in model.named_parameters()}


def same(left: torch.nn.Module, right: torch.nn.Module) -> list[str]:
    pairs = weights(left), weights(right)
    return [name for name in pairs[0] if torch.equal(pairs[0][name], pairs[1][name])]


def test_one_seed_gives_one_model_and_leaves_the_callers_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = build(SHAPE, Vocabulary(40, 0), None, seed=1)
    assert torch.rand(1) == expected
    again, other = (build(SHAPE, Vocabulary(40, 0), None, seed) for seed in (1, 2))
    assert len(same(first, again)) == len(weights(first))
    assert "bert.embeddings.word_embeddings.weight" not in same(first, other)


def test_nano_has_the_parameters_its_docstring_says() -> None:
    model = build(NANO, Vocabulary(8192, 0), None, seed=0)
    assert round(sum(tensor.numel() for tensor in weights(model).values()) / 1e6, 1) == 1.6


def test_a_started_model_keeps_the_encoder_and_draws_the_head(tiny_classifier: Artifact) -> None:
    folder = Path(tiny_classifier.uri)
    original = AutoModelForSequenceClassification.from_pretrained(folder)
    model = start(folder, Labels(["a", "b", "c"], dropout=0.2), seed=1)
    kept = same(model, original) if model.num_labels == original.num_labels else None
    assert kept is None
    encoder = same(model.bert, original.bert)
    assert len(encoder) == len(weights(original.bert))
    assert model.classifier.weight.shape == (3, 32)
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert model.config.hidden_dropout_prob == 0.2
    again = start(folder, Labels(["a", "b", "c"]), seed=1)
    assert torch.equal(model.classifier.weight, again.classifier.weight)


def test_a_head_of_the_same_shape_is_kept(tiny_classifier: Artifact) -> None:
    folder = Path(tiny_classifier.uri)
    original = AutoModelForSequenceClassification.from_pretrained(folder)
    model = start(folder, Labels(["no", "yes"]), seed=1)
    assert torch.equal(model.classifier.weight, original.classifier.weight)
