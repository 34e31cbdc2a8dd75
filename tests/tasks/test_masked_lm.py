"""Masks and pairs: their shares, what depends on what, and the loss against transformers' own."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForPreTraining

from pipelines.core.errors import ConfigError, DataError
from pipelines.tasks.config import MaskedLM
from pipelines.tasks.masked_lm import FOLLOWS, IN_ORDER, OTHER, SWAPPED, Example, MaskedLMTask
from pipelines.tasks.special import Special
from pipelines.tokens import shards
from pipelines.tokens.encode import Encoded
from pipelines.tokens.shards import Tokens
from tests.tasks.tiny import END, model, write_rows, write_tokens

# Ids below 5 are special; a token tells its document d: it is 10 d + 10 to 10 d + 19.
SPECIAL = Special(pad=0, cls=2, sep=3, mask=4, ordinary=np.arange(5, 1000))
DOCUMENTS, ROWS, LENGTH = 30, 4, 20


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty documents of four rows of twenty tokens, each row of two sentences but the last."""
    return written(tmp_path_factory.mktemp("tokens"), DOCUMENTS)


def written(folder: Path, documents: int) -> Path:
    sentences = [[8, 12]] * (ROWS - 1) + [[LENGTH]]
    return saved(folder, [(document, row) for document in range(documents) for row in sentences])


def saved(folder: Path, made: list[tuple[int, list[int]]]) -> Path:
    """Tokens of rows given by their document and the lengths of their sentences, which end in 9."""
    rows, starts, tokens = [], [], []
    for document, sentences in made:
        rows.append((len(tokens), len(starts), document))
        starts += np.cumsum([0, *sentences[:-1]]).tolist()
        for length in sentences:
            tokens += [10 * document + 10 + n % 9 for n in range(length - 1)]
            tokens.append(10 * document + 19)
    rows.append((len(tokens), len(starts), -1))
    encoded = Encoded(np.array(tokens, np.uint32), np.array(rows), np.array(starts, np.uint32))
    for name, data in shards.files(0, encoded, 1000).items():
        (folder / name).write_bytes(data)
    index = shards.index([encoded.counts], length=32, vocab_size=1000, tokenizer="0" * 64)
    (folder / shards.INDEX).write_bytes(index)
    return folder


def task(folder: Path, seed: int = 0, **settings: object) -> MaskedLMTask:
    config = MaskedLM.model_validate(settings)
    return MaskedLMTask(Tokens(folder), SPECIAL, config, seed=seed)


def examples(folder: Path, epochs: int = 5, **settings: object) -> list[Example]:
    made = task(folder, **settings)
    return [made.example(row, epoch) for epoch in range(epochs) for row in range(len(made.lengths))]


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
    for example in examples(folder, epochs=1, mask_share=0.2, pair="none"):
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


@pytest.mark.parametrize("pair", ["next-sentence", "sentence-order"])
def test_packed_rows_have_no_pairs(pair: str, tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path, [[10, 11], [20, 21]])
    with pytest.raises(DataError, match=rf"pair={pair} needs.*these are concat.*pair=none"):
        task(tokens.folder, pair=pair)


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


