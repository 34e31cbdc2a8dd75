"""Named sizes are the published ones: configs as their authors wrote them, beside what we build."""

import json

import pytest
import torch

from pipelines.model.build import Vocabulary, configure, start
from pipelines.model.checkpoint import read_config, save_model
from pipelines.model.config import ModelConfig
from pipelines.model.sizes import SIZES

# From the hub, abridged to what shapes a model and what older versions wrote differently.
PUBLISHED = {
    "bert-base": {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "gradient_checkpointing": False,
        "position_embedding_type": "absolute",
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "vocab_size": 30522,
    },
    "modernbert-base": {
        "architectures": ["ModernBertForMaskedLM"],
        "model_type": "modernbert",
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
        "local_attention": 128,
        "position_embedding_type": "absolute",
        "reference_compile": None,
        "torch_dtype": "float32",
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "max_position_embeddings": 8192,
        "vocab_size": 50368,
    },
    "llama-1.1b": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "max_position_embeddings": 2048,
        "pretraining_tp": 1,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": 32000,
    },
    "qwen3-0.6b": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "head_dim": 128,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "max_window_layers": 28,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "use_sliding_window": False,
        "tie_word_embeddings": True,
        "max_position_embeddings": 32768,
        "vocab_size": 151936,
    },
    "t5-small": {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "d_model": 512,
        "d_kv": 64,
        "d_ff": 1024,
        "num_layers": 8,
        "num_decoder_layers": 8,
        "num_heads": 6,
        "feed_forward_proj": "gated-gelu",
        "output_past": True,
        "tie_word_embeddings": False,
        "relative_attention_num_buckets": 32,
        "n_positions": 512,
        "decoder_start_token_id": 0,
        "vocab_size": 32128,
    },
    "bart-base": {
        "architectures": ["BartModel"],
        "model_type": "bart",
        "_num_labels": 3,
        "add_bias_logits": False,
        "d_model": 768,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "encoder_attention_heads": 12,
        "decoder_attention_heads": 12,
        "encoder_ffn_dim": 3072,
        "decoder_ffn_dim": 3072,
        "max_position_embeddings": 1024,
        "num_beams": 4,
        "no_repeat_ngram_size": 3,
        "early_stopping": True,
        "forced_bos_token_id": 0,
        "normalize_before": False,
        "task_specific_params": {"summarization": {"num_beams": 4}},
        "vocab_size": 50265,
    },
}
# Places of ids, first weights and dropout are no part of a shape; labels and texts belong to tasks.
SHAPED = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "head_dim"),
    *("num_key_value_heads", "tie_word_embeddings", "rope_parameters", "layer_types", "d_ff"),
    *("num_decoder_layers", "scale_decoder_outputs", "is_gated_act", "dense_act_fn", "hidden_act"),
    *("max_position_embeddings", "n_positions", "decoder_layers", "decoder_ffn_dim", "vocab_size"),
    *("decoder_attention_heads", "encoder_ffn_dim", "local_attention", "activation_function"),
    *("hidden_activation", "rms_norm_eps", "norm_eps", "layer_norm_eps", "layer_norm_epsilon"),
    *("relative_attention_num_buckets", "relative_attention_max_distance"),
)


def shaped(config):
    return {name: getattr(config, name, None) for name in SHAPED}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_named_size_is_what_its_authors_published(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[name]))
    published = read_config(tmp_path)
    shape = ModelConfig.model_validate(name)
    assert shaped(configure(shape, Vocabulary(published.vocab_size, 0))) == shaped(published)


@pytest.mark.parametrize("name", PUBLISHED)
def test_training_goes_on_from_a_config_that_an_older_version_wrote(
    name, make_model, tokenizer_folder, tmp_path
):
    """The nano model's weights under the published config's words, its sizes put in."""
    model = make_model(name.split("-")[0])
    save_model(model, tokenizer_folder, {"kind": "any"}, 16, tmp_path)
    sizes = model.config.to_dict()
    old = {key: sizes.get(key, value) for key, value in PUBLISHED[name].items()}
    old |= {key: PUBLISHED[name][key] for key in ("architectures", "model_type")}
    (tmp_path / "config.json").write_text(json.dumps(old | {"pad_token_id": 0}))
    found = start(tmp_path, None, seed=5)
    for key, tensor in model.named_parameters():
        assert torch.equal(found.get_parameter(key), tensor), key
        assert found.get_parameter(key).dtype == torch.float32
    save_model(found, tokenizer_folder, {"kind": "any"}, 16, tmp_path / "again")


def test_sizes_of_one_architecture_grow():
    for architecture in {name.split("-")[0] for name in SIZES}:
        own = [shape for name, shape in SIZES.items() if name.startswith(f"{architecture}-")]
        bulk = [shape["layers"] * shape["width"] * shape["feedforward"] for shape in own]
        assert bulk == sorted(bulk)
