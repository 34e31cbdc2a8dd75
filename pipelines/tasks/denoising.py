"""Denoising: token rows in; the same texts infilled and with shuffled sentences, to be restored.

A row's sentences are put in random order; then spans of tokens, of Poisson-distributed lengths, are
each replaced by one [MASK], those of length 0 among them. What is written is the row as it was.

Source: Lewis et al. 2020, section 2.2, "Text Infilling" and "Sentence Permutation"; the shares as
in section 5.1 (30 % of tokens, all sentences permuted).
"""

import numpy as np

from pipelines.tasks.config import Denoise
from pipelines.tasks.seq2seq import Pair
from pipelines.tasks.special import Special
from pipelines.tokens.shards import Row


def noised(
    row: Row, random: np.random.Generator, *, config: Denoise, special: Special, end_id: int
) -> Pair:
    """The row with its noise, and as it was; `[CLS]` and the end token around both."""
    target = row.ids.astype(np.int64)
    source = shuffled(target, row.sentences, random) if config.permute_sentences else target
    source = infilled(source, config, special.mask, random)

    def framed(ids: np.ndarray) -> np.ndarray:
        return np.concatenate([[special.cls], ids, [end_id]])

    return Pair(framed(source), framed(target))


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
