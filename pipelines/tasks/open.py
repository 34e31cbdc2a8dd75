"""A task's settings and what it learns from, opened: the one place where kinds are told apart."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.core.errors import ConfigError
from pipelines.tasks.classify import ClassifyTask, encode, number, select
from pipelines.tasks.config import CausalLM, Classify, Denoise, MaskedLM, SpanCorruption, TaskConfig
from pipelines.tasks.masked_lm import MaskedLMTask, Special
from pipelines.tasks.protocol import Task
from pipelines.tokenizer.load import open_tokenizer
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


@dataclass(frozen=True)
class Batching:
    """How rows become batches: the seed of their order, rows a step, and parts a batch."""

    seed: int
    batch_rows: int
    parts: int


def open_task(config: TaskConfig, rows: Rows, batching: Batching) -> tuple[Task, int]:
    """The task, and the most tokens a row of it has.

    Raises:
        DataError: the rows do not serve the task.
    """
    tokenizer, order = open_tokenizer(rows.tokenizer), asdict(batching)
    match config:
        case MaskedLM():
            tokens = Tokens(rows.data)
            return MaskedLMTask(tokens, Special.of(tokenizer), config, **order), tokens.length
        case Classify(max_length=max_length):
            table = select(rows.data, rows.split, rows.max_rows)
            encoded = encode(tokenizer, table["text"].to_pylist(), max_length)
            labels = number(table["label"].to_pylist(), rows.labels, str(rows.data))
            pad_id = tokenizer.pad_token_id
            return ClassifyTask(encoded, labels, pad_id=pad_id, **order), max_length
        case CausalLM() | SpanCorruption() | Denoise():
            raise ConfigError(f"task {config.kind} is not built yet; expected masked-lm or classify")
