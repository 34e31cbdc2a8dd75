"""Source and target rows -> a batch of an encoder-decoder, and its loss.

Shared by every task that writes a text after reading one; what the two are is the task's.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pipelines.tasks.heads import chosen, figures, word_scores
from pipelines.tasks.protocol import Batch, inputs, pad

NO_TOKEN = -100  # what `prepare_decoder_input_ids_from_labels` takes for padding


def batch(
    sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], rows: np.ndarray, pad_id: int
) -> Batch:
    """Rows to read and to write, special tokens among them, as one part of a step's batch."""
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
