"""How likely sentences are, against one forward pass of transformers' own for each."""

import numpy as np
import pytest
import torch

from pipelines.evaluate.likelihood import log_likelihoods, pseudo_log_likelihoods
from pipelines.tasks.special import Special
from tests.tasks.tiny import CLS, MASK, PAD, SEP, model

ROWS = [[10, 11, 12, 13], [20], [30, 31, 32], [14, 15, 16, 17], [40, 41]]
SPECIAL = Special(PAD, CLS, SEP, MASK, np.arange(10, 64))


@pytest.mark.parametrize("begin", [None, CLS])
def test_a_decoder_sums_the_log_probability_of_each_token(begin: int | None) -> None:
    decoder = model("llama")
    found = log_likelihoods(decoder, ROWS, begin, batch_tokens=9)
    for row, score in zip(ROWS, found, strict=True):
        ids = row if begin is None else [begin, *row]
        with torch.no_grad():
            log_TV = decoder(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = sum(float(log_TV[at - 1, ids[at]]) for at in range(1, len(ids)))
        assert score == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_an_encoder_masks_each_token_in_turn(kind: str) -> None:
    encoder = model(kind)
    found = pseudo_log_likelihoods(encoder, ROWS, SPECIAL, batch_tokens=13)
    for row, score in zip(ROWS, found, strict=True):
        expected = 0.0
        for at in range(1, len(row) + 1):
            ids = [CLS, *row, SEP]
            ids[at] = MASK
            with torch.no_grad():
                out = encoder(input_ids=torch.tensor([ids]))
            logits_TV = (out.logits if "logits" in out else out.prediction_logits)[0]
            expected += float(logits_TV[at].log_softmax(-1)[row[at - 1]])
        assert score == pytest.approx(expected, abs=1e-4)
