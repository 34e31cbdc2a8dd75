"""Text classification: labelled rows of a Corpus in; batches, loss and accuracy out.

`select` decides which rows of a corpus are used, for training, judging and baselines alike.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import xxhash
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from pipelines.core.errors import DataError
from pipelines.tasks.protocol import Batch, inputs
from pipelines.tokenizer.load import encode_texts

COLUMNS = ["id", "text", "label"]
NO_LABEL = -100  # cross_entropy's ignore_index


def select(folder: Path, split: str, max_rows: int | None = None) -> pa.Table:
    """Columns `id`, `text`, `label` of a Corpus folder's rows in `split`, in corpus order.

    Args:
        folder: the Corpus.
        split: `train` or `test`; an empty one takes all rows.
        max_rows: only the rows whose ids have the smallest 64-bit xxHash: a sample that is the
            same for every stage and on every machine.

    Raises:
        DataError: no row is in the split.
    """
    parts = sorted((folder / "data").glob("*.parquet"))
    filters = (pc.field("split") == split) if split else None
    tables = [pq.read_table(part, columns=COLUMNS, filters=filters) for part in parts]
    rows = sum(table.num_rows for table in tables)
    if not rows:
        raise DataError(
            f"{folder}: no row in split {split!r}; expected some: check the split's name and "
            "corpus.holdout"
        )
    table = pa.concat_tables(tables)
    if max_rows is None or max_rows >= rows:
        return table
    hashes = [xxhash.xxh64_intdigest(name.encode()) for name in table["id"].to_pylist()]
    first = np.argsort(np.array(hashes, dtype=np.uint64), kind="stable")[:max_rows]
    return table.take(np.sort(first))


def labelled(table: pa.Table, where: str) -> list[str]:
    """The label of every row of `table`.

    Raises:
        DataError: a row has none; names the first and counts them.
    """
    labels: list[str | None] = table["label"].to_pylist()
    missing = [place for place, label in enumerate(labels) if label is None]
    if missing:
        raise DataError(
            f"{where}: {len(missing)} of {len(labels)} rows have no label, the first is "
            f"{table['id'][missing[0]]}; expected one on every row: give the corpus source a label "
            "column, or drop these rows"
        )
    return [label for label in labels if label is not None]


def number(labels: Sequence[str | None], names: Sequence[str], where: str) -> np.ndarray:
    """Each label's place in `names`, int64 (N,); -100 where there is none.

    Raises:
        DataError: a label is not among `names`.
    """
    places: dict[str | None, int] = {name: place for place, name in enumerate(names)}
    places[None] = NO_LABEL
    unseen = sorted({label for label in labels if label is not None and label not in places})
    if unseen:
        raise DataError(
            f"{where}: label {unseen[0]!r} is not one the model knows ({', '.join(names)}); "
            "retrain with it, or drop its rows"
        )
    return np.array([places[label] for label in labels], dtype=np.int64)


def encode(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], max_length: int
) -> list[np.ndarray]:
    """`[CLS] text [SEP]` of each text, at most `max_length` ids."""
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    encoded = encode_texts(tokenizer, list(texts), max_length - 2)
    return [np.array([cls, *ids, sep], dtype=np.int64) for ids in encoded]


class ClassifyTask:
    """Encoded texts and the number of each one's label."""

    objectives: Mapping[str, float] = {"label_loss": 1.0}

    def __init__(self, rows: Sequence[np.ndarray], labels: np.ndarray, *, pad_id: int) -> None:
        self._rows, self._labels, self._pad_id = rows, labels, pad_id
        self.lengths = np.array([len(row) for row in rows])

    def batch(self, rows: np.ndarray, epoch: int) -> Batch:  # noqa: ARG002 (the same in each)
        """These rows, alike in every epoch."""
        chosen = [self._rows[row] for row in rows]
        labels = torch.from_numpy(self._labels[rows])
        count = int((labels != NO_LABEL).sum())
        return Batch(
            inputs(chosen, self._pad_id) | {"labels": labels},
            {"label_loss": count, "label_accuracy": count},
            tuple(int(row) for row in rows),
            tokens=sum(len(row) for row in chosen),
        )

    def sums(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """Sums of the cross-entropy and of right answers."""
        return self.figures(scores(model, batch), batch)

    def figures(self, scores_BL: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        """The same from logits."""
        labels = batch.tensors["labels"]
        right = scores_BL.detach().argmax(-1) == labels
        loss = functional.cross_entropy(scores_BL, labels, reduction="sum", ignore_index=NO_LABEL)
        return {"label_loss": loss, "label_accuracy": right.sum().float()}


def scores(model: Any, batch: Batch) -> torch.Tensor:
    """Logits in fp32 (B, L)."""
    given = batch.tensors
    found = model(input_ids=given["input_ids"], attention_mask=given.get("attention_mask"))
    logits: torch.Tensor = found.logits.float()
    return logits
