"""Infilled and shuffled texts: their shares, what is kept, and the loss against transformers'."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.errors import DataError
from pipelines.tasks.config import Denoise
from pipelines.tasks.denoising import DenoiseTask, infilled, shuffled
from pipelines.tasks.special import Special
from pipelines.tokens.shards import Tokens
from tests.tasks.tiny import CLS, MASK, PAD, SEP, VOCABULARY, model, write_rows, write_tokens

SPECIAL = Special(PAD, CLS, SEP, MASK, np.arange(10, VOCABULARY))
ROWS = [(row, [[10 + row] * 7, [30 + row] * 13, [50 + row] * 4]) for row in range(12)]


def task(tokens: Tokens, parts: int = 1, seed: int = 0, **settings: object) -> DenoiseTask:
    config = Denoise.model_validate(settings)
    order = {"seed": seed, "batch_rows": 8, "parts": parts}
    return DenoiseTask(tokens, config, special=SPECIAL, end_id=SEP, **order)


def draws(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def test_what_is_written_is_the_row_framed(tmp_path: Path) -> None:
    tokens = write_rows(tmp_path, ROWS)
    made = task(tokens)
    for row in range(tokens.num_rows):
        source, target = made.example(row, 0)
        assert target.tolist() == [CLS, *tokens.row(row).ids.tolist(), SEP]
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


def test_sentences_stay_where_they_are_if_asked(tmp_path: Path) -> None:
    made = task(write_rows(tmp_path, ROWS), permute_sentences=False)
    for epoch in range(6):
        source = made.example(0, epoch).source
        kept = source[(source != MASK) & (source >= 10)]
        assert (np.diff(kept) >= 0).all()


def test_packed_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="denoise needs Tokens of packing=document"):
        task(write_tokens(tmp_path, [[10, 11]]))


def test_the_loss_is_transformers_own(tmp_path: Path) -> None:
    rows = [(row, [[10 + row] * (5 + row)]) for row in range(6)]
    made = task(write_rows(tmp_path, rows))
    (batch,) = made.batches(0)
    reader, given_ = model("bart"), batch.tensors
    with torch.no_grad():
        expected = reader(
            input_ids=given_["input_ids"],
            attention_mask=given_["attention_mask"],
            labels=given_["labels"],
        ).loss
        found = made.sums(reader, batch)["token_loss"] / batch.counts["token_loss"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_example_depends_on_seed_epoch_and_row_alone(tmp_path: Path) -> None:
    tokens = write_rows(tmp_path, ROWS)

    def source(seed: int, epoch: int, parts: int) -> list[int]:
        made = task(Tokens(tokens.folder), parts, seed)
        made.batches(3)  # what else was asked before plays no part
        return made.example(5, epoch).source.tolist()

    assert source(1, 2, 1) == source(1, 2, 2)
    assert source(1, 2, 1) != source(1, 3, 1)
    assert source(1, 2, 1) != source(2, 2, 1)
