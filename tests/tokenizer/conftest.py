"""Small English and Chinese texts, and a tokenizer of each kind learnt from them."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokenizer.train import train

TEXTS = [
    "The quick brown fox jumps over the lazy dog, again and again.",
    "Tokenizers learn merges: low, lower, lowest; new, newer, newest (widest).",
    "敏捷的狐狸跳过了懒狗。敏捷的狗跳过了狐狸！",
    "A café costs 3.14 € in 2024; [brackets], <tags> and | pipes too.",
] * 3


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Twelve short texts, each of four thrice."""
    return list(TEXTS)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The saved tokenizer of each kind, 400 entries."""
    made = {}
    for kind in ("wordpiece", "bpe", "unigram"):
        made[kind] = tmp_path_factory.mktemp(kind)
        trained(kind).save_pretrained(made[kind])
    return made


def trained(kind: str) -> PreTrainedTokenizerFast:
    config = TokenizerConfig(corpus="unused", kind=kind, vocab_size=400)
    return train(config, TEXTS)
