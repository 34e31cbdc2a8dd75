"""The Model folder: it loads with plain transformers, repeats byte for byte, and runs no code."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from pipelines.core.artifact import Artifact
from pipelines.core.errors import ArtifactError
from pipelines.model.build import Labels, Vocabulary, build
from pipelines.model.checkpoint import load_model, save_model
from pipelines.model.config import ModelConfig

SHAPE = ModelConfig(layers=1, width=16, heads=2, feedforward=32, max_length=32)
CLASSIFY = {"kind": "classify", "max_length": 16, "dropout": 0.1}
IDS = torch.tensor([[2, 7, 9, 3]])


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    # Weights that transformers maps from the file lie at other addresses, and the matrix library's
    # sums depend on alignment in the last bit.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.fixture
def copy(tiny_classifier: Artifact, tmp_path: Path) -> Path:
    """A Model folder that a test may harm."""
    return Path(shutil.copytree(tiny_classifier.uri, tmp_path / "copy"))


def test_plain_from_pretrained_loads_a_classifier(copy: Path, tmp_path: Path) -> None:
    model = build(SHAPE, Vocabulary(45, 0), Labels(["bird", "fish"]), seed=1).eval()
    save_model(model, copy, CLASSIFY, 16, tmp_path / "model")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    close(loaded(input_ids=IDS).logits, model(input_ids=IDS).logits)
    assert loaded.config.id2label == {0: "bird", 1: "fish"}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.tokenize("ab") == ["a", "##b"]


def test_plain_from_pretrained_loads_a_pretrained_model(copy: Path, tmp_path: Path) -> None:
    model = build(SHAPE, Vocabulary(45, 0), None, seed=1).eval()
    save_model(model, copy, {"kind": "masked-lm"}, 16, tmp_path / "model")
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path / "model")
    with torch.inference_mode():
        found, expected = loaded(input_ids=IDS), model(input_ids=IDS)
    close(found.prediction_logits, expected.prediction_logits)
    close(found.seq_relationship_logits, expected.seq_relationship_logits)


def test_load_gives_back_what_save_took(copy: Path, tmp_path: Path) -> None:
    model = build(SHAPE, Vocabulary(45, 0), Labels(["bird", "fish"]), seed=1)
    save_model(model, copy, CLASSIFY, 16, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.task == CLASSIFY
    assert not loaded.model.training
    for name, tensor in model.named_parameters():
        assert torch.equal(tensor, loaded.model.get_parameter(name)), name


def test_the_bytes_follow_from_the_weights_alone(copy: Path, tmp_path: Path) -> None:
    for name in ("one", "elsewhere/two"):
        model = build(SHAPE, Vocabulary(45, 0), Labels(["bird", "fish"]), seed=1)
        save_model(model, copy, CLASSIFY, 16, tmp_path / name)
    save_model(load_model(tmp_path / "one").model, tmp_path / "one", CLASSIFY, 16, tmp_path / "3")
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "elsewhere/two", "3")
    ]
    assert files[0] == files[1] == files[2]
    assert not any(str(tmp_path).encode() in data for data in files[0].values())


def test_pickled_weights_are_refused(copy: Path) -> None:
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match=r"pytorch_model.bin is a pickle"):
        load_model(copy)


def test_code_in_the_folder_is_refused(copy: Path) -> None:
    facts = json.loads((copy / "config.json").read_text())
    facts["auto_map"] = {"AutoModel": "evil.Model"}
    (copy / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ArtifactError, match=r"auto_map=.*evil"):
        load_model(copy)


def test_another_architecture_is_refused(copy: Path) -> None:
    facts = json.loads((copy / "config.json").read_text()) | {"architectures": ["GPT2LMHeadModel"]}
    (copy / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ArtifactError, match=r"GPT2LMHeadModel.*expected one of Bert"):
        load_model(copy)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "rayline.json"])
def test_a_file_that_is_cut_short_is_named(name: str, copy: Path) -> None:
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ArtifactError, match=name):
        load_model(copy)


def test_a_parameter_of_another_shape_is_named(copy: Path) -> None:
    facts = json.loads((copy / "config.json").read_text()) | {"vocab_size": 7}
    (copy / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ArtifactError, match=r"word_embeddings.weight is missing or of another"):
        load_model(copy)
