"""A shape, a vocabulary and labels in; a transformers model with seeded weights out.

`build` draws every weight; `start` keeps those of a Model's or a plain transformers folder and
draws only what is missing there.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

import torch
from transformers import (
    BartConfig,
    BertConfig,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    T5Config,
)

from pipelines.core.errors import ArtifactError
from pipelines.model.architectures import (
    CLASSIFIERS,
    HEADS,
    PRETRAINING,
    set_dropout,
)
from pipelines.model.checkpoint import ATTENTION, read_config, read_weights, supply
from pipelines.model.config import ModelConfig
from pipelines.tokenizer.load import open_tokenizer

log = logging.getLogger(__name__)

PUBLISHED_SPREAD = 0.02  # of first weights; Radford et al. 2018, section 4.1, and BART's config
QWEN3_THETA = 1e6  # base of rotary frequencies; Yang et al. 2025, section 3.2


@dataclass(frozen=True)
class Vocabulary:
    """What a model must know of its tokenizer: entries, and the ids of its special tokens.

    `bos_id` begins a text, `eos_id` ends one that is written, `sep_id` one that is read.
    """

    size: int
    pad_id: int | None
    bos_id: int | None = None
    eos_id: int | None = None
    sep_id: int | None = None

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerFast) -> "Vocabulary":
        """Those of a tokenizer; [CLS] and [SEP] begin and end a text where nothing else does."""
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        return Vocabulary(
            len(tokenizer),
            tokenizer.pad_token_id,
            cls if bos is None else bos,
            sep if eos is None else eos,
            eos if sep is None else sep,
        )


@dataclass(frozen=True)
class Labels:
    """A classifier's classes, in order of their numbers, and its dropout while it is learnt."""

    names: Sequence[str]
    dropout: float = 0.0


def build(
    shape: ModelConfig, vocabulary: Vocabulary, labels: Labels | None, seed: int
) -> PreTrainedModel:
    """A model of `shape` whose every weight is drawn from `seed`.

    Args:
        shape: architecture, layers, widths and positions.
        vocabulary: entries and special ids.
        labels: a classifier's; None gives the architecture's pretraining heads.
        seed: of the weights.
    """
    model = _seeded(configure(shape, vocabulary), vocabulary, labels, seed)
    if shape.architecture == "t5":  # whose class draws the table with a standard deviation of 1
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(_spread(shape))
    return model


def start(folder: Path, labels: Labels | None, seed: int) -> PreTrainedModel:
    """The model of a Model folder or of a plain transformers folder, with the head asked for.

    Weights whose name and shape the new model shares are kept, all below the heads always; a head
    that is new is drawn from `seed`.

    Raises:
        ArtifactError: the folder is not a model that can be read safely, its weights are not those
            its config describes, or its tokenizer has more entries than it.
    """
    config, vocabulary = read_config(folder), Vocabulary.of(open_tokenizer(folder))
    if vocabulary.size > config.vocab_size:
        raise ArtifactError(
            f"{folder}: its tokenizer has {vocabulary.size} entries, its config.json says "
            f"vocab_size={config.vocab_size}; give the tokenizer the weights were trained with"
        )
    model = _seeded(config, vocabulary, labels, seed)
    drawn = supply(model, read_weights(folder))
    if lost := [name for name in drawn if not name.startswith(HEADS[config.model_type])]:
        raise ArtifactError(
            f"{folder}: its weights lack {lost[0]} of the {config.model_type} that config.json "
            f"describes, or have it in another shape ({len(lost)} in all); give a checkpoint "
            "whose config and weights belong together"
        )
    log.info("%s: kept its weights; drew anew: %s", folder, ", ".join(drawn) or "none")
    return model


