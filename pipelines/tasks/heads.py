"""Hidden states of chosen positions -> scores, by the model's own head; scores -> summed figures.

A model's `forward` scores every position. At 8k entries the head is most of a small model's
arithmetic and few positions have a target, so tasks run the body, pick positions, and come here.
"""

from typing import Any

import torch
from torch.nn import functional
from transformers import (
    BartForConditionalGeneration,
    BertForMaskedLM,
    BertForPreTraining,
    ModernBertForMaskedLM,
    T5ForConditionalGeneration,
)

from pipelines.core.errors import ConfigError


def chosen(hidden_BTD: torch.Tensor, positions_K: torch.Tensor) -> torch.Tensor:
    """The states (K, D) at `positions_K`, which count through the rows of the batch."""
    return hidden_BTD.flatten(0, 1).index_select(0, positions_K)


def word_scores(model: Any, hidden_KD: torch.Tensor) -> torch.Tensor:
    """Logits (K, V) in fp32 over the vocabulary, as the model's own `forward` gives them."""
    match model:
        case BertForPreTraining() | BertForMaskedLM():
            scores_KV = model.cls.predictions(hidden_KD)
        case ModernBertForMaskedLM():
            scores_KV = model.decoder(model.head(hidden_KD))
        case T5ForConditionalGeneration():
            scale = model.config.d_model**-0.5 if model.config.scale_decoder_outputs else 1.0
            scores_KV = model.lm_head(hidden_KD * scale)
        case BartForConditionalGeneration():
            scores_KV = model.lm_head(hidden_KD) + model.final_logits_bias
        case _:  # a decoder: its output layer alone
            scores_KV = model.get_output_embeddings()(hidden_KD)
    found: torch.Tensor = scores_KV.float()
    return found


def pair_scores(model: Any, encoded: Any) -> torch.Tensor:
    """Logits (B, 2) in fp32 of a pair's two labels, from what the model's body gave.

    Raises:
        ConfigError: the model has no such head.
    """
    if not isinstance(model, BertForPreTraining):
        raise ConfigError(
            f"task.pair: {type(model).__name__} has no head for sentence pairs; expected "
            "BertForPreTraining: set task.pair=none"
        )
    found: torch.Tensor = model.cls.seq_relationship(encoded.pooler_output).float()
    return found


def figures(name: str, scores_NC: torch.Tensor, targets_N: torch.Tensor) -> dict[str, torch.Tensor]:
    """Sums of the cross-entropy, `<name>_loss`, and of right answers, `<name>_accuracy`."""
    right = scores_NC.detach().argmax(-1) == targets_N
    return {
        f"{name}_loss": functional.cross_entropy(scores_NC, targets_N, reduction="sum"),
        f"{name}_accuracy": right.sum().float(),
    }
