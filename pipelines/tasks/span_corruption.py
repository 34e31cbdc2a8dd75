"""Span corruption: token rows in; texts with spans cut out, and the spans, out.

    Thank you for inviting me to your party last week .
    reads   Thank you <extra_id_0> me to your party <extra_id_1> week . </s>
    writes  <extra_id_0> for inviting <extra_id_1> last </s>

Source: Raffel et al. 2020, section 3.1.4 and figure 2; number and lengths of spans as in
`random_spans_noise_mask` of their `t5.data.preprocessors`, but for one thing: theirs ends every row
with a span. A row of up to 30 tokens has only one, and would lose its last tokens in every epoch.
"""

from collections.abc import Mapping
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import numpy as np
import torch

from pipelines.core.errors import ConfigError
from pipelines.tasks import seq2seq
from pipelines.tasks.chance import generator
from pipelines.tasks.config import SpanCorruption
from pipelines.tasks.packed import refuse_packed
from pipelines.tasks.protocol import Batch, shards
from pipelines.tokens.order import Order
from pipelines.tokens.shards import Tokens


class Corrupted(NamedTuple):
    """What is read and what is to be written, ids of each."""

    source: np.ndarray
    target: np.ndarray


class SpanCorruptionTask:
    """Rows of `tokens`, with other spans cut out each epoch.

    Raises:
        ConfigError: a row may have more spans than the tokenizer has sentinels.
        DataError: rows hold several documents.
    """

    objectives: Mapping[str, float] = {"token_loss": 1.0}

    def __init__(
        self,
        tokens: Tokens,
        config: SpanCorruption,
        *,
        sentinels: np.ndarray,
        end_id: int,
        pad_id: int,
        seed: int,
        batch_rows: int,
        parts: int,
    ) -> None:
        refuse_packed(tokens, config.kind)
        lengths = tokens.lengths
        most = max(counts(length, config)[1] for length in np.unique(lengths).tolist())
        if most > len(sentinels):
            raise ConfigError(
                f"span-corruption cuts up to {most} spans out of rows of {lengths.max()} tokens, "
                f"the tokenizer has {len(sentinels)} sentinels (<extra_id_0> and so on); make it "
                f"with tokenizer.sentinels={most}, or raise task.mean_span"
            )
        self._tokens, self._config, self._sentinels = tokens, config, sentinels
        self._end_id, self._pad_id, self._seed, self._parts = end_id, pad_id, seed, parts
        self._order = Order(lengths, seed, batch_rows)

    @property
    def num_rows(self) -> int:
        """Rows of one epoch."""
        return self._tokens.num_rows

    def batches(self, step: int) -> list[Batch]:
        """Every part of the batch of step `step`."""
        epoch, rows = self._order.batch(step)
        return [self._batch(part, epoch) for part in shards(rows, self._parts)]

    def sums(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """Sums of the loss and of right answers over what is written."""
        return seq2seq.sums(model, batch)

    def example(self, row: int, epoch: int) -> Corrupted:
        """Row `row` as it is seen in `epoch`."""
        ids = self._tokens.row(row).ids.astype(np.int64)
        random = generator(self._seed, epoch, row)
        pieces = np.split(ids, edges(len(ids), self._config, random))
        kept, cut = pieces[::2], pieces[1::2]
        marks = list(self._sentinels[: len(cut), None])
        end = [np.array([self._end_id])]
        source = chain.from_iterable(zip_longest(kept, marks, fillvalue=ids[:0]))
        target = chain.from_iterable(zip(marks, cut, strict=True))
        return Corrupted(np.concatenate([*source, *end]), np.concatenate([*target, *end]))

    def _batch(self, rows: np.ndarray, epoch: int) -> Batch:
        made = [self.example(row, epoch) for row in rows.tolist()]
        sources, targets = [one.source for one in made], [one.target for one in made]
        return seq2seq.batch(sources, targets, rows, self._pad_id)


def edges(length: int, config: SpanCorruption, random: np.random.Generator) -> np.ndarray:
    """Where kept text and spans take turns in a row of `length` tokens; none in a row of one.

    Kept text comes first and last; only the last may be empty.
    """
    noise, spans = counts(length, config)
    if not spans:
        return np.empty(0, np.int64)
    sizes = np.empty(2 * spans + 1, np.int64)
    sizes[::2] = segments(length - noise + 1, spans + 1, random)
    sizes[1::2] = segments(noise, spans, random)
    return np.cumsum(sizes)[:-1]


def counts(length: int, config: SpanCorruption) -> tuple[int, int]:
    """Tokens cut out of a row of `length`, and in how many spans."""
    noise = min(max(round(length * config.noise_share), 1), length - 1)
    return noise, min(max(round(noise / config.mean_span), 1), noise, length - noise)


def segments(total: int, parts: int, random: np.random.Generator) -> np.ndarray:
    """`total` as a sum of `parts` positive numbers, every such sum equally likely: (parts,)."""
    inner = np.sort(random.permutation(total - 1)[: parts - 1]) + 1
    return np.diff(np.concatenate([[0], inner, [total]]))