def configure(shape: ModelConfig, vocabulary: Vocabulary) -> PreTrainedConfig:
    """The transformers config of a shape, with the ids of the vocabulary."""
    facts: dict[str, Any] = {
        "vocab_size": vocabulary.size,
        "pad_token_id": vocabulary.pad_id,
        "bos_token_id": vocabulary.bos_id,
        "eos_token_id": vocabulary.eos_id,
    }
    match shape.architecture:
        case "bert":
            config = BertConfig(**facts | _encoder(shape) | _BERT_IDS)
        case "modernbert":
            ids = {"cls_token_id": vocabulary.bos_id, "sep_token_id": vocabulary.sep_id}
            config = ModernBertConfig(**facts | _encoder(shape) | ids)
        case "llama":
            config = LlamaConfig(**facts | _decoder(shape))
        case "qwen3":
            theta = {"rope_type": "default", "rope_theta": QWEN3_THETA}
            config = Qwen3Config(**facts | _decoder(shape), rope_parameters=theta)
        case "t5":
            config = T5Config(**facts | _t5(shape), decoder_start_token_id=vocabulary.pad_id)
        case "bart":
            config = BartConfig(**facts | _bart(shape), decoder_start_token_id=vocabulary.eos_id)
        case _:
            assert_never(shape.architecture)
    set_dropout(config, shape.dropout)
    return config


def _seeded(
    config: PreTrainedConfig, vocabulary: Vocabulary, labels: Labels | None, seed: int
) -> PreTrainedModel:
    config._attn_implementation = ATTENTION
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if labels is None:
            return PRETRAINING[config.model_type](config)
        config.id2label = dict(enumerate(labels.names))
        config.label2id = {label: number for number, label in enumerate(labels.names)}
        config.problem_type = "single_label_classification"
        if config.is_encoder_decoder:  # its classifier reads what stands at the row's last token
            config.eos_token_id = vocabulary.sep_id
        if config.pad_token_id is None:  # a decoder's classifier looks for what stands before it
            config.pad_token_id = vocabulary.pad_id
        set_dropout(config, labels.dropout)
        return CLASSIFIERS[config.model_type](config)


# A BERT frames texts with [CLS] and [SEP], which its config does not name.
_BERT_IDS = {"bos_token_id": None, "eos_token_id": None}


def _spread(shape: ModelConfig) -> float:
    """Standard deviation of an encoder's first weights: LeCun et al. 1998, section 4.6.

    BERT's own 0.02 suits a width of 768; at 128 what attention adds is lost beside its residual,
    and a classifier learns much slower. Those that write text learn faster from the published 0.02:
    after 150 steps qwen3-nano was 0.45 nats lower than with this, bart-nano 0.15.
    """
    return float(shape.width**-0.5)


def _encoder(shape: ModelConfig) -> dict[str, Any]:
    return {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.feedforward,
        "max_position_embeddings": shape.max_length,
        "initializer_range": _spread(shape),
    }


def _decoder(shape: ModelConfig) -> dict[str, Any]:
    return _encoder(shape) | {
        "initializer_range": PUBLISHED_SPREAD,
        "num_key_value_heads": shape.kv_heads or shape.heads,
        "head_dim": shape.width_of_head,
        "tie_word_embeddings": shape.shares_table,
    }


def _t5(shape: ModelConfig) -> dict[str, Any]:
    """Version 1.1's gated MLP (Shazeer 2020), the head tied as in Raffel et al. 2020.

    Raffel et al. draw the table wide (1) and shrink what the head reads; that suits Adafactor,
    whose steps grow with the weights. Drawn narrow and read as it is, AdamW was 0.3 nats lower
    after 250 steps of t5-nano. transformers 5.23 ties the head of every T5, and takes
    `tie_word_embeddings=False` for "do not shrink". `n_positions` bounds rows alone: relative
    positions have no end.
    """
    return {
        "d_model": shape.width,
        "d_kv": shape.width_of_head,
        "d_ff": shape.feedforward,
        "num_layers": shape.layers,
        "num_heads": shape.heads,
        "n_positions": shape.max_length,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
    }


def _bart(shape: ModelConfig) -> dict[str, Any]:
    halves = {
        f"{half}_{name}": value
        for half in ("encoder", "decoder")
        for name, value in (
            ("layers", shape.layers),
            ("attention_heads", shape.heads),
            ("ffn_dim", shape.feedforward),
        )
    }
    return halves | {
        "d_model": shape.width,
        "max_position_embeddings": shape.max_length,
        "init_std": PUBLISHED_SPREAD,
        "forced_eos_token_id": None,
    }
