"""Rows that hold several documents -> tensors in which none of them sees another.

Positions begin anew with each document. A decoder of transformers finds the documents by that and
blocks what lies between them (`masking_utils.find_packed_sequence_indices`); an encoder does not,
and gets the mask that `within` makes. Padding is a document of its own.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_bidirectional_sliding_window_mask,
    packed_sequence_mask_function,
)

from pipelines.core.errors import DataError
from pipelines.tasks.protocol import pad
from pipelines.tokens.shards import Tokens

PADDING = -1  # the number of the document that padding counts as


def refuse_packed(tokens: Tokens, kind: str) -> None:
    """Let only rows of one document through.

    Raises:
        DataError: rows hold several.
    """
    if tokens.packing != "document":
        raise DataError(
            f"{kind} needs Tokens of packing=document, these are {tokens.packing}; make them anew"
        )


class Packed(NamedTuple):
    """Rows (B, T): ids, each token's place in its document's piece, and that piece's number."""

    ids: np.ndarray
    positions: np.ndarray
    documents: np.ndarray


def pack(tokens: Tokens, rows: Sequence[int], fill: int) -> Packed:
    """Rows `rows` of `tokens`, side by side, padded with `fill`."""
    cuts = [tokens.boundaries(row) for row in rows]
    ids = pad([tokens.row(row).ids for row in rows], fill)
    documents = pad([np.repeat(np.arange(len(cut) - 1), np.diff(cut)) for cut in cuts], PADDING)
    starts = pad([np.repeat(cut[:-1], np.diff(cut)) for cut in cuts], 0)
    lengths = np.array([cut[-1] for cut in cuts], np.int64)
    starts = np.where(documents == PADDING, lengths[:, None], starts)
    return Packed(ids, np.arange(ids.shape[1]) - starts, documents)


def within(model: Any, documents_BT: torch.Tensor) -> Any:
    """An encoder's `attention_mask` that lets a token see its own document's tokens alone.

    Made by transformers' own functions, so that it has the form that the attention in use wants;
    ModernBERT gets one for each kind of its layers.
    """
    config = model.config
    asked = {
        "config": config,
        "inputs_embeds": documents_BT.unsqueeze(-1).to(torch.float32),  # read for its shape alone
        "attention_mask": None,
        "and_mask_function": packed_sequence_mask_function(documents_BT),
    }
    full = create_bidirectional_mask(**asked)
    if "sliding_attention" not in (getattr(config, "layer_types", None) or ()):
        return full
    sliding = create_bidirectional_sliding_window_mask(**asked)
    return {"full_attention": full, "sliding_attention": sliding}
