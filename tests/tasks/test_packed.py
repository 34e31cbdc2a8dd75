"""Documents packed for an encoder: each has the loss, and the gradient, that it has alone."""

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
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_bidirectional_sliding_window_mask,
    packed_sequence_mask_function,
)

from pipelines.tasks.config import MaskedLM
from pipelines.tasks.masked_lm import MaskedLMTask
from pipelines.tasks.packed import PADDING, pack, within
from pipelines.tasks.special import Special
from pipelines.tokens.shards import Tokens
from tests.tasks.tiny import (
    CLS,
    END,
    MASK,
    PAD,
    SEP,
    VOCABULARY,
    Documents,
    embedded,
    model,
    write_rows,
    write_tokens,
)

SPECIAL = Special(PAD, CLS, SEP, MASK, np.arange(10, VOCABULARY))
MODELS = {
    (kind, attention): model(kind, attention)
    for kind in ("bert", "modernbert")
    for attention in ("sdpa", "eager")
}
TEXTS = st.lists(st.lists(st.integers(10, 63), min_size=1, max_size=24), min_size=1, max_size=4)


def task(tokens: Tokens) -> MaskedLMTask:
    config = MaskedLM(mask_share=0.4, pair="none")
    return MaskedLMTask(tokens, SPECIAL, config, seed=0)


def alone(encoder: Any, ids: np.ndarray, positions: np.ndarray, targets: np.ndarray) -> Any:
    """The summed loss of a piece that has a forward pass of transformers' own to itself."""
    found = encoder(input_ids=torch.from_numpy(ids)[None])
    logits_TV = (found.logits if "logits" in found else found.prediction_logits)[0]
    return functional.cross_entropy(
        logits_TV[positions], torch.from_numpy(targets), reduction="sum"
    )


def test_positions_begin_anew_and_padding_is_apart(tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path, [[10, 11, 12], [20]], "best-fit", 8)
    found = pack(tokens, [0], PAD)
    assert found.ids.tolist() == [[10, 11, 12, END, 20, END, PAD, PAD]]
    assert found.positions.tolist() == [[0, 1, 2, 3, 0, 1, 0, 1]]
    assert found.documents.tolist() == [[0, 0, 0, 0, 1, 1, PADDING, PADDING]]


def test_rows_of_one_document_pack_as_one(tmp_path: Path) -> None:
    found = pack(write_rows(tmp_path, [(0, [[10, 11], [12]])]), [0], PAD)
    assert found.documents.tolist() == [[0, 0, 0, *[PADDING] * 5]]


@pytest.mark.parametrize("kind", MODELS, ids="-".join)
@settings(max_examples=12, deadline=None)
@given(documents=TEXTS, packing=st.sampled_from(["concat", "best-fit"]))
def test_packed_documents_have_the_loss_they_have_alone(
    kind: tuple[str, str], packing: str, documents: Documents
) -> None:
    with TemporaryDirectory() as folder, torch.no_grad():
        tokens = write_tokens(Path(folder), documents, packing)
        made, losses = task(tokens), []
        for row in range(tokens.num_rows):
            example = made.example(row, 0)
            for start, end in itertools.pairwise(tokens.boundaries(row).tolist()):
                inside = (example.positions >= start) & (example.positions < end)
                at, targets = example.positions[inside] - start, example.targets[inside]
                losses.append(alone(MODELS[kind], example.ids[start:end], at, targets))
        batch = made.batch(np.arange(tokens.num_rows), 0)
        found = made.sums(MODELS[kind], batch)["masked_loss"]
    # fp32: the same sums in another order.
    torch.testing.assert_close(found, torch.stack(losses).sum(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", MODELS, ids="-".join)
def test_a_documents_loss_has_no_gradient_in_another_document(
    kind: tuple[str, str], tmp_path: Path
) -> None:
    documents = [[10, 11, 12], [20, 21, 22, 23], [30, 31]]
    tokens = write_tokens(tmp_path, documents, "best-fit", 16)
    assert tokens.num_rows == 1
    batch = task(tokens).batch(np.arange(1), 0)
    ids = batch.tensors["input_ids"][0]
    for start, end in itertools.pairwise(tokens.boundaries(0).tolist()):
        kept = {"positions": torch.arange(start, end), "targets": ids[start:end]}
        with embedded(MODELS[kind]) as seen:
            part = replace(batch, tensors=batch.tensors | kept)
            task(tokens).sums(MODELS[kind], part)["masked_loss"].backward()
        reached = seen[0].grad[0].abs().sum(-1) > 0
        assert reached.nonzero().flatten().tolist() == list(range(start, end))


@pytest.mark.parametrize("kind", MODELS, ids="-".join)
def test_the_masks_are_those_that_transformers_makes(kind: tuple[str, str]) -> None:
    documents_BT = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, PADDING], [0] * 12])
    found, asked = MODELS[kind], packed_sequence_mask_function(documents_BT)
    places = {"inputs_embeds": torch.zeros(2, 12, 16), "attention_mask": None}
    facts = {"config": found.config, "and_mask_function": asked} | places
    masks = within(found, documents_BT)
    if kind[0] == "bert":
        assert torch.equal(masks, create_bidirectional_mask(**facts))
    else:
        assert torch.equal(masks["full_attention"], create_bidirectional_mask(**facts))
        near = create_bidirectional_sliding_window_mask(**facts)
        assert torch.equal(masks["sliding_attention"], near)
        assert not torch.equal(masks["sliding_attention"], masks["full_attention"])
