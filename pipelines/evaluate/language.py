"""A language model and held-out token rows in; loss, perplexity and bits per byte out.

The model's own task makes the rows' batches, those of its first epoch under seed 0: the same masks
and cuts for every model that is compared.
"""

import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from transformers import PreTrainedTokenizerFast

from pipelines.core.artifact import Artifact
from pipelines.core.config import Json
from pipelines.core.errors import ConfigError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.model.checkpoint import load_model
from pipelines.tasks.batches import Batches
from pipelines.tasks.config import CausalLM, TaskConfig
from pipelines.tasks.metrics import LEVEL
from pipelines.tasks.open import Rows, open_task

BATCH_ROWS = 16
TASK: TypeAdapter[TaskConfig] = TypeAdapter(TaskConfig)
SPACE = "▁"  # what SentencePiece writes for a space


def judge_tokens(config: EvaluateConfig, model: Artifact, tokens: Artifact) -> Json:
    """The report of a Model on Tokens; see `judge_language`.

    Raises:
        ConfigError: the model's task does not learn from Tokens.
        DataError: the Tokens are another tokenizer's, or of a packing that the task does not take.
    """
    torch.set_num_threads(1)  # sums over threads are in no fixed order
    loaded = load_model(model.local())
    learnt: TaskConfig = TASK.validate_python(loaded.task)
    if learnt.reads != "Tokens":
        raise ConfigError(
            f"{model.uri} was made by task {learnt.kind}, which is judged on a Corpus; expected a "
            "language model for Tokens"
        )
    task, _ = open_task(learnt, Rows(tokens.local(), model.local()), seed=0)
    batches = Batches(task, seed=0, batch_rows=BATCH_ROWS, parts=1)
    rows = min(batches.num_rows, config.max_rows or batches.num_rows)
    return judge_language(
        loaded.model,
        batches,
        token_bytes(loaded.tokenizer) if isinstance(learnt, CausalLM) else None,
        steps=-(-rows // BATCH_ROWS),
        resamples=config.resamples,
        seed=config.seed,
    )


@torch.no_grad()
def judge_language(
    model: Any,
    batches: Batches,
    bytes_V: NDArray[np.int64] | None,
    *,
    steps: int,
    resamples: int,
    seed: int,
) -> Json:
    """Every figure of a task over its first `steps` batches, as JSON.

    Args:
        model: a transformers model that the task can ask; put into evaluation mode.
        batches: of epoch 0's rows.
        bytes_V: bytes that each entry stands for, where every token of a text is predicted, so that
            bits per byte mean something; None leaves them out.
        steps: how many of them.
        resamples: bootstrap resamples of the batches for the interval of the loss.
        seed: of the resampling.

    Returns:
        `rows`; `tokens` that were predicted; `loss` in nats a predicted token, its `interval` of
        95 %, `perplexity` (its exponential; of a masked model, of the masked tokens alone: a
        pseudo-perplexity) and, of a decoder, `bits_per_byte`; and the task's own figures.
    """
    model.eval()
    task = batches.task
    words = next(iter(task.objectives))  # the loss of words comes first, a pair's after it
    sums: dict[str, float] = defaultdict(float)
    counts: Counter[str] = Counter()
    losses, predicted, rows, size = [], [], 0, 0
    for part in (part for step in range(steps) for part in batches.whole(step) if part.rows):
        found = {name: float(one) for name, one in task.sums(model, part).items()}
        for name, one in found.items():
            sums[name] += one
        counts.update(part.counts)
        losses.append(found[words])
        predicted.append(part.counts[words])
        rows += len(part.rows)
        size += 0 if bytes_V is None else int(bytes_V[part.tensors["targets"].numpy()].sum())
    loss = sums[words] / max(1, counts[words])
    report = {
        "rows": rows,
        "tokens": counts[words],
        "loss": loss,
        "interval": _interval(np.array(losses), np.array(predicted), resamples, seed),
        "perplexity": math.exp(loss),
    }
    if bytes_V is not None:
        report["bits_per_byte"] = sums[words] / math.log(2) / max(1, size)
    return report | {name: total / max(1, counts[name]) for name, total in sums.items()}


def token_bytes(tokenizer: PreTrainedTokenizerFast) -> NDArray[np.int64]:
    """UTF-8 bytes of text that each entry stands for, 0 for special tokens: (V,).

    Exact for byte-level BPE and for SentencePiece's entries. WordPiece keeps no white space: an
    entry that begins a word counts one byte for the space before it.
    """
    kind = type(tokenizer.backend_tokenizer.model).__name__
    level = type(tokenizer.backend_tokenizer.decoder).__name__ == "ByteLevel"
    special = set(tokenizer.all_special_ids)
    entries = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    found = [
        0 if place in special else _entry_bytes(entry, kind, level)
        for place, entry in enumerate(entries)
    ]
    return np.array(found, dtype=np.int64)


def _entry_bytes(entry: str, kind: str, level: bool) -> int:
    if level:
        return len(entry)  # a character of its alphabet is a byte
    if kind == "WordPiece":
        inner = entry.removeprefix("##")
        return len(inner.encode()) + (inner == entry)
    if len(entry) == 6 and entry.startswith("<0x") and entry.endswith(">"):
        return 1  # SentencePiece's fallback to bytes
    return len(entry.replace(SPACE, " ").encode())


def _interval(
    losses_P: NDArray[np.float64], counts_P: NDArray[np.int64], resamples: int, seed: int
) -> list[float]:
    """Percentile bootstrap interval of the mean loss over batches (Efron 1979)."""
    random = np.random.Generator(np.random.PCG64(seed))
    means_R = np.empty(resamples)
    for resample in range(resamples):
        drawn_P = random.integers(len(losses_P), size=len(losses_P))
        means_R[resample] = losses_P[drawn_P].sum() / max(1, counts_P[drawn_P].sum())
    tail = (1 - LEVEL) / 2
    return [float(edge) for edge in np.quantile(means_R, [tail, 1 - tail])]
