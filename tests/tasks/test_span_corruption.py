"""Cut-out spans: their shares, that nothing is lost, and the loss against transformers' own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.errors import ConfigError, DataError
from pipelines.tasks.config import SpanCorruption
from pipelines.tasks.span_corruption import SpanCorruptionTask, counts, edges, segments
from pipelines.tokens.shards import Tokens
from tests.tasks.tiny import PAD, SEP, model, write_rows, write_tokens

SENTINELS = np.array([6, 7, 8, 9])
ROWS = [(row, [[10 + row] * 7, [30 + row] * 13]) for row in range(12)]


def task(tokens: Tokens, parts: int = 1, seed: int = 0, **settings: object) -> SpanCorruptionTask:
    config = SpanCorruption.model_validate(settings)
    ids = {"sentinels": SENTINELS, "end_id": SEP, "pad_id": PAD}
    return SpanCorruptionTask(tokens, config, **ids, seed=seed, batch_rows=8, parts=parts)


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


def test_source_and_spans_are_the_whole_row(tmp_path: Path) -> None:
    tokens = write_rows(tmp_path, ROWS)
    made = task(tokens)
    for row in range(tokens.num_rows):
        for epoch in range(5):
            source, target = (ids.tolist() for ids in made.example(row, epoch))
            assert source[-1] == target[-1] == SEP
            assert restored(source, target) == tokens.row(row).ids.tolist()
            # 15 % of 20 tokens in spans of 3: one span of three tokens, and the end.
            assert (len(source), len(target)) == (17 + 1 + 1, 1 + 3 + 1)
            assert source[0] not in SENTINELS  # a row begins with kept text


def test_a_row_of_one_token_is_left_whole(tmp_path: Path) -> None:
    source, target = task(write_rows(tmp_path, [(0, [[10]])])).example(0, 0)
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


def test_too_few_sentinels_are_an_error_with_the_number_needed(tmp_path: Path) -> None:
    tokens = write_rows(tmp_path, ROWS)
    with pytest.raises(ConfigError, match=r"up to 5 spans.*has 4 sentinels.*sentinels=5"):
        task(tokens, noise_share=0.5, mean_span=2)


def test_packed_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="span-corruption needs Tokens of packing=document"):
        task(write_tokens(tmp_path, [[10, 11]]))


def test_the_loss_is_transformers_own(tmp_path: Path) -> None:
    rows = [(row, [[10 + row] * (5 + row)]) for row in range(6)]
    made = task(write_rows(tmp_path, rows))
    (batch,) = made.batches(0)
    reader, given_ = model("t5"), batch.tensors
    assert "attention_mask" in given_
    with torch.no_grad():
        expected = reader(
            input_ids=given_["input_ids"],
            attention_mask=given_["attention_mask"],
            labels=given_["labels"],
        ).loss
        found = made.sums(reader, batch)["token_loss"] / batch.counts["token_loss"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert batch.counts["token_loss"] == int((given_["labels"] != -100).sum())


def test_an_example_depends_on_seed_epoch_and_row_alone(tmp_path: Path) -> None:
    tokens = write_rows(tmp_path, ROWS)

    def source(seed: int, epoch: int, parts: int) -> list[int]:
        made = task(Tokens(tokens.folder), parts, seed)
        made.batches(3)  # what else was asked before plays no part
        return made.example(5, epoch).source.tolist()

    assert source(1, 2, 1) == source(1, 2, 2)
    # 18 places for one span: the same in five epochs by chance once in 100,000 runs.
    assert len({tuple(source(1, epoch, 1)) for epoch in range(5)}) > 1


def test_fewer_rows_than_a_batch_are_one_short_batch(tmp_path: Path) -> None:
    full, empty = task(write_rows(tmp_path, ROWS[:1]), parts=2).batches(5)
    assert (full.rows, empty.rows, empty.counts["token_loss"]) == ((0,), (), 0)
