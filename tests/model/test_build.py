"""Building models: seeded, shaped as asked, and started from another's weights."""

import math
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BartModel,
    BertModel,
    T5Config,
    T5ForConditionalGeneration,
)

from pipelines.core.artifact import Artifact
from pipelines.core.errors import ArtifactError
from pipelines.model.build import Labels, Vocabulary, build, start
from pipelines.model.checkpoint import save_model
from pipelines.model.config import FAMILIES, NANO, ModelConfig
from pipelines.tokenizer.load import open_tokenizer

SHAPE = ModelConfig(layers=1, width=16, heads=2, feedforward=32, max_length=32)
ARCHITECTURES = list(FAMILIES)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in model.named_parameters()}


def same(left: torch.nn.Module, right: torch.nn.Module) -> list[str]:
    pairs = weights(left), weights(right)
    return [name for name in pairs[0] if torch.equal(pairs[0][name], pairs[1][name])]


def logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        return model.eval()(input_ids=ids, **more)[0]


@pytest.fixture
def ids(tokenizer_folder: Path) -> torch.Tensor:
    tokenizer = open_tokenizer(tokenizer_folder)
    return tokenizer("the dog sat", return_tensors="pt").input_ids


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_seed_gives_one_model_and_leaves_the_callers_generator_alone(architecture, make_model):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = make_model(architecture, seed=1)
    assert torch.rand(1) == expected
    again, other = make_model(architecture, seed=1), make_model(architecture, seed=2)
    assert len(same(first, again)) == len(weights(first))
    table = first.get_input_embeddings().weight
    assert not torch.equal(table, other.get_input_embeddings().weight)


def test_nano_has_the_parameters_its_docstring_says():
    model = build(NANO, Vocabulary(8192, 0), None, seed=0)
    assert round(sum(tensor.numel() for tensor in weights(model).values()) / 1e6, 1) == 1.6


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_untrained_model_guesses_evenly(architecture, make_model, ids):
    """Logits of standard deviation 1 add half a nat to ln V (the mean of a log-normal)."""
    model = make_model(architecture)
    losses = -torch.log_softmax(logits(model, ids)[0], dim=-1)
    assert 0 <= losses.mean().item() - math.log(model.config.vocab_size) < 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_decoder_of_any_kind_knows_how_texts_begin_and_end(
    architecture, make_model, tokenizer_folder
):
    config, tokenizer = make_model(architecture).config, open_tokenizer(tokenizer_folder)
    assert config.pad_token_id == tokenizer.pad_token_id
    if FAMILIES[architecture] != "encoder":
        assert config.bos_token_id == tokenizer.bos_token_id
        assert config.eos_token_id == tokenizer.eos_token_id
    starts = {"t5": tokenizer.pad_token_id, "bart": tokenizer.eos_token_id}
    assert getattr(config, "decoder_start_token_id", None) == starts.get(architecture)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_classifier_gives_padded_rows_the_scores_they_have_alone(
    architecture, make_model, tokenizer_folder
):
    model, tokenizer = make_model(architecture, ["a", "b", "c"]), open_tokenizer(tokenizer_folder)
    texts = ["the cat", "the dog on the log sat"]
    with torch.inference_mode():
        alone = [model(**_inputs(tokenizer, [text])).logits for text in texts]
        together = model(**_inputs(tokenizer, texts)).logits
    assert together.shape == (2, 3)
    # Sums over more, masked, positions are added in another order.
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


def _inputs(tokenizer, texts):
    found = tokenizer(texts, padding=True, return_tensors="pt")
    return {name: found[name] for name in ("input_ids", "attention_mask")}


def test_a_started_model_keeps_the_encoder_and_draws_the_head(tiny_classifier: Artifact):
    folder = Path(tiny_classifier.uri)
    original = AutoModelForSequenceClassification.from_pretrained(folder)
    model = start(folder, Labels(["a", "b", "c"], dropout=0.2), seed=1)
    encoder = same(model.bert, original.bert)
    assert len(encoder) == len(weights(original.bert))
    assert model.classifier.weight.shape == (3, 32)
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert model.config.hidden_dropout_prob == 0.2
    again = start(folder, Labels(["a", "b", "c"]), seed=1)
    assert torch.equal(model.classifier.weight, again.classifier.weight)


