"""The Model folder: it loads with plain transformers, repeats byte for byte, and runs no code."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from pipelines.core.artifact import Artifact
from pipelines.core.errors import ArtifactError
from pipelines.model.build import Labels, Vocabulary, build, start
from pipelines.model.checkpoint import load_model, read_config, read_weights, save_model
from pipelines.model.config import FAMILIES, ModelConfig

SHAPE = ModelConfig(layers=1, width=16, heads=2, feedforward=32, max_length=32)
CLASSIFY = {"kind": "classify", "max_length": 16, "dropout": 0.1}
IDS = torch.tensor([[2, 7, 9, 3]])
PLAIN = {
    "bert": AutoModelForPreTraining,
    "modernbert": AutoModelForMaskedLM,
    "llama": AutoModelForCausalLM,
    "qwen3": AutoModelForCausalLM,
    "t5": AutoModelForSeq2SeqLM,
    "bart": AutoModelForSeq2SeqLM,
}


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


@pytest.mark.parametrize("labels", [None, ["no", "yes"]], ids=["pretraining", "classify"])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_architecture_loads_whole_in_plain_transformers(
    architecture, labels, make_model, tokenizer_folder, tmp_path
):
    model = make_model(architecture, labels)
    save_model(model, tokenizer_folder, {"kind": "any"}, 16, tmp_path)
    kind = AutoModelForSequenceClassification if labels else PLAIN[architecture]
    loaded, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert type(loaded) is type(model)
    expected, found = model.state_dict(), loaded.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert type(load_model(tmp_path).model) is type(model)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "t5", "bart"])
def test_plain_transformers_writes_text_with_what_was_saved(
    architecture, make_model, tokenizer_folder, tmp_path
):
    """Greedy continuations by `generate` are those worked out token by token with our model."""
    model, tokenizer = (
        make_model(architecture),
        AutoTokenizer.from_pretrained(tokenizer_folder),
    )
    with torch.no_grad():  # away from near ties, which a cache's other order of sums could turn
        for parameter in model.parameters():
            parameter.mul_(2)
    save_model(model, tokenizer_folder, {"kind": "any"}, 16, tmp_path)
    loaded = PLAIN[architecture].from_pretrained(tmp_path)
    source = tokenizer("the cat sat", add_special_tokens=False, return_tensors="pt").input_ids
    written = loaded.generate(source, max_new_tokens=6, do_sample=False)[0].tolist()
    both = model.config.is_encoder_decoder
    so_far = [model.config.decoder_start_token_id] if both else source[0].tolist()
    for _ in range(6):
        given = {"decoder_input_ids": torch.tensor([so_far])} if both else {}
        read = source if both else torch.tensor([so_far])
        with torch.inference_mode():
            so_far.append(int(model(input_ids=read, **given).logits[0, -1].argmax()))
        if so_far[-1] == tokenizer.eos_token_id:
            break
    assert written == so_far


@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_bytes_of_every_architecture_repeat(
    architecture, make_model, tokenizer_folder, tmp_path
):
    for name in ("one", "two"):
        save_model(make_model(architecture), tokenizer_folder, {"kind": "a"}, 16, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_weights_in_several_files_are_one_models(make_model, tokenizer_folder, tmp_path):
    model = make_model("llama")
    model.save_pretrained(tmp_path, max_shard_size="300KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    shutil.copytree(tokenizer_folder, tmp_path, dirs_exist_ok=True)
    found = start(tmp_path, None, seed=5)
    for name, tensor in model.named_parameters():
        assert torch.equal(tensor, found.get_parameter(name)), name


def test_a_missing_file_of_several_is_named(make_model, tmp_path):
    make_model("llama").save_pretrained(tmp_path, max_shard_size="300KB")
    lost = min(tmp_path.glob("model-*.safetensors"))
    lost.unlink()
    with pytest.raises(ArtifactError, match=lost.name):
        read_weights(tmp_path)


def test_a_kernel_that_a_config_asks_for_is_not_fetched(copy: Path):
    facts = json.loads((copy / "config.json").read_text())
    facts |= {"_attn_implementation": "someone/kernel", "attn_implementation": "someone/kernel"}
    (copy / "config.json").write_text(json.dumps(facts))
    assert read_config(copy)._attn_implementation == "sdpa"
    assert load_model(copy).model.config._attn_implementation == "sdpa"


def test_a_config_that_is_none_of_its_architecture_is_named(copy: Path):
    facts = json.loads((copy / "config.json").read_text()) | {"hidden_size": "wide"}
    (copy / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ArtifactError, match=r"config.json: not the config of a bert.*hidden_size"):
        load_model(copy)


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
