"""Denoising: token rows in; the same texts infilled and with shuffled sentences, to be restored.

A row's sentences are put in random order; then spans of tokens, of Poisson-distributed lengths, are
each replaced by one [MASK], those of length 0 among them. What is written is the row as it was.

Source: Lewis et al. 2020, section 2.2, "Text Infilling" and "Sentence Permutation"; the shares as
in section 5.1 (30 % of tokens, all sentences permuted).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from pipelines.tasks import seq2seq
from pipelines.tasks.chance import generator
from pipelines.tasks.config import Denoise
from pipelines.tasks.packed import refuse_packed
from pipelines.tasks.protocol import Batch, shards
from pipelines.tasks.special import Special
from pipelines.tokens.order import Order
from pipelines.tokens.shards import Tokens


class Noised(NamedTuple):
    """What is read and what is to be written, ids of each, `[CLS]` and the end token included."""

    source: np.ndarray
    target: np.ndarray


class DenoiseTask:
    """Rows of `tokens`, with other noise each epoch.

    Raises:
        DataError: rows hold several documents.
    """

    objectives: Mapping[str, float] = {"token_loss": 1.0}

    def __init__(
        self,
        tokens: Tokens,
        config: Denoise,
        *,
        special: Special,
        end_id: int,
        seed: int,
        batch_rows: int,
        parts: int,
    ) -> None:
        refuse_packed(tokens, config.kind)
        self._tokens, self._config, self._special = tokens, config, special
        self._end_id, self._seed, self._parts = end_id, seed, parts
        self._order = Order(tokens.lengths, seed, batch_rows)

    @property
    def num_rows(self) -> int:
        """Rows of one epoch."""
        return self._tokens.num_rows

    def batches(self, step: int) -> list[Batch]:
        """Every part of the batch of step `step`."""
        epoch, rows = self._order.batch(step)
        return [self._batch(part, epoch) for part in shards(rows, self._parts)]

    def sums(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """Sums of the loss and of right answers over the restored texts."""
        return seq2seq.sums(model, batch)

    def example(self, row: int, epoch: int) -> Noised:
        """Row `row` as it is seen in `epoch`."""
        ids, starts = self._tokens.row(row)
        random = generator(self._seed, epoch, row)
        target = ids.astype(np.int64)
        source = shuffled(target, starts, random) if self._config.permute_sentences else target
        source = infilled(source, self._config, self._special.mask, random)
        return Noised(self._framed(source), self._framed(target))

    def _framed(self, ids: np.ndarray) -> np.ndarray:
        return np.concatenate([[self._special.cls], ids, [self._end_id]])

    def _batch(self, rows: np.ndarray, epoch: int) -> Batch:
        made = [self.example(row, epoch) for row in rows.tolist()]
        sources, targets = [one.source for one in made], [one.target for one in made]
        return seq2seq.batch(sources, targets, rows, self._special.pad)


def shuffled(ids: np.ndarray, starts: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The sentences that start at `starts` (the first at 0), in random order."""
    sentences = np.split(ids, starts[1:])
    return np.concatenate([sentences[place] for place in random.permutation(len(sentences))])


def infilled(
    ids: np.ndarray, config: Denoise, mask: int, random: np.random.Generator
) -> np.ndarray:
    """`ids` (N,) with spans of `mask_share` of them, each replaced by one `mask`.

    No two spans touch, so the number of masks is that of the spans.
    """
    masked = round(config.mask_share * len(ids))
    lengths = _lengths(masked, config.mean_span, random)
    # Spans lie in the gaps between kept tokens, before the first and after the last among them.
    gaps = len(ids) - masked + 1
    # No more spans than masked tokens: those of length 0 would make the row longer than it was.
    places = np.sort(random.permutation(gaps)[: min(len(lengths), masked)])
    spans = lengths[: len(places)]
    spans[-1:] += masked - spans.sum()  # what the spans left out would have covered
    kept = np.delete(ids, np.repeat(places, spans) + np.arange(masked))
    return np.insert(kept, places, mask)


def _lengths(total: int, mean: float, random: np.random.Generator) -> np.ndarray:
    """Poisson lengths that add up to `total`, the last drawn cut short, in random order."""
    lengths: list[int] = []
    while (left := total - sum(lengths)) > 0:
        lengths.append(min(left, int(random.poisson(mean))))
    return random.permutation(np.array(lengths, dtype=np.int64))
