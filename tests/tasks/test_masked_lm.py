"""Masks and pairs: their shares, what depends on what, and the loss against transformers' own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForPreTraining

from pipelines.core.errors import DataError
from pipelines.tasks.config import MaskedLM
from pipelines.tasks.masked_lm import FOLLOWS, OTHER, Example, MaskedLMTask, Special
from pipelines.tokens import shards
from pipelines.tokens.encode import Encoded
from pipelines.tokens.shards import Tokens

# Ids below 5 are special; a token tells its document d: it is 10 d + 10 to 10 d + 19.
SPECIAL = Special(pad=0, cls=2, sep=3, mask=4, ordinary=np.arange(5, 1000))
DOCUMENTS, ROWS, LENGTH = 30, 4, 20


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty documents of four rows of twenty tokens, each row of two sentences but the last."""
    return written(tmp_path_factory.mktemp("tokens"), DOCUMENTS)


def written(folder: Path, documents: int) -> Path:
    rows, starts, tokens = [], [], []
    for document in range(documents):
        for row in range(ROWS):
            rows.append((len(tokens), len(starts), document))
            starts += [0, 8] if row < ROWS - 1 else [0]
            tokens += [10 * document + 10 + n % 10 for n in range(LENGTH)]
    rows.append((len(tokens), len(starts), -1))
    encoded = Encoded(np.array(tokens, np.uint32), np.array(rows), np.array(starts, np.uint32))
    for name, data in shards.files(0, encoded, 1000).items():
        (folder / name).write_bytes(data)
    index = shards.index([encoded.counts], length=32, vocab_size=1000, tokenizer="0" * 64)
    (folder / shards.INDEX).write_bytes(index)
    return folder


def task(folder: Path, seed: int = 0, parts: int = 2, **settings: object) -> MaskedLMTask:
    config = MaskedLM.model_validate(settings)
    return MaskedLMTask(Tokens(folder), SPECIAL, config, seed=seed, batch_rows=8, parts=parts)


def examples(folder: Path, epochs: int = 5, **settings: object) -> list[Example]:
    made = task(folder, **settings)
    return [made.example(row, epoch) for epoch in range(epochs) for row in range(made.num_rows)]


def unmasked(example: Example) -> np.ndarray:
    ids = example.ids.copy()
    ids[example.positions] = example.targets
    return ids


def documents(example: Example) -> tuple[set[int], set[int]]:
    """The documents that the first and the second text come from."""
    ids = unmasked(example)
    words = (ids != SPECIAL.cls) & (ids != SPECIAL.sep)
    first, second = (ids[words & (example.segments == side)] for side in (0, 1))
    return {int(i) // 10 - 1 for i in first}, {int(i) // 10 - 1 for i in second}


def test_a_fixed_share_of_each_row_is_predicted(folder: Path) -> None:
    for example in examples(folder, epochs=1, mask_share=0.2, next_sentence=False):
        assert len(example.positions) == 0.2 * LENGTH
        assert len(set(example.positions.tolist())) == len(example.positions)
        assert not {0, len(example.ids) - 1} & set(example.positions.tolist())


def test_of_these_80_percent_are_masked_10_random_10_kept(folder: Path) -> None:
    made = examples(folder, epochs=20, mask_share=0.3)
    seen = np.concatenate([example.ids[example.positions] for example in made])
    targets = np.concatenate([example.targets for example in made])
    masked, kept = (seen == SPECIAL.mask).mean(), (seen == targets).mean()
    # About 14,000 draws: five standard deviations of a share of 10 % are 0.013, of 80 % 0.017.
    assert masked == pytest.approx(0.8, abs=0.017)
    assert kept == pytest.approx(0.1, abs=0.013)
    drawn = seen[(seen != SPECIAL.mask) & (seen != targets)]
    assert drawn.min() >= 5  # no special token
    assert len(np.unique(drawn)) > 300


def test_half_of_the_second_texts_follow_and_the_others_are_of_another_document(
    folder: Path,
) -> None:
    made = examples(folder, epochs=20)
    labels = np.array([example.label for example in made])
    assert (labels == OTHER).mean() == pytest.approx(0.5, abs=0.05)  # 2,400 draws: 5 deviations
    for example in made:
        first, second = documents(example)
        assert len(first) == len(second) == 1
        assert (first == second) == (example.label == FOLLOWS)


def test_a_following_pair_is_the_row_cut_at_a_sentence(folder: Path) -> None:
    tokens, made = Tokens(folder), task(folder)
    for row in range(3):  # rows of two sentences: 8 tokens, then 12
        pairs = [made.example(row, epoch) for epoch in range(8)]
        followed = [example for example in pairs if example.label == FOLLOWS]
        assert followed
        for example in followed:
            ids = tokens.row(row).ids.tolist()
            expected = [SPECIAL.cls, *ids[:8], SPECIAL.sep, *ids[8:], SPECIAL.sep]
            assert unmasked(example).tolist() == expected
            assert example.segments.tolist() == [0] * 10 + [1] * 13


def test_rows_of_one_sentence_have_both_labels(folder: Path) -> None:
    made = task(folder)
    labels = {made.example(ROWS - 1, epoch).label for epoch in range(20)}
    assert labels == {FOLLOWS, OTHER}


def test_no_row_grows_longer_than_it_was(folder: Path) -> None:
    assert max(len(example.ids) for example in examples(folder)) == LENGTH + 3


def test_an_example_depends_on_seed_epoch_and_row_alone(folder: Path) -> None:
    def ids(seed: int, epoch: int, parts: int) -> list[int]:
        made = task(folder, seed, parts)
        made.batches(3)  # what else was asked before plays no part
        return made.example(5, epoch).ids.tolist()

    assert ids(1, 2, 1) == ids(1, 2, 2)
    assert ids(1, 2, 1) != ids(1, 3, 1)
    assert ids(1, 2, 1) != ids(2, 2, 1)


def test_without_next_sentence_a_row_is_one_text(folder: Path) -> None:
    example = task(folder, next_sentence=False).example(0, 0)
    ids = Tokens(folder).row(0).ids.tolist()
    assert unmasked(example).tolist() == [SPECIAL.cls, *ids, SPECIAL.sep]
    assert not example.segments.any()


def test_one_document_cannot_give_next_sentence_pairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"two documents or more.*next_sentence=false"):
        task(written(tmp_path, 1))
    task(written(tmp_path, 1), next_sentence=False)


def test_the_loss_is_transformers_own(folder: Path) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1000,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=0,
        attention_probs_dropout_prob=0,
    )
    model, made = BertForPreTraining(config), task(folder, parts=1)
    (batch,) = made.batches(0)
    given = batch.tensors
    labels = torch.full_like(given["input_ids"], -100).flatten()
    labels[given["positions"]] = given["targets"]
    expected = model(
        input_ids=given["input_ids"],
        attention_mask=given.get("attention_mask"),
        token_type_ids=given["token_type_ids"],
        labels=labels.view_as(given["input_ids"]),
        next_sentence_label=given["labels"],
    ).loss
    sums = made.sums(model, batch)
    found = sum(sums[name] / batch.counts[name] for name in made.objectives)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_parts_of_a_batch_are_the_whole_batch(folder: Path) -> None:
    (whole,) = task(folder, parts=1).batches(2)
    parts = task(folder, parts=3).batches(2)
    assert sorted(row for part in parts for row in part.rows) == sorted(whole.rows)
    assert {n: sum(p.counts[n] for p in parts) for n in whole.counts} == whole.counts
    assert sum(part.tokens for part in parts) == whole.tokens
