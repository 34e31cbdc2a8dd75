"""Tasks that rewrite rows: their batches, and the loss against transformers' own."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.tasks.config import Denoise, SpanCorruption
from pipelines.tasks.denoising import noised
from pipelines.tasks.seq2seq import RewriteTask
from pipelines.tasks.span_corruption import corrupted
from pipelines.tasks.special import Special
from pipelines.tokens.shards import Tokens
from tests.tasks.tiny import CLS, MASK, PAD, SEP, VOCABULARY, model, write_rows

SPECIAL = Special(PAD, CLS, SEP, MASK, np.arange(10, VOCABULARY))
CUT = partial(corrupted, config=SpanCorruption(), sentinels=np.array([6, 7, 8, 9]), end_id=SEP)
NOISE = partial(noised, config=Denoise(), special=SPECIAL, end_id=SEP)
REWRITES = pytest.mark.parametrize(("rewrite", "family"), [(CUT, "t5"), (NOISE, "bart")])
ROWS = [(row, [[10 + row] * (5 + row), [30 + row] * 13]) for row in range(12)]


def task(tokens: Tokens, rewrite: partial, seed: int = 0) -> RewriteTask:
    return RewriteTask(tokens, rewrite, pad_id=PAD, seed=seed)


@REWRITES
def test_the_loss_is_transformers_own(rewrite: partial, family: str, tmp_path: Path) -> None:
    made = task(write_rows(tmp_path, ROWS), rewrite)
    batch, reader = made.batch(np.arange(8), 0), model(family)
    given = {name: batch.tensors[name] for name in ("input_ids", "attention_mask", "labels")}
    with torch.no_grad():
        expected = reader(**given).loss
        found = made.sums(reader, batch)["token_loss"] / batch.counts["token_loss"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert batch.counts["token_loss"] == int((given["labels"] != -100).sum())


@REWRITES
def test_an_example_depends_on_seed_epoch_and_row_alone(
    rewrite: partial, family: str, tmp_path: Path
) -> None:
    tokens = write_rows(tmp_path, ROWS)

    def source(seed: int, epoch: int, before: int = 0) -> list[int]:
        made = task(Tokens(tokens.folder), rewrite, seed)
        made.batch(np.arange(before), epoch)  # what else was asked before plays no part
        return made.example(11, epoch).source.tolist()

    assert source(1, 2) == source(1, 2, before=5)
    # Some 25 places for one span: the same in eight epochs by chance once in 10^9 runs.
    assert len({tuple(source(1, epoch)) for epoch in range(8)}) > 1
    assert len({tuple(source(seed, 0)) for seed in range(8)}) > 1


@REWRITES
def test_no_rows_are_a_batch_too(rewrite: partial, family: str, tmp_path: Path) -> None:
    empty = task(write_rows(tmp_path, ROWS), rewrite).batch(np.arange(0), 5)
    assert (empty.rows, empty.counts["token_loss"], empty.tokens) == ((), 0, 0)
