"""The next token of the same document: what is predicted, and that packing changes no loss."""

import itertools
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from pipelines.core.errors import DataError
from pipelines.tasks.causal_lm import CausalLMTask
from pipelines.tasks.protocol import Batch
from pipelines.tokens.shards import Tokens
from tests.tasks.tiny import END, PAD, Documents, embedded, model, write_rows, write_tokens

MODELS = {
    (kind, attention): model(kind, attention)
    for kind in ("llama", "qwen3")
    for attention in ("sdpa", "eager")
}
TEXTS = st.lists(st.lists(st.integers(10, 63), min_size=1, max_size=24), min_size=1, max_size=4)


def task(tokens: Tokens) -> CausalLMTask:
    return CausalLMTask(tokens, pad_id=PAD)


def whole(tokens: Tokens) -> Batch:
    return task(tokens).batch(np.arange(tokens.num_rows), 0)


def alone(decoder: Any, ids: list[int]) -> torch.Tensor:
    """The summed loss of a piece that has a forward pass of transformers' own to itself."""
    row_1T = torch.tensor([ids])
    scores_TV = decoder(input_ids=row_1T).logits[0]
    return functional.cross_entropy(scores_TV[:-1], row_1T[0, 1:], reduction="sum")


def pieces(tokens: Tokens) -> list[list[int]]:
    found = []
    for row in range(tokens.num_rows):
        ids = tokens.row(row).ids.tolist()
        found += [ids[piece.start : piece.end] for piece in tokens.pieces(row)]
    return found


def test_a_token_is_predicted_from_the_one_before_it_in_its_document(tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path, [[10, 11], [20], [30, 31, 32, 33, 34, 35]], length=8)
    assert tokens.row(0).ids.tolist() == [10, 11, END, 20, END, 30, 31, 32]
    assert tokens.row(1).ids.tolist() == [33, 34, 35, END]
    batch = whole(tokens)
    rows = {tuple(row): place for place, row in enumerate(batch.tensors["input_ids"].tolist())}
    ids = batch.tensors["input_ids"].flatten().tolist()
    pairs = [
        (ids[at], target)
        for at, target in zip(
            batch.tensors["positions"].tolist(), batch.tensors["targets"].tolist(), strict=True
        )
    ]
    # Not 20 after END, nor 30 after END, nor 33, which begins a row.
    expected = [(10, 11), (11, END), (20, END), (30, 31), (31, 32), (33, 34), (34, 35), (35, END)]
    assert sorted(pairs) == sorted(expected)
    assert batch.counts == {"token_loss": 8, "token_accuracy": 8}
    assert (batch.tokens, batch.predicted) == (12, 8)
    short = batch.tensors["position_ids"][rows[33, 34, 35, END, PAD, PAD, PAD, PAD]]
    assert short.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]  # padding is a document of its own


@pytest.mark.parametrize("packing", ["concat", "best-fit"])
@pytest.mark.parametrize("kind", MODELS, ids="-".join)
@settings(max_examples=10, deadline=None)
@given(documents=TEXTS)
def test_packed_documents_have_the_loss_they_have_alone(
    kind: tuple[str, str], packing: str, documents: Documents
) -> None:
    with TemporaryDirectory() as folder, torch.no_grad():
        tokens = write_tokens(Path(folder), documents, packing)
        batch = whole(tokens)
        found = task(tokens).sums(MODELS[kind], batch)["token_loss"]
        expected = torch.stack([alone(MODELS[kind], ids) for ids in pieces(tokens)]).sum()
        assert batch.counts["token_loss"] == sum(len(ids) - 1 for ids in pieces(tokens))
    # fp32: the same sums in another order.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", MODELS, ids="-".join)
def test_a_documents_loss_has_no_gradient_in_another_document(
    kind: tuple[str, str], tmp_path: Path
) -> None:
    tokens = write_tokens(tmp_path, [[10, 11, 12], [20, 21, 22, 23], [30, 31]], "best-fit", 16)
    assert tokens.num_rows == 1
    batch, decoder = whole(tokens), MODELS[kind]
    positions = batch.tensors["positions"]
    cuts = tokens.boundaries(0).tolist()
    for start, end in itertools.pairwise(cuts):
        inside = (positions >= start) & (positions < end)
        kept = {name: batch.tensors[name][inside] for name in ("positions", "targets")}
        with embedded(decoder) as seen:
            part = replace(batch, tensors=batch.tensors | kept)
            task(tokens).sums(decoder, part)["token_loss"].backward()
        reached = seen[0].grad[0].abs().sum(-1) > 0
        # Every token of the document but its last one, which predicts nothing; and no other.
        assert reached.nonzero().flatten().tolist() == list(range(start, end - 1))


def test_rows_of_sentences_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"packing=concat or best-fit.*these are document"):
        task(write_rows(tmp_path, [(0, [[10, 11]])]))


def test_no_rows_are_a_batch_too(tmp_path: Path) -> None:
    empty = task(write_tokens(tmp_path, [[10, 11, 12]])).batch(np.arange(0), 5)
    assert (empty.rows, empty.counts["token_loss"], empty.tokens) == ((), 0, 0)


def test_a_document_of_100_000_tokens_is_learnt_in_rows(tmp_path: Path) -> None:
    long = (np.arange(100_000) % 50 + 10).tolist()
    for packing in ("concat", "best-fit"):
        tokens = write_tokens(tmp_path / packing, [[10, 11], long], packing, 128)
        assert tokens.lengths.max() == 128
        # All but the first of each piece.
        assert whole(tokens).predicted == 100_004 - len(pieces(tokens))
