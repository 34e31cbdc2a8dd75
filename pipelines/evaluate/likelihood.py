"""A language model and encoded sentences in; how likely it finds each of them out.

Sentences of one length share a batch, so nothing is padded and nothing needs a mask.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.tasks.heads import chosen, word_scores
from pipelines.tasks.special import Special

Scores = NDArray[np.float64]


@torch.no_grad()
def log_likelihoods(
    model: Any, rows: Sequence[Sequence[int]], begin: int | None, batch_tokens: int = 4096
) -> Scores:
    """Sum of ln p(token | those before it) of each row, by a decoder: (N,).

    Args:
        model: a causal language model, in evaluation mode.
        rows: ids without special tokens.
        begin: the id that texts began with when the model was trained. Without one, a row's first
            token has nothing to be predicted from and does not count.
        batch_tokens: most tokens of a forward pass.
    """
    first = [] if begin is None else [begin]
    framed = [[*first, *row] for row in rows]
    found = np.zeros(len(rows))
    for places, _ in _batches([len(row) for row in framed], [1] * len(rows), batch_tokens):
        ids_BT = torch.tensor([framed[place] for place in places])
        if ids_BT.shape[1] < 2:
            continue
        states_BTD = model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
        scores_KV = word_scores(model, states_BTD[:, :-1].flatten(0, 1))
        likely_K = _of(scores_KV, ids_BT[:, 1:].flatten())
        found[places] = likely_K.view(len(places), -1).double().sum(1).numpy()
    return found


@torch.no_grad()
def pseudo_log_likelihoods(
    model: Any, rows: Sequence[Sequence[int]], special: Special, batch_tokens: int = 4096
) -> Scores:
    """Sum of ln p(token | all others), each token masked in turn, by an encoder: (N,).

    Source: Salazar et al. 2020, equation 2.
    """
    framed = [np.array([special.cls, *row, special.sep]) for row in rows]
    found = np.zeros(len(rows))
    lengths = [len(row) for row in framed]
    for places, inner in _batches(lengths, [length - 2 for length in lengths], batch_tokens):
        ids_BT = torch.from_numpy(np.stack([framed[place] for place in places]))
        columns_B = torch.tensor(inner) + 1  # past [CLS]
        lines_B = torch.arange(len(places))
        targets_B = ids_BT[lines_B, columns_B]
        ids_BT[lines_B, columns_B] = special.mask
        states_BTD = model.base_model(input_ids=ids_BT).last_hidden_state
        states_BD = chosen(states_BTD, lines_B * ids_BT.shape[1] + columns_B)
        likely_B = _of(word_scores(model, states_BD), targets_B)
        np.add.at(found, places, likely_B.double().numpy())
    return found


def _batches(
    lengths: Sequence[int], copies: Sequence[int], batch_tokens: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Batches of rows of one length, row r `copies[r]` times; each item's row and copy."""
    by_length: dict[int, list[tuple[int, int]]] = {}
    for place, (length, times) in enumerate(zip(lengths, copies, strict=True)):
        by_length.setdefault(length, []).extend((place, copy) for copy in range(times))
    for length, items in sorted(by_length.items()):
        size = max(1, batch_tokens // max(1, length))
        for at in range(0, len(items), size):
            places, copy = zip(*items[at : at + size], strict=True)
            yield list(places), list(copy)


def _of(scores_KV: torch.Tensor, targets_K: torch.Tensor) -> torch.Tensor:
    """Log probability of each target, fp32 (K,)."""
    found: torch.Tensor = scores_KV.log_softmax(-1).gather(1, targets_K[:, None])[:, 0]
    return found
