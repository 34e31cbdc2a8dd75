"""A shape, a vocabulary and labels in; a transformers BERT with seeded weights out.

`build` draws every weight; `start` keeps a Model folder's encoder and draws only what it lacks.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
    PreTrainedModel,
)

from pipelines.model.checkpoint import read_config, read_weights, supply
from pipelines.model.config import ModelConfig

log = logging.getLogger(__name__)

# Scaled-dot-product attention was slightly faster than eager here at 128 tokens (AVX2, one thread);
# the exporters read the same weights whichever is used.
ATTENTION = "sdpa"


@dataclass(frozen=True)
class Vocabulary:
    """What a model must know of its tokenizer."""

    size: int
    pad_id: int


@dataclass(frozen=True)
class Labels:
    """A classifier's classes, in order of their numbers, and its dropout while it is learnt."""

    names: Sequence[str]
    dropout: float = 0.0


def build(
    shape: ModelConfig, vocabulary: Vocabulary, labels: Labels | None, seed: int
) -> PreTrainedModel:
    """A BERT of `shape` whose every weight is drawn from `seed`.

    Args:
        shape: layers, widths and positions.
        vocabulary: entries and the padding id.
        labels: a classifier's; None gives the masked-word and next-sentence heads.
        seed: of the weights.
    """
    config = BertConfig(
        vocab_size=vocabulary.size,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feedforward,
        max_position_embeddings=shape.max_length,
        hidden_dropout_prob=shape.dropout,
        attention_probs_dropout_prob=shape.dropout,
        pad_token_id=vocabulary.pad_id,
        # LeCun et al. 1998, section 4.6. BERT's own 0.02 suits a width of 768; at 128 what
        # attention adds is lost beside its residual, and a classifier learns much slower.
        initializer_range=shape.width**-0.5,
    )
    return _seeded(config, labels, seed)


def start(folder: Path, labels: Labels | None, seed: int) -> PreTrainedModel:
    """The model of a Model folder, with the head that `labels` asks for (see `build`).

    Weights whose name and shape the new model shares are kept, the encoder's always; a head that
    is new is drawn from `seed`.

    Raises:
        ArtifactError: the folder is not a Model that can be read safely.
    """
    model = _seeded(read_config(folder), labels, seed)
    drawn = supply(model, read_weights(folder))
    log.info("%s: kept its weights; drew anew: %s", folder, ", ".join(drawn) or "none")
    return model


def _seeded(config: BertConfig, labels: Labels | None, seed: int) -> PreTrainedModel:
    config._attn_implementation = ATTENTION
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if labels is None:
            return BertForPreTraining(config)
        config.id2label = dict(enumerate(labels.names))
        config.label2id = {label: number for number, label in enumerate(labels.names)}
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = labels.dropout
        config.problem_type = "single_label_classification"
        return BertForSequenceClassification(config)
