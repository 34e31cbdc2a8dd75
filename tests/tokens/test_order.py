"""The order of training: each row once an epoch, whoever asks and from whatever step."""

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.tokens.order import Order, order

LENGTHS = st.lists(st.integers(1, 125), min_size=1, max_size=200).map(np.array)
SEEDS = st.integers(0, 2**40)


@given(lengths=LENGTHS, seed=SEEDS, epoch=st.integers(0, 9), batch_rows=st.integers(1, 40))
def test_every_row_comes_exactly_once_an_epoch(
    lengths: NDArray[np.int64], seed: int, epoch: int, batch_rows: int
) -> None:
    assert sorted(order(lengths, seed, epoch, batch_rows)) == list(range(len(lengths)))


@given(lengths=LENGTHS, seed=SEEDS, batch_rows=st.integers(1, 40))
def test_the_batches_of_an_epoch_are_its_order_cut_up(
    lengths: NDArray[np.int64], seed: int, batch_rows: int
) -> None:
    run = Order(lengths, seed, batch_rows)
    steps = range(run.steps_per_epoch, 2 * run.steps_per_epoch)
    batches = [run.batch(step) for step in steps]
    assert {epoch for epoch, _ in batches} == {1}
    rows = np.concatenate([rows for _, rows in batches])
    assert rows.tolist() == order(lengths, seed, 1, batch_rows).tolist()
    assert [len(rows) for _, rows in batches[:-1]] == [batch_rows] * (len(batches) - 1)


@given(lengths=LENGTHS, seed=SEEDS, steps=st.lists(st.integers(0, 50), max_size=8))
def test_a_step_has_the_same_rows_whatever_was_asked_before(
    lengths: NDArray[np.int64], seed: int, steps: list[int]
) -> None:
    used = Order(lengths, seed, 8)
    for step in steps:
        fresh = Order(lengths, seed, 8)
        assert used.batch(step)[0] == fresh.batch(step)[0]
        assert used.batch(step)[1].tolist() == fresh.batch(step)[1].tolist()


def test_epochs_and_seeds_differ() -> None:
    lengths = np.arange(1, 101)
    orders = [order(lengths, seed, epoch, 8) for seed in (0, 1) for epoch in (0, 1)]
    assert len({rows.tobytes() for rows in orders}) == 4


def test_the_order_never_changes_between_releases() -> None:
    """Raw Philox output is fixed for good, so a resumed run meets the rows it would have met."""
    rows = order(np.arange(1000) % 125, 7, 3, 32).astype("<i8")
    assert hashlib.sha256(rows.tobytes()).hexdigest()[:16] == "00a3b38ae2995060"


def test_a_batch_has_rows_of_like_length() -> None:
    """Lengths 1 to 125 at random, 4,096 rows: sorted windows of 32 batches pad under 5 %."""
    lengths = np.random.default_rng(0).integers(1, 126, 4096)
    batches = order(lengths, 0, 0, 32).reshape(-1, 32)
    padded = lengths[batches].max(axis=1).sum() * 32
    assert lengths.sum() / padded > 0.95
    shuffled = lengths.reshape(-1, 32)
    assert lengths.sum() / (shuffled.max(axis=1).sum() * 32) < 0.55  # without: half is padding


def test_short_and_long_batches_are_mixed() -> None:
    lengths = np.random.default_rng(0).integers(1, 126, 4096)
    means = lengths[order(lengths, 0, 0, 32)].reshape(-1, 32).mean(axis=1)
    steps = np.arange(len(means))
    assert abs(np.corrcoef(steps, means)[0, 1]) < 0.3  # 0.27 is 3 sigma for 128 batches
