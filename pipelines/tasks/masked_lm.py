"""Masked language modelling, with a sentence pair's label or without (Devlin et al. 2019, 3.1).

Token rows in; batches and the losses out. Masks and pairs come from a counter-based generator keyed
by (seed, epoch, row), so they depend on neither process, worker count nor restart.

Rows of one document are framed as `[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]`. Packed rows are taken
as they are, full of tokens: each document ends with its end token and sees itself alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
import torch

from pipelines.core.errors import DataError
from pipelines.tasks.chance import generator
from pipelines.tasks.config import MaskedLM
from pipelines.tasks.heads import chosen, figures, pair_scores, word_scores
from pipelines.tasks.packed import pack, within
from pipelines.tasks.protocol import Batch, inputs, pad
from pipelines.tasks.special import Special
from pipelines.tokens.shards import Tokens

# Devlin et al. 2019, section 3.1 and appendix A.1.
MASKED, RANDOM = 0.8, 0.1
FOLLOWS, OTHER = 0, 1  # transformers' `next_sentence_label`
IN_ORDER, SWAPPED = 0, 1  # transformers' `sentence_order_label`
FIGURES = {"next-sentence": "next", "sentence-order": "order"}  # what a pair's are called
# Were second texts cut to the shorter of the two and no further, it would end with its sentence and
# the longer one would not: boosted trees on the lengths and the last token then told 58 % of labels
# of 64-token rows, with this 52 %, for 3 % of the tokens.
RAGGED = 4


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
        DataError: a pair is asked for of packed rows, or a next sentence of one document.
    """

    def __init__(self, tokens: Tokens, special: Special, config: MaskedLM, *, seed: int) -> None:
        self._tokens, self._special, self._config, self._seed = tokens, special, config, seed
        self.lengths = tokens.lengths
        self._packed = tokens.packing != "document"
        self._pair_name = FIGURES.get(config.pair)
        if self._packed and self._pair_name:
            raise DataError(
                f"task.pair={config.pair} needs Tokens of packing=document, these are "
                f"{tokens.packing}: make them anew, or set task.pair=none"
            )
        self._documents = tokens.documents if config.pair == "next-sentence" else None
        if self._documents is not None and len(np.unique(self._documents)) < 2:
            raise DataError(
                "pair=next-sentence needs text of two documents or more, the Tokens have one; add "
                "documents or set task.pair=none"
            )

    @property
    def objectives(self) -> Mapping[str, float]:
        """Both losses weigh the same, as in the paper."""
        return {"masked_loss": 1.0} | ({f"{self._pair_name}_loss": 1.0} if self._pair_name else {})

    def batch(self, rows: np.ndarray, epoch: int) -> Batch:
        """These rows as they are seen in `epoch`."""
        examples = [self.example(row, epoch) for row in rows.tolist()]
        tensors = inputs([example.ids for example in examples], self._special.pad)
        width = tensors["input_ids"].shape[1]
        arrays = {
            "positions": np.array(
                [place * width + at for place, ex in enumerate(examples) for at in ex.positions]
            ),
            "targets": np.array([target for ex in examples for target in ex.targets]),
        }
        masked = len(arrays["targets"])
        counts = {"masked_loss": masked, "masked_accuracy": masked}
        if self._pair_name:
            arrays["token_type_ids"] = pad([example.segments for example in examples], 0)
            arrays["labels"] = np.array([example.label for example in examples])
            counts |= {f"{self._pair_name}_{what}": len(rows) for what in ("loss", "accuracy")}
        if self._packed:
            found = pack(self._tokens, rows.tolist(), self._special.pad)
            arrays |= {"position_ids": found.positions, "documents": found.documents}
            tensors.pop("attention_mask", None)  # `documents` tells padding apart too
        tensors |= {
            name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items()
        }
        return Batch(
            tensors,
            counts,
            tuple(rows.tolist()),
            tokens=sum(len(example.ids) for example in examples),
            predicted=masked,
        )

    def example(self, row: int, epoch: int) -> Example:
        """Row `row` as it is seen in `epoch`: paired with a second text, and masked."""
        random = generator(self._seed, epoch, row)
        if self._packed:
            ids = self._tokens.row(row).ids.astype(np.int64)
            return self._mask(ids, np.zeros(len(ids), np.int64), FOLLOWS, random)
        first, second, label = self._pair(row, random)
        special = self._special
        ids = np.concatenate([[special.cls], first, [special.sep]])
        segments = np.zeros(len(ids), np.int64)
        if second is not None:
            ids = np.concatenate([ids, second, [special.sep]])
            segments = np.concatenate([segments, np.ones(len(second) + 1, np.int64)])
        return self._mask(ids.astype(np.int64), segments, label, random)

    def sums(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """Sums of the losses and of right answers; the head runs on masked positions alone."""
        given = batch.tensors
        mask = given.get("attention_mask")
        if "documents" in given:
            mask = within(model, given["documents"])
        names = ("input_ids", "position_ids", "token_type_ids")
        asked = {name: given[name] for name in names if name in given}
        encoded = model.base_model(**asked, attention_mask=mask)
        hidden_KD = chosen(encoded.last_hidden_state, given["positions"])
        found = figures("masked", word_scores(model, hidden_KD), given["targets"])
        if self._pair_name:
            found |= figures(self._pair_name, pair_scores(model, encoded), given["labels"])
        return found

    def _pair(
        self, row: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None, int]:
        """First text, second text if there is one, and the pair's label."""
        ids, starts = self._tokens.row(row)
        match self._config.pair:
            case "none":
                return ids, None, FOLLOWS
            case "next-sentence":
                return self._next(row, random)
            case "sentence-order":
                cut = _cut(len(ids), starts, random)
                if random.random() < 0.5:
                    return ids[:cut], ids[cut:], IN_ORDER
                return ids[cut:], ids[:cut], SWAPPED
            case _:
                assert_never(self._config.pair)

    def _next(self, row: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        """A row's beginning, and its end or one of another document's row.

        The other document's text is drawn for either label, and the one that is taken is cut by
        one law: to the shorter of the two, less up to `RAGGED - 1` tokens. So a row's length tells
        nothing of its label, no row grows longer than the one by whose length batches are formed,
        and neither label's rows are those that end where a sentence does.
        """
        ids, starts = self._tokens.row(row)
        cut = _cut(len(ids), starts, random)
        other_ids, other_starts = self._tokens.row(self._other(row, random))
        tails = {FOLLOWS: ids[cut:], OTHER: other_ids[_cut(len(other_ids), other_starts, random) :]}
        room = min(len(tail) for tail in tails.values())
        room -= int(random.integers(max(1, min(room, RAGGED))))
        label = FOLLOWS if random.random() < 0.5 else OTHER
        return ids[:cut], tails[label][:room], label

    def _other(self, row: int, random: np.random.Generator) -> int:
        """A row of another document, each as likely.

        Drawn past the row's own document, whose rows follow each other: drawing until one is of
        another takes thousands of draws where one document has nearly all rows.
        """
        assert self._documents is not None
        own = self._documents[row]
        start, end = np.searchsorted(self._documents, [own, own + 1]).tolist()
        found = int(random.integers(len(self.lengths) - (end - start)))
        return found if found < start else found + end - start

    def _mask(
        self, ids: np.ndarray, segments: np.ndarray, label: int, random: np.random.Generator
    ) -> Example:
        """Pick a fixed share of the ordinary positions; 80 % masked, 10 % random, 10 % kept."""
        special = self._special
        end = -1 if self._tokens.end is None else self._tokens.end
        maskable = np.flatnonzero((ids != special.cls) & (ids != special.sep) & (ids != end))
        count = min(len(maskable), max(1, round(self._config.mask_share * len(maskable))))
        positions = np.sort(random.permutation(maskable)[:count])
        targets = ids[positions]
        chance = random.random(count)
        drawn = special.ordinary[random.integers(len(special.ordinary), size=count)]
        ids[positions] = np.where(
            chance < MASKED, special.mask, np.where(chance < MASKED + RANDOM, drawn, targets)
        )
        return Example(ids, segments, positions, targets, label)


def _cut(length: int, starts: np.ndarray, random: np.random.Generator) -> int:
    """Where a row is cut in two: a sentence's start, or anywhere in a row of one sentence.

    Were rows of one sentence never cut, they would all be of one label and give it away.
    """
    inner = starts[starts > 0]
    if len(inner):
        return int(inner[random.integers(len(inner))])
    return int(random.integers(1, max(2, length)))
