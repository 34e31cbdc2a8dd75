"""A setting that would do nothing is refused."""

import pytest

from pipelines.core.config import parse
from pipelines.core.errors import ConfigError
from pipelines.tokenizer.config import TokenizerConfig


def test_lowercase_belongs_to_wordpiece() -> None:
    with pytest.raises(ConfigError, match="lowercase is a setting of wordpiece"):
        parse(TokenizerConfig, {"corpus": "@c", "kind": "bpe", "lowercase": False}, "here")
    assert not parse(TokenizerConfig, {"corpus": "@c", "lowercase": False}, "here").lowercase


def test_pairs_are_not_unigrams() -> None:
    with pytest.raises(ConfigError, match="min_frequency counts pairs"):
        parse(TokenizerConfig, {"corpus": "@c", "kind": "unigram", "min_frequency": 5}, "here")


def test_sentinels_leave_room_for_a_vocabulary() -> None:
    settings = {"corpus": "@c", "vocab_size": 350, "sentinels": 60}
    with pytest.raises(ConfigError, match="leave 290 of vocab_size=350"):
        parse(TokenizerConfig, settings, "here")
