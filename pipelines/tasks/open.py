"""A task's settings and what it learns from, opened: the one place where kinds are told apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import assert_never

from transformers import PreTrainedTokenizerFast

from pipelines.core.errors import DataError
from pipelines.tasks.causal_lm import CausalLMTask
from pipelines.tasks.classify import ClassifyTask, encode, number, select
from pipelines.tasks.config import (
    CausalLM,
    Classify,
    Denoise,
    MaskedLM,
    SpanCorruption,
    TaskConfig,
)
from pipelines.tasks.denoising import noised
from pipelines.tasks.masked_lm import MaskedLMTask
from pipelines.tasks.packed import refuse_packed
from pipelines.tasks.protocol import Task
from pipelines.tasks.seq2seq import RewriteTask
from pipelines.tasks.span_corruption import check_sentinels, corrupted
from pipelines.tasks.special import Special, end_id, pad_id
from pipelines.tokenizer.load import open_tokenizer, sentinels
from pipelines.tokens.shards import Tokens


@dataclass(frozen=True)
class Rows:
    """Where rows come from: a Tokens or Corpus folder, the tokenizer's folder, and which rows.

    `labels`, `split` and `max_rows` serve tasks that read a Corpus; see `classify.select`.
    """

    data: Path
    tokenizer: Path
    labels: Sequence[str] = ()
    split: str = "train"
    max_rows: int | None = None


def open_task(config: TaskConfig, rows: Rows, seed: int) -> tuple[Task, int]:
    """The task, and the most tokens a row of it has; `seed` is of what it draws.

    Raises:
        ConfigError: the tokenizer lacks what the task builds rows with.
        DataError: the rows do not serve the task, or are another tokenizer's.
    """
    tokenizer = open_tokenizer(rows.tokenizer)
    if isinstance(config, Classify):
        return _classify(config, rows, tokenizer), config.max_length
    tokens = Tokens(rows.data)
    if tokens.vocab_size != len(tokenizer):
        raise DataError(
            f"{rows.data}: Tokens of a vocabulary of {tokens.vocab_size} entries, the tokenizer at "
            f"{rows.tokenizer} has {len(tokenizer)}; give the one they were made with"
        )
    return _pretraining(config, tokens, tokenizer, seed), tokens.length


def _classify(config: Classify, rows: Rows, tokenizer: PreTrainedTokenizerFast) -> Task:
    table = select(rows.data, rows.split, rows.max_rows)
    encoded = encode(tokenizer, table["text"].to_pylist(), config.max_length)
    labels = number(table["label"].to_pylist(), rows.labels, str(rows.data))
    return ClassifyTask(encoded, labels, pad_id=tokenizer.pad_token_id)


def _pretraining(
    config: MaskedLM | CausalLM | SpanCorruption | Denoise,
    tokens: Tokens,
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
) -> Task:
    match config:
        case MaskedLM():
            return MaskedLMTask(tokens, Special.of(tokenizer), config, seed=seed)
        case CausalLM():
            return CausalLMTask(tokens, pad_id=pad_id(tokenizer))
        case SpanCorruption():
            refuse_packed(tokens, config.kind)
            marks = sentinels(tokenizer)
            check_sentinels(len(marks), tokens.lengths, config)
            end = end_id(tokenizer)
            rewrite = partial(corrupted, config=config, sentinels=marks, end_id=end)
            return RewriteTask(tokens, rewrite, pad_id=pad_id(tokenizer), seed=seed)
        case Denoise():
            refuse_packed(tokens, config.kind)
            special, end = Special.of(tokenizer), end_id(tokenizer)
            rewrite = partial(noised, config=config, special=special, end_id=end)
            return RewriteTask(tokens, rewrite, pad_id=special.pad, seed=seed)
        case _:
            assert_never(config)
