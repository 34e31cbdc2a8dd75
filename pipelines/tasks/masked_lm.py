"""Masked language modelling and next-sentence prediction (Devlin et al. 2019, section 3.1).

Token rows in; batches and the two losses out. Masks and pairs come from a counter-based generator
keyed by (seed, epoch, row), so they depend on neither process, worker count nor restart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from pipelines.core.errors import DataError
from pipelines.tasks.config import MaskedLM
from pipelines.tasks.protocol import Batch, inputs, pad, shards
from pipelines.tokens.order import Order
from pipelines.tokens.shards import Tokens

# Devlin et al. 2019, section 3.1 and appendix A.1.
MASKED, RANDOM = 0.8, 0.1
FOLLOWS, OTHER = 0, 1  # transformers' `next_sentence_label`
# Were second texts cut to the shorter of the two and no further, it would end with its sentence and
# the longer one would not: boosted trees on the lengths and the last token then told 58 % of labels
# of 64-token rows, with this 52 %, for 3 % of the tokens.
RAGGED = 4


@dataclass(frozen=True)
class Special:
    """The ids a row is built with, and the ordinary ones a random token is drawn from."""

    pad: int
    cls: int
    sep: int
    mask: int
    ordinary: np.ndarray

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerFast) -> "Special":
        """Those of a tokenizer."""
        return Special(
            tokenizer.pad_token_id,
            tokenizer.cls_token_id,
            tokenizer.sep_token_id,
            tokenizer.mask_token_id,
            np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids),
        )


@dataclass(frozen=True)
class Example:
    """One masked row: ids and segments (T,), the positions predicted and what was there (K,)."""

    ids: np.ndarray
    segments: np.ndarray
    positions: np.ndarray
    targets: np.ndarray
    label: int


class MaskedLMTask:
    """Rows of `tokens`, masked anew each epoch.

    Raises:
        DataError: next-sentence prediction has only one document to draw from.
    """

    def __init__(
        self,
        tokens: Tokens,
        special: Special,
        config: MaskedLM,
        *,
        seed: int,
        batch_rows: int,
        parts: int,
    ) -> None:
        if tokens.packing != "document":  # a row of several documents has no next sentence
            raise DataError(
                f"masked-lm needs Tokens of packing=document, these are {tokens.packing}; make "
                "them anew"
            )
        self._tokens, self._special, self._config = tokens, special, config
        self._seed, self._parts = seed, parts
        self._order = Order(tokens.lengths, seed, batch_rows)
        self._documents = tokens.documents
        if config.pair == "next-sentence" and len(np.unique(self._documents)) < 2:
            raise DataError(
                "pair=next-sentence needs text of two documents or more, the Tokens have one; add "
                "documents or set task.pair=none"
            )

    @property
    def num_rows(self) -> int:
        """Rows of one epoch."""
        return self._tokens.num_rows

    @property
    def objectives(self) -> Mapping[str, float]:
        """Both losses weigh the same, as in the paper."""
        return {"masked_loss": 1.0} | ({"next_loss": 1.0} if self._config.pair == "next-sentence" else {})

    def batches(self, step: int) -> list[Batch]:
        """Every part of the batch of step `step`."""
        epoch, rows = self._order.batch(step)
        return [self._batch(part, epoch) for part in shards(rows, self._parts)]

    def example(self, row: int, epoch: int) -> Example:
        """Row `row` as it is seen in `epoch`: paired with a second text, and masked."""
        # From epoch 1 on, because the data order has the keys (seed, epoch) to itself.
        key = np.array([self._seed, (epoch + 1) << 40 | row], dtype=np.uint64)
        random = np.random.Generator(np.random.Philox(key=key))
        first, second, label = self._pair(row, random)
        special = self._special
        ids = np.concatenate([[special.cls], first, [special.sep]])
        segments = np.zeros(len(ids), np.int64)
        if second is not None:
            ids = np.concatenate([ids, second, [special.sep]])
            segments = np.concatenate([segments, np.ones(len(second) + 1, np.int64)])
        return self._mask(ids.astype(np.int64), segments, label, random)

    def sums(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """Sums of both losses and of right answers; the head runs on masked positions alone.

        At 8k entries the head is most of a small model's arithmetic, and 85 % of positions have no
        target.
        """
        given = batch.tensors
        encoded = model.bert(
            input_ids=given["input_ids"],
            attention_mask=given.get("attention_mask"),
            token_type_ids=given["token_type_ids"],
        )
        hidden_KD = encoded.last_hidden_state.flatten(0, 1).index_select(0, given["positions"])
        scores_KV = model.cls.predictions(hidden_KD).float()
        found = _figures("masked", scores_KV, given["targets"])
        if self._config.pair == "next-sentence":
            scores_B2 = model.cls.seq_relationship(encoded.pooler_output).float()
            found |= _figures("next", scores_B2, given["labels"])
        return found

    def _pair(
        self, row: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None, int]:
        """First text, second text and whether it follows.

        The other document's text is drawn for either label, and the one that is taken is cut by
        one law: to the shorter of the two, less up to `RAGGED - 1` tokens. So a row's length tells
        nothing of its label, no row grows longer than the one by whose length batches are formed,
        and neither label's rows are those that end where a sentence does.
        """
        ids, starts = self._tokens.row(row)
        if self._config.pair != "next-sentence":
            return ids, None, FOLLOWS
        cut = _cut(len(ids), starts, random)
        other = row
        while self._documents[other] == self._documents[row]:
            other = int(random.integers(self.num_rows))
        other_ids, other_starts = self._tokens.row(other)
        tails = {FOLLOWS: ids[cut:], OTHER: other_ids[_cut(len(other_ids), other_starts, random) :]}
        room = min(len(tail) for tail in tails.values())
        room -= int(random.integers(max(1, min(room, RAGGED))))
        label = FOLLOWS if random.random() < 0.5 else OTHER
        return ids[:cut], tails[label][:room], label

    def _mask(
        self, ids: np.ndarray, segments: np.ndarray, label: int, random: np.random.Generator
    ) -> Example:
        """Pick a fixed share of the ordinary positions; 80 % masked, 10 % random, 10 % kept."""
        special = self._special
        maskable = np.flatnonzero((ids != special.cls) & (ids != special.sep))
        count = min(len(maskable), max(1, round(self._config.mask_share * len(maskable))))
        positions = np.sort(random.permutation(maskable)[:count])
        targets = ids[positions]
        chance = random.random(count)
        drawn = special.ordinary[random.integers(len(special.ordinary), size=count)]
        ids[positions] = np.where(
            chance < MASKED, special.mask, np.where(chance < MASKED + RANDOM, drawn, targets)
        )
        return Example(ids, segments, positions, targets, label)

    def _batch(self, rows: np.ndarray, epoch: int) -> Batch:
        examples = [self.example(int(row), epoch) for row in rows]
        tensors = inputs([example.ids for example in examples], self._special.pad)
        width = tensors["input_ids"].shape[1]
        arrays = {
            "token_type_ids": pad([example.segments for example in examples], 0),
            "positions": np.array(
                [place * width + at for place, ex in enumerate(examples) for at in ex.positions]
            ),
            "targets": np.array([target for ex in examples for target in ex.targets]),
            "labels": np.array([example.label for example in examples]),
        }
        tensors |= {
            name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items()
        }
        masked, pairs = len(arrays["targets"]), len(examples)
        counts = {"masked_loss": masked, "masked_accuracy": masked}
        if self._config.pair == "next-sentence":
            counts |= {"next_loss": pairs, "next_accuracy": pairs}
        return Batch(
            tensors,
            counts,
            tuple(int(row) for row in rows),
            tokens=sum(len(example.ids) for example in examples),
            predicted=masked,
        )


def _cut(length: int, starts: np.ndarray, random: np.random.Generator) -> int:
    """Where a row is cut in two: a sentence's start, or anywhere in a row of one sentence.

    Were rows of one sentence never cut, they would all be of one label and give it away.
    """
    inner = starts[starts > 0]
    if len(inner):
        return int(inner[random.integers(len(inner))])
    return int(random.integers(1, max(2, length)))


def _figures(
    name: str, scores_NC: torch.Tensor, targets_N: torch.Tensor
) -> dict[str, torch.Tensor]:
    right = scores_NC.detach().argmax(-1) == targets_N
    return {
        f"{name}_loss": functional.cross_entropy(scores_NC, targets_N, reduction="sum"),
        f"{name}_accuracy": right.sum().float(),
    }
