"""Source and target rows -> a batch of an encoder-decoder, and its loss.

Shared by every task that writes a text after reading one; what the two are is the task's. Those
that make both of one row of tokens are `RewriteTask` with a function of their own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from pipelines.tasks.chance import generator
from pipelines.tasks.heads import chosen, figures, word_scores
from pipelines.tasks.protocol import Batch, inputs, pad
from pipelines.tokens.shards import Row, Tokens

NO_TOKEN = -100  # what `prepare_decoder_input_ids_from_labels` takes for padding


class Pair(NamedTuple):
    """What is read and what is to be written, ids of each, special tokens among them."""

    source: np.ndarray
    target: np.ndarray


class RewriteTask:
    """Rows of `tokens`; `rewrite` makes other pairs of them each epoch."""

    objectives: Mapping[str, float] = {"token_loss": 1.0}

    def __init__(
        self,
        tokens: Tokens,
        rewrite: Callable[[Row, np.random.Generator], Pair],
        *,
        pad_id: int,
        seed: int,
    ) -> None:
        self._tokens, self._rewrite = tokens, rewrite
        self._pad_id, self._seed = pad_id, seed
        self.lengths = tokens.lengths

    def batch(self, rows: np.ndarray, epoch: int) -> Batch:
        """These rows as they are seen in `epoch`."""
        return batch([self.example(row, epoch) for row in rows.tolist()], rows, self._pad_id)

    def sums(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """Sums of the loss and of right answers over what is written."""
        return sums(model, batch)

    def example(self, row: int, epoch: int) -> Pair:
        """Row `row` as it is seen in `epoch`."""
        return self._rewrite(self._tokens.row(row), generator(self._seed, epoch, row))


def batch(pairs: Sequence[Pair], rows: np.ndarray, pad_id: int) -> Batch:
    """The pairs of `rows` as one part of a step's batch."""
    sources, targets = [pair.source for pair in pairs], [pair.target for pair in pairs]
    labels = pad(targets, NO_TOKEN)
    positions = np.flatnonzero(labels != NO_TOKEN)
    arrays = {"labels": labels, "positions": positions, "targets": labels.ravel()[positions]}
    count = len(positions)
    return Batch(
        inputs(sources, pad_id) | {name: torch.from_numpy(one) for name, one in arrays.items()},
        {"token_loss": count, "token_accuracy": count},
        tuple(rows.tolist()),
        tokens=sum(map(len, sources)) + count,
        predicted=count,
    )


def sums(model: Any, part: Batch) -> dict[str, torch.Tensor]:
    """Sums of the loss and of right answers over all target tokens.

    Targets are read by the decoder one place later, after its start token. They are padded at the
    end, where no target token looks, so the decoder needs no mask of its own.
    """
    given = part.tensors
    mask = given.get("attention_mask")
    read = model.get_encoder()(input_ids=given["input_ids"], attention_mask=mask)
    hidden_BTD = model.get_decoder()(
        input_ids=model.prepare_decoder_input_ids_from_labels(given["labels"]),
        encoder_hidden_states=read.last_hidden_state,
        encoder_attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    scores_KV = word_scores(model, chosen(hidden_BTD, given["positions"]))
    return figures("token", scores_KV, given["targets"])
