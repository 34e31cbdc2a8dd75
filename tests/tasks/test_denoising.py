"""Infilled and shuffled texts: their shares, and what is kept."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.tasks.config import Denoise
from pipelines.tasks.denoising import infilled, noised, shuffled
from pipelines.tasks.seq2seq import Pair
from pipelines.tasks.special import Special
from pipelines.tokens.shards import Row
from tests.tasks.tiny import CLS, MASK, PAD, SEP, VOCABULARY

SPECIAL = Special(PAD, CLS, SEP, MASK, np.arange(10, VOCABULARY))
ROW = Row(np.array([10] * 7 + [30] * 13 + [50] * 4), np.array([0, 7, 20], np.uint32))


def draws(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def pair(seed: int, **settings: object) -> Pair:
    config = Denoise.model_validate(settings)
    return noised(ROW, draws(seed), config=config, special=SPECIAL, end_id=SEP)


def test_what_is_written_is_the_row_framed() -> None:
    for seed in range(20):
        source, target = pair(seed)
        assert target.tolist() == [CLS, *ROW.ids.tolist(), SEP]
        assert (source[0], source[-1]) == (CLS, SEP)
        # 30 % of 24 tokens, rounded, are gone; what is left are the row's and masks.
        kept = Counter(source[1:-1].tolist())
        assert kept.pop(MASK) >= 1
        assert sum(kept.values()) == 24 - 7
        assert kept <= Counter(target.tolist())


@given(
    length=st.integers(1, 300),
    share=st.floats(0.01, 0.99),
    mean=st.floats(1, 20),
    seed=st.integers(0, 99),
)
def test_spans_leave_the_rest_in_order(length: int, share: float, mean: float, seed: int) -> None:
    ids = np.arange(100, 100 + length)
    found = infilled(ids, Denoise(mask_share=share, mean_span=mean), MASK, draws(seed))
    kept = found[found != MASK]
    masked = round(share * length)
    assert len(kept) == length - masked
    assert (np.diff(kept) > 0).all()
    assert len(found) <= length  # no row grows longer than it was
    # Every gap that a span left has one mask, so a mask never touches another.
    holes = np.diff(np.concatenate([[99], kept, [100 + length]])) > 1
    marks = np.flatnonzero(found == MASK)
    assert holes.sum() <= len(marks)
    assert (np.diff(marks) > 1).all()


def test_spans_have_poisson_lengths() -> None:
    lengths: Counter[int] = Counter()
    ids = np.arange(100, 2100)
    for seed in range(20):
        found = infilled(ids, Denoise(), MASK, draws(seed))
        before = np.concatenate([[99], found])
        for mark in np.flatnonzero(found == MASK):
            after = found[mark + 1] if mark + 1 < len(found) else 2100
            lengths[int(after - before[mark]) - 1] += 1
    total = sum(lengths.values())
    # e^-3 3^n / n!: .0498, .2240 and .1008. About 4,000 draws: five standard deviations are .033.
    for length, share in ((0, 0.0498), (3, 0.2240), (5, 0.1008)):
        assert lengths[length] / total == pytest.approx(share, abs=0.033)


def test_sentences_are_shuffled_whole() -> None:
    ids, starts = np.arange(10), np.array([0, 3, 7])
    seen = {tuple(shuffled(ids, starts, draws(seed)).tolist()) for seed in range(60)}
    one, two, three = (0, 1, 2), (3, 4, 5, 6), (7, 8, 9)
    assert seen == {
        (*a, *b, *c)
        for a, b, c in [
            (one, two, three),
            (one, three, two),
            (two, one, three),
            (two, three, one),
            (three, one, two),
            (three, two, one),
        ]
    }


def test_sentences_stay_where_they_are_if_asked() -> None:
    for seed in range(6):
        source = pair(seed, permute_sentences=False).source
        kept = source[(source != MASK) & (source >= 10)]
        assert (np.diff(kept) >= 0).all()
