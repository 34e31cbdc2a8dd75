"""Cut-out spans: their shares, and that nothing is lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.errors import ConfigError
from pipelines.tasks.config import SpanCorruption
from pipelines.tasks.seq2seq import Pair
from pipelines.tasks.span_corruption import check_sentinels, corrupted, counts, edges, segments
from pipelines.tokens.shards import Row
from tests.tasks.tiny import SEP

SENTINELS = np.array([6, 7, 8, 9])


def pair(row: Row, seed: int = 0, **settings: object) -> Pair:
    config = SpanCorruption.model_validate(settings)
    ids = {"config": config, "sentinels": SENTINELS, "end_id": SEP}
    return corrupted(row, np.random.Generator(np.random.Philox(seed)), **ids)


def restored(source: list[int], target: list[int]) -> list[int]:
    """The text that a source and its spans are of, as the paper's figure 2 reads."""
    spans: dict[int, list[int]] = {}
    for one in target[:-1]:
        if one in SENTINELS:
            spans[one] = last = []
        else:
            last.append(one)
    text = [word for one in source[:-1] for word in spans.get(one, [one])]
    assert list(spans) == [one for one in source if one in SENTINELS] == sorted(spans)
    return text


def test_source_and_spans_are_the_whole_row() -> None:
    row = Row(np.array([10] * 7 + [30] * 13, np.uint16), np.array([0, 7], np.uint32))
    for seed in range(60):
        source, target = (ids.tolist() for ids in pair(row, seed))
        assert source[-1] == target[-1] == SEP
        assert restored(source, target) == row.ids.tolist()
        # 15 % of 20 tokens in spans of 3: one span of three tokens, and the end.
        assert (len(source), len(target)) == (17 + 1 + 1, 1 + 3 + 1)
        assert source[0] not in SENTINELS  # a row begins with kept text


def test_a_row_of_one_token_is_left_whole() -> None:
    source, target = pair(Row(np.array([10], np.uint16), np.array([0], np.uint32)))
    assert (source.tolist(), target.tolist()) == ([10, SEP], [SEP])


@given(length=st.integers(1, 600), share=st.floats(0.01, 0.99), mean=st.floats(1, 40))
def test_every_row_is_cut_into_kept_text_and_spans(length: int, share: float, mean: float) -> None:
    config = SpanCorruption(noise_share=share, mean_span=mean)
    noise, spans = counts(length, config)
    cuts = edges(length, config, np.random.Generator(np.random.Philox(3)))
    sizes = np.diff([0, *cuts, length])
    assert len(sizes) == 2 * spans + 1
    assert sizes[:-1].min(initial=1) >= 1
    assert sizes[-1] >= 0
    assert sizes[1::2].sum() == (noise if spans else 0)


def test_the_counts_are_those_of_t5s_own_function() -> None:
    # round(512 * .15) = 77 tokens in round(77 / 3) = 26 spans; see random_spans_noise_mask.
    assert counts(512, SpanCorruption()) == (77, 26)
    assert counts(2, SpanCorruption()) == (1, 1)


def test_every_way_to_share_out_is_equally_likely() -> None:
    random = np.random.Generator(np.random.Philox(1))
    drawn = [tuple(segments(5, 3, random).tolist()) for _ in range(3000)]
    ways = {(1, 1, 3), (1, 3, 1), (3, 1, 1), (1, 2, 2), (2, 1, 2), (2, 2, 1)}
    assert set(drawn) == ways
    # 3,000 draws of 1/6: five standard deviations are 0.034.
    assert all(drawn.count(way) / 3000 == pytest.approx(1 / 6, abs=0.034) for way in ways)


def test_too_few_sentinels_are_an_error_with_the_number_needed() -> None:
    config = SpanCorruption(noise_share=0.5, mean_span=2)
    with pytest.raises(ConfigError, match=r"up to 5 spans.*has 4 sentinels.*sentinels=5"):
        check_sentinels(4, np.array([3, 20, 20]), config)
    check_sentinels(5, np.array([3, 20, 20]), config)
