"""Causal language modelling: packed token rows in; batches and the next-token loss out.

Every token is predicted from those before it in the same document. The first one of a document, or
of the part of it that a row holds, has none before it and is not predicted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from pipelines.core.errors import DataError
from pipelines.tasks.heads import chosen, figures, word_scores
from pipelines.tasks.packed import PADDING, pack
from pipelines.tasks.protocol import Batch
from pipelines.tokens.shards import Tokens


class CausalLMTask:
    """Rows of `tokens`, each of pieces of documents that do not see each other.

    Raises:
        DataError: the Tokens are not packed, so their documents have no end token.
    """

    objectives: Mapping[str, float] = {"token_loss": 1.0}

    def __init__(self, tokens: Tokens, *, pad_id: int) -> None:
        if tokens.packing == "document":
            raise DataError(
                "causal-lm needs Tokens of packing=concat or best-fit, whose documents have an end "
                f"token; these are {tokens.packing}: make them anew"
            )
        self._tokens, self._pad_id = tokens, pad_id
        self.lengths = tokens.lengths

    def batch(self, rows: np.ndarray, epoch: int) -> Batch:  # noqa: ARG002 (the same in each)
        """These rows, alike in every epoch."""
        found = pack(self._tokens, rows.tolist(), self._pad_id)
        real = found.documents != PADDING
        predicted = np.flatnonzero(real & (found.positions > 0))
        tensors = {
            "input_ids": found.ids,
            "position_ids": found.positions,
            "positions": predicted - 1,  # the state that predicts a token is the one before it
            "targets": found.ids.ravel()[predicted],
        }
        count = len(predicted)
        return Batch(
            {name: torch.from_numpy(array) for name, array in tensors.items()},
            {"token_loss": count, "token_accuracy": count},
            tuple(rows.tolist()),
            tokens=int(real.sum()),
            predicted=count,
        )

    def sums(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """Sums of the loss and of right answers over all predicted tokens."""
        given = batch.tensors
        hidden_BTD = model.base_model(
            input_ids=given["input_ids"], position_ids=given["position_ids"], use_cache=False
        ).last_hidden_state
        scores_KV = word_scores(model, chosen(hidden_BTD, given["positions"]))
        return figures("token", scores_KV, given["targets"])