def test_every_row_of_another_document_is_as_likely(folder: Path) -> None:
    made = task(folder)
    random = np.random.Generator(np.random.Philox(5))
    drawn = Counter(made._other(50, random) for _ in range(6_000))  # document 12 has rows 48 to 51
    assert sorted(drawn) == [row for row in range(DOCUMENTS * ROWS) if row // ROWS != 12]
    # 6,000 draws of 1/116: 52 each, and five standard deviations are 36.
    assert max(drawn.values()) < 88


def test_a_following_pair_is_the_row_cut_at_a_sentence(folder: Path) -> None:
    tokens, made = Tokens(folder), task(folder)
    for row in range(3):  # rows of two sentences: 8 tokens, then 12
        pairs = [made.example(row, epoch) for epoch in range(8)]
        followed = [example for example in pairs if example.label == FOLLOWS]
        assert followed
        for example in followed:
            ids = tokens.row(row).ids.tolist()
            kept = int(example.segments.sum()) - 1  # cut to the length of some other text
            expected = [SPECIAL.cls, *ids[:8], SPECIAL.sep, *ids[8 : 8 + kept], SPECIAL.sep]
            assert 1 <= kept <= 12
            assert unmasked(example).tolist() == expected
            assert example.segments.tolist() == [0] * 10 + [1] * (kept + 1)


def test_rows_of_one_sentence_have_both_labels(folder: Path) -> None:
    made = task(folder)
    labels = {made.example(ROWS - 1, epoch).label for epoch in range(20)}
    assert labels == {FOLLOWS, OTHER}


@pytest.fixture(scope="session")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty documents of rows packed with sentences of 4 to 15 tokens up to 32, the last shorter.

    As in real Tokens, most rows are nearly full and the last one of a document is of any length.
    """
    draw = np.random.Generator(np.random.PCG64(1))
    rows: list[tuple[int, list[int]]] = []
    for document in range(60):
        row: list[int] = []
        for length in draw.integers(4, 16, size=10).tolist():
            if sum(row) + length > 32:
                rows.append((document, row))
                row = []
            row.append(length)
        rows.append((document, row))
    return saved(tmp_path_factory.mktemp("ragged"), rows)


def sides(example: Example) -> tuple[int, int]:
    """Tokens of the first and of the second text."""
    second = int(example.segments.sum()) - 1
    return len(example.ids) - second - 3, second


def test_the_lengths_of_a_row_tell_nothing_of_its_label(ragged: Path) -> None:
    made = examples(ragged, epochs=20)
    labels = np.array([example.label for example in made])
    first, second = np.array([sides(example) for example in made]).T
    for lengths in (first, second, first + second):
        edges = np.arange(40)
        shares = [(lengths[labels == label, None] <= edges).mean(0) for label in (FOLLOWS, OTHER)]
        # Kolmogorov-Smirnov: 2,340 draws each of one law are this far apart once in 1,000 times.
        assert np.abs(shares[0] - shares[1]).max() < 0.058


def test_where_a_row_ends_tells_little_of_its_label_even_with_its_length(ragged: Path) -> None:
    right: Counter[tuple[int, bool]] = Counter()
    made = examples(ragged, epochs=20)
    for example in made:
        ends = bool(unmasked(example)[-2] % 10 == 9)
        right[sum(sides(example)), ends] += 1 if example.label == FOLLOWS else -1
    # The best rule for each length and ending is right by chance in 0.54 of 4,680 rows; with
    # second texts cut to the shorter one's very end it would be in 0.63.
    share = 0.5 + sum(abs(lead) for lead in right.values()) / len(made) / 2
    assert share < 0.56


def test_no_row_grows_longer_than_it_was(folder: Path) -> None:
    tokens, made = Tokens(folder), task(folder)
    for epoch in range(5):
        for row in range(len(made.lengths)):
            assert len(made.example(row, epoch).ids) <= len(tokens.row(row).ids) + 3


def test_an_example_depends_on_seed_epoch_and_row_alone(folder: Path) -> None:
    def ids(seed: int, epoch: int, before: int = 0) -> list[int]:
        made = task(folder, seed)
        made.batch(np.arange(before), epoch)  # what else was asked before plays no part
        return made.example(5, epoch).ids.tolist()

    assert ids(1, 2) == ids(1, 2, before=4)
    assert ids(1, 2) != ids(1, 3)
    assert ids(1, 2) != ids(2, 2)


def test_without_next_sentence_a_row_is_one_text(folder: Path) -> None:
    example = task(folder, pair="none").example(0, 0)
    ids = Tokens(folder).row(0).ids.tolist()
    assert unmasked(example).tolist() == [SPECIAL.cls, *ids, SPECIAL.sep]
    assert not example.segments.any()


def test_one_document_cannot_give_next_sentence_pairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"two documents or more.*pair=none"):
        task(written(tmp_path, 1))
    task(written(tmp_path, 1), pair="none")


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
    model, made = BertForPreTraining(config), task(folder)
    batch = made.batch(np.arange(8), 0)
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
    made, rows = task(folder), np.arange(8)
    whole, parts = made.batch(rows, 2), [made.batch(rows[part::3], 2) for part in range(3)]
    assert {n: sum(p.counts[n] for p in parts) for n in whole.counts} == whole.counts
    assert sum(part.tokens for part in parts) == whole.tokens


def test_a_swapped_pair_is_the_row_with_its_halves_changed_about(folder: Path) -> None:
    tokens, made = Tokens(folder), task(folder, pair="sentence-order")
    labels: Counter[int] = Counter()
    for epoch in range(30):
        example = made.example(1, epoch)  # of two sentences: 8 tokens, then 12
        ids = tokens.row(1).ids.tolist()
        first, second = (ids[:8], ids[8:]) if example.label == IN_ORDER else (ids[8:], ids[:8])
        assert unmasked(example).tolist() == [2, *first, 3, *second, 3]
        assert example.segments.tolist() == [0] * (len(first) + 2) + [1] * (len(second) + 1)
        labels[example.label] += 1
    assert min(labels[IN_ORDER], labels[SWAPPED]) > 5  # 30 fair draws: once in 2,000 runs fewer


def test_sentence_order_needs_no_second_document(tmp_path: Path) -> None:
    made = task(written(tmp_path, 1), pair="sentence-order")
    assert made.objectives == {"masked_loss": 1.0, "order_loss": 1.0}
    batch = made.batch(np.arange(len(made.lengths)), 0)
    assert batch.counts["order_loss"] == batch.counts["order_accuracy"] == len(batch.rows)


def test_the_end_of_a_document_is_never_masked(tmp_path: Path) -> None:
    documents = [[10 + n] * 5 for n in range(8)]
    made = task(write_tokens(tmp_path, documents, "concat", 24).folder, pair="none", mask_share=0.9)
    for epoch in range(5):
        for row in range(len(made.lengths)):
            assert END not in made.example(row, epoch).targets


def test_modernberts_loss_is_transformers_own(tmp_path: Path) -> None:
    rows = [(document, [[10 + document] * (4 + document)]) for document in range(6)]
    made = task(write_rows(tmp_path, rows).folder, pair="none")
    batch = made.batch(np.arange(6), 0)
    encoder, given = model("modernbert"), batch.tensors
    labels = torch.full_like(given["input_ids"], -100).flatten()
    labels[given["positions"]] = given["targets"]
    with torch.no_grad():
        expected = encoder(
            input_ids=given["input_ids"],
            attention_mask=given["attention_mask"],
            labels=labels.view_as(given["input_ids"]),
        ).loss
        found = made.sums(encoder, batch)["masked_loss"] / batch.counts["masked_loss"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_model_without_a_head_for_pairs_is_refused(tmp_path: Path) -> None:
    made = task(write_rows(tmp_path, [(0, [[10]]), (1, [[11]])]).folder, pair="sentence-order")
    with pytest.raises(ConfigError, match=r"ModernBertForMaskedLM has no head.*pair=none"):
        made.sums(model("modernbert"), made.batch(np.arange(2), 0))
