"""Span corruption: token rows in; texts with spans cut out, and the spans, out.

    Thank you for inviting me to your party last week .
    reads   Thank you <extra_id_0> me to your party <extra_id_1> week . </s>
    writes  <extra_id_0> for inviting <extra_id_1> last </s>

Source: Raffel et al. 2020, section 3.1.4 and figure 2; number and lengths of spans as in
`random_spans_noise_mask` of their `t5.data.preprocessors`, but for one thing: theirs ends every row
with a span. A row of up to 30 tokens has only one, and would lose its last tokens in every epoch.
"""

from itertools import chain, zip_longest

import numpy as np

from pipelines.core.errors import ConfigError
from pipelines.tasks.config import SpanCorruption
from pipelines.tasks.seq2seq import Pair
from pipelines.tokens.shards import Row


def check_sentinels(available: int, lengths: np.ndarray, config: SpanCorruption) -> None:
    """Rows of `lengths` tokens have no more spans than there are sentinels.

    Raises:
        ConfigError: one may have more.
    """
    most = max(counts(length, config)[1] for length in np.unique(lengths).tolist())
    if most > available:
        raise ConfigError(
            f"span-corruption cuts up to {most} spans out of rows of {lengths.max()} tokens, the "
            f"tokenizer has {available} sentinels (<extra_id_0> and so on); make it with "
            f"tokenizer.sentinels={most}, or raise task.mean_span"
        )


def corrupted(
    row: Row,
    random: np.random.Generator,
    *,
    config: SpanCorruption,
    sentinels: np.ndarray,
    end_id: int,
) -> Pair:
    """The row with each span cut out and its sentinel there; and the spans after theirs."""
    ids = row.ids.astype(np.int64)
    pieces = np.split(ids, edges(len(ids), config, random))
    kept, cut = pieces[::2], pieces[1::2]
    marks = list(sentinels[: len(cut), None])
    end = [np.array([end_id])]
    source = chain.from_iterable(zip_longest(kept, marks, fillvalue=ids[:0]))
    target = chain.from_iterable(zip(marks, cut, strict=True))
    return Pair(np.concatenate([*source, *end]), np.concatenate([*target, *end]))


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
