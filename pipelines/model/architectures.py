"""The closed set of architectures: transformers' classes for each, and what each calls things.

All are transformers' own, so what is trained here loads, generates and exports there. A new one is
an entry in each table here, a case in `build.configure` and one in `count.py`.
"""

from collections.abc import Mapping

from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BartForSequenceClassification,
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
    T5ForSequenceClassification,
)

from pipelines.model.config import Architecture

CONFIGS: Mapping[Architecture, type[PreTrainedConfig]] = {
    "bert": BertConfig,
    "modernbert": ModernBertConfig,
    "llama": LlamaConfig,
    "qwen3": Qwen3Config,
    "t5": T5Config,
    "bart": BartConfig,
}
PRETRAINING: Mapping[Architecture, type[PreTrainedModel]] = {
    "bert": BertForPreTraining,
    "modernbert": ModernBertForMaskedLM,
    "llama": LlamaForCausalLM,
    "qwen3": Qwen3ForCausalLM,
    "t5": T5ForConditionalGeneration,
    "bart": BartForConditionalGeneration,
}
CLASSIFIERS: Mapping[Architecture, type[PreTrainedModel]] = {
    "bert": BertForSequenceClassification,
    "modernbert": ModernBertForSequenceClassification,
    "llama": LlamaForSequenceClassification,
    "qwen3": Qwen3ForSequenceClassification,
    "t5": T5ForSequenceClassification,
    "bart": BartForSequenceClassification,
}
CLASSES = {kind.__name__: kind for kinds in (PRETRAINING, CLASSIFIERS) for kind in kinds.values()}
# Weights that a checkpoint of the same architecture may lack: they belong to a task.
HEADS: Mapping[Architecture, tuple[str, ...]] = {
    "bert": ("cls.", "classifier.", "bert.pooler."),
    "modernbert": ("head.", "decoder.", "classifier."),
    "llama": ("lm_head.", "score."),
    "qwen3": ("lm_head.", "score."),
    "t5": ("lm_head.", "classification_head."),
    "bart": ("lm_head.", "final_logits_bias", "classification_head."),
}
# The settings of each config that hold a dropout while a model is learnt.
_DROPOUTS: Mapping[Architecture, tuple[str, ...]] = {
    "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "modernbert": (
        "embedding_dropout",
        "mlp_dropout",
        "attention_dropout",
        "classifier_dropout",
    ),
    "llama": ("attention_dropout",),
    "qwen3": ("attention_dropout",),
    "t5": ("dropout_rate", "classifier_dropout"),
    "bart": ("dropout", "attention_dropout", "classifier_dropout"),
}


def set_dropout(config: PreTrainedConfig, share: float) -> None:
    """Drop `share` of the numbers wherever the architecture drops any."""
    for name in _DROPOUTS[config.model_type]:
        setattr(config, name, share)


def positions(config: PreTrainedConfig) -> int | None:
    """Most tokens a row may have; None where the checkpoint sets no bound, as T5's may not."""
    found = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    return int(found) if found else None
