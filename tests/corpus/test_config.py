"""A setting that would do nothing is refused."""

import pytest

from pipelines.core.config import parse
from pipelines.core.errors import ConfigError
from pipelines.corpus.config import CorpusConfig


def test_the_fewest_words_belong_to_a_rule_set() -> None:
    sources = {"sources": [{"kind": "files", "paths": ["x.jsonl"]}]}
    with pytest.raises(ConfigError, match="min_words is a setting of the Gopher sets"):
        parse(CorpusConfig, sources | {"rules": ["c4"], "min_words": 5}, "here")
    assert parse(CorpusConfig, sources | {"min_words": 5}, "here").min_words == 5