def test_a_head_of_the_same_shape_is_kept(tiny_classifier: Artifact):
    folder = Path(tiny_classifier.uri)
    original = AutoModelForSequenceClassification.from_pretrained(folder)
    model = start(folder, Labels(["no", "yes"]), seed=1)
    assert torch.equal(model.classifier.weight, original.classifier.weight)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pretraining_goes_on_and_fine_tuning_begins_from_what_was_learnt(
    architecture, make_model, tokenizer_folder, tmp_path, ids
):
    learnt = make_model(architecture)
    save_model(learnt, tokenizer_folder, {"kind": "any"}, 16, tmp_path)
    assert torch.equal(logits(start(tmp_path, None, seed=2), ids), logits(learnt, ids))
    classifier = start(tmp_path, Labels(["no", "yes"]), seed=2)
    inner = getattr(classifier, classifier.base_model_prefix)
    for name, tensor in weights(inner).items():
        own = learnt.get_parameter(name if architecture == "t5" else _full(learnt, name))
        assert torch.equal(tensor, own), name


def _full(model, name):
    return f"{model.base_model_prefix}.{name}"


def test_the_pretrained_decoder_of_a_plain_folder_scores_as_transformers_has_it_score(shared_data):
    folder = shared_data / "models" / "stories260K-hf"
    model = start(folder, None, seed=0)
    plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa")
    text = open_tokenizer(folder)("Once upon a time there was a dog", return_tensors="pt")
    found, expected = logits(model, text.input_ids), logits(plain, text.input_ids)
    # Weights that transformers maps from the file lie at other addresses; see test_checkpoint.py.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.argmax(-1)[0, :4].tolist() == text.input_ids[0, 1:5].tolist()


@pytest.mark.parametrize(("kind", "architecture"), [(BertModel, "bert"), (BartModel, "bart")])
def test_a_checkpoint_without_heads_will_do(
    kind, architecture, make_model, tokenizer_folder, tmp_path, ids
):
    body = kind(make_model(architecture).config).eval()
    _plain(body, tokenizer_folder, tmp_path)
    model = start(tmp_path, None, seed=3)
    assert torch.equal(logits(getattr(model, model.base_model_prefix), ids), logits(body, ids))


def test_norms_named_as_before_2019_are_found(make_model, tokenizer_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    model = make_model("bert")
    with torch.no_grad():
        for number, tensor in enumerate(weights(model).values()):
            tensor.add_(number)
    _plain(model, tokenizer_folder, tmp_path)
    path = tmp_path / "model.safetensors"
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta"): at
        for name, at in load_file(path).items()
    }
    save_file(old, path, metadata={"format": "pt"})
    assert len(same(start(tmp_path, None, seed=3), model)) == len(weights(model))


def test_a_t5_whose_head_is_not_its_table_keeps_both(tokenizer_folder, tmp_path, ids):
    """Version 1.1, which transformers 5 parts when it loads one."""
    config = T5Config(
        vocab_size=300,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    torch.manual_seed(0)
    published = T5ForConditionalGeneration(config)
    published.lm_head.weight = torch.nn.Parameter(torch.randn(300, 16))
    _plain(published, tokenizer_folder, tmp_path / "published")
    plain = T5ForConditionalGeneration.from_pretrained(tmp_path / "published")
    model = start(tmp_path / "published", None, seed=0)
    torch.testing.assert_close(logits(model, ids), logits(plain, ids), rtol=1e-5, atol=1e-5)
    assert not torch.equal(model.lm_head.weight, model.shared.weight)
    save_model(model, tokenizer_folder, {"kind": "any"}, 16, tmp_path / "ours")
    again = start(tmp_path / "ours", None, seed=0)
    assert torch.equal(logits(again, ids), logits(model, ids))
    plain = T5ForConditionalGeneration.from_pretrained(tmp_path / "ours")
    torch.testing.assert_close(logits(plain, ids), logits(model, ids), rtol=1e-5, atol=1e-5)


def _plain(model, tokenizer_folder, folder):
    """A folder as transformers writes it."""
    model.save_pretrained(folder)
    open_tokenizer(tokenizer_folder).save_pretrained(folder)


def test_weights_of_another_model_than_the_config_are_refused(
    make_model, tokenizer_folder, tmp_path
):
    _plain(make_model("llama"), tokenizer_folder, tmp_path)
    make_model("qwen3").config.save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match=r"its weights lack model\.\S+ of the qwen3"):
        start(tmp_path, None, seed=0)


def test_a_tokenizer_with_more_entries_than_the_model_is_refused(
    make_model, tokenizer_folder, tmp_path
):
    model = build(ModelConfig.model_validate("llama-nano"), Vocabulary(99, 0), None, seed=0)
    _plain(model, tokenizer_folder, tmp_path)
    with pytest.raises(ArtifactError, match=r"281 entries, its config.json says vocab_size=99"):
        start(tmp_path, None, seed=0)
