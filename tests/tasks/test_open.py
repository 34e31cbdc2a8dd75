"""Every kind of task opens from its settings, and learns; what does not fit is one clear error."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.core.errors import ConfigError, DataError
from pipelines.tasks.batches import Batches
from pipelines.tasks.config import CausalLM, Denoise, MaskedLM, SpanCorruption, TaskConfig
from pipelines.tasks.open import Rows, open_task
from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokenizer.encode import end_of_text, open_backend
from pipelines.tokenizer.fast import Library
from pipelines.tokenizer.load import open_tokenizer
from pipelines.tokenizer.train import train
from pipelines.tokens import shards
from pipelines.tokens.encode import encode
from pipelines.tokens.pack import best_fit, concat, flat
from pipelines.tokens.shards import Tokens

TEXTS = [(n, f"The {n} foxes ran. The dog slept {n} times! Nobody knows it.") for n in range(30)]
TASKS: list[tuple[TaskConfig, str]] = [
    (MaskedLM(), "document"),
    (MaskedLM(pair="sentence-order"), "document"),
    (MaskedLM(pair="none"), "best-fit"),
    (CausalLM(), "concat"),
    (SpanCorruption(), "document"),
    (Denoise(), "document"),
]


@pytest.fixture(scope="session", params=["wordpiece", "bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with sentinels of each kind in turn."""
    folder = tmp_path_factory.mktemp(request.param)
    facts = {"corpus": "-", "kind": request.param, "vocab_size": 310, "sentinels": 8}
    config = TokenizerConfig.model_validate(facts)
    train(config, [text for _, text in TEXTS]).save_pretrained(folder)
    return folder


def tokens(
    tokenizer: Path, packing: str, folder: Path, texts: list[tuple[int, str]] = TEXTS
) -> Path:
    backend = open_backend(tokenizer)
    end = None if packing == "document" else end_of_text(tokenizer)
    if end is None:
        encoded = encode(texts, backend, 32)
    else:
        made = flat(texts, Library(backend), end)
        encoded = {"concat": concat, "best-fit": best_fit}[packing](made, 32)
    folder.mkdir()
    size = backend.get_vocab_size()
    for name, data in shards.files(0, encoded, size).items():
        (folder / name).write_bytes(data)
    facts = {"length": 32, "vocab_size": size, "tokenizer": "0" * 64}
    index = shards.index([encoded.counts], packing=packing, end=end, **facts)
    (folder / shards.INDEX).write_bytes(index)
    return folder


@pytest.mark.parametrize(("config", "packing"), TASKS, ids=lambda one: getattr(one, "kind", one))
def test_each_task_opens_and_gives_the_same_batches_again(
    config: TaskConfig, packing: str, tokenizer: Path, tmp_path: Path
) -> None:
    rows = Rows(tokens(tokenizer, packing, tmp_path / "tokens"), tokenizer)
    (task, length), (again, _) = (open_task(config, rows, 0) for _ in range(2))
    assert length == 32
    for epoch in (0, 9, 4):
        batch, same = (one.batch(np.arange(8), epoch) for one in (task, again))
        assert all(bool((batch.tensors[n] == same.tensors[n]).all()) for n in batch.tensors)
        assert batch.tensors["input_ids"].shape[1] <= 40  # 32 in eights, and a span's mark
        assert set(task.objectives) <= set(batch.counts)
        assert set(task.batch(np.arange(0), epoch).counts) == set(batch.counts)


@pytest.mark.parametrize("tokenizer", ["wordpiece"], indirect=True)
@pytest.mark.parametrize(("config", "packing"), TASKS, ids=lambda one: getattr(one, "kind", one))
def test_a_row_is_the_same_whatever_shares_its_part(
    config: TaskConfig, packing: str, tokenizer: Path, tmp_path: Path
) -> None:
    rows = Rows(tokens(tokenizer, packing, tmp_path / "tokens"), tokenizer)
    pad = open_tokenizer(tokenizer).pad_token_id
    seen = []
    for parts in (1, 2, 3):
        task, _ = open_task(config, rows, 0)
        batches = Batches(task, seed=0, batch_rows=8, parts=parts)
        ids: dict[int, list[int]] = {}
        targets: list[int] = []
        for batch in batches.whole(11):
            ids |= zip(batch.rows, batch.tensors["input_ids"].tolist(), strict=True)
            targets += batch.tensors["targets"].tolist()
        bare = {row: [one for one in found if one != pad] for row, found in ids.items()}
        seen.append((bare, sorted(targets)))
    assert seen[0] == seen[1] == seen[2]


def test_a_tokens_folder_of_another_vocabulary_is_refused(tokenizer: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    train(TokenizerConfig(corpus="-", vocab_size=300), [TEXTS[0][1]]).save_pretrained(other)
    folder = tokens(other, "concat", tmp_path / "tokens")
    sizes = [len(open_tokenizer(one)) for one in (other, tokenizer)]
    with pytest.raises(DataError, match=rf"of {sizes[0]} entries.*has {sizes[1]}; give the one"):
        open_task(CausalLM(), Rows(folder, tokenizer), 0)


@pytest.mark.parametrize("tokenizer", ["wordpiece"], indirect=True)
@pytest.mark.parametrize("config", [SpanCorruption(), Denoise()], ids=lambda one: one.kind)
def test_packed_rows_are_not_rewritten(config: TaskConfig, tokenizer: Path, tmp_path: Path) -> None:
    rows = Rows(tokens(tokenizer, "concat", tmp_path / "tokens"), tokenizer)
    with pytest.raises(DataError, match=f"{config.kind} needs Tokens of packing=document"):
        open_task(config, rows, 0)


def without(names: set[str]) -> Any:
    """A tokenizer that lacks some special tokens, as decoders' do."""

    class Bare:
        def __getattr__(self, name: str) -> Any:
            return None if name in names else 1

    return Bare()


def test_a_tokenizer_without_a_mask_token_is_refused_for_masking() -> None:
    from pipelines.tasks.special import Special

    with pytest.raises(ConfigError, match="no mask_token"):
        Special.of(without({"mask_token_id"}))


def test_a_text_ends_with_eos_or_else_sep() -> None:
    from pipelines.tasks.special import end_id, pad_id

    assert end_id(without({"eos_token_id"})) == 1
    assert pad_id(without({"pad_token_id"})) == 0
    with pytest.raises(ConfigError, match="neither an eos token nor a sep token"):
        end_id(without({"eos_token_id", "sep_token_id"}))


@pytest.mark.parametrize("tokenizer", ["wordpiece"], indirect=True)
@pytest.mark.parametrize(("config", "packing"), TASKS, ids=lambda one: getattr(one, "kind", one))
def test_a_text_of_100_000_tokens_and_a_short_batch_are_learnt(
    config: TaskConfig, packing: str, tokenizer: Path, tmp_path: Path
) -> None:
    texts = [(0, "The dog slept. " * 3), (1, "the dog slept " * 34_000)]
    rows = Rows(tokens(tokenizer, packing, tmp_path / "tokens", texts), tokenizer)
    assert Tokens(rows.data).lengths.sum() >= 100_000
    task, _ = open_task(config, rows, 0)
    batches = Batches(task, seed=0, batch_rows=1_000, parts=2)
    last = batches.whole(batches.num_rows // 1_000)  # a batch that the rows do not fill
    assert sum(len(part.rows) for part in last) == batches.num_rows % 1_000
    assert all(part.tensors["input_ids"].shape[1] <= 40 for part in last)
