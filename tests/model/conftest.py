"""A tokenizer whose special tokens all differ, and models of every architecture that use it."""

from pathlib import Path

import pytest

from pipelines.model.build import Labels, Vocabulary, build
from pipelines.model.config import ModelConfig
from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokenizer.load import open_tokenizer
from pipelines.tokenizer.train import train


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    """A byte-level BPE of 281 entries: the one kind in which [SEP] is not what ends a text."""
    folder = tmp_path_factory.mktemp("tokenizer")
    config = TokenizerConfig(corpus="@corpus", kind="bpe", vocab_size=300)
    train(config, ["the cat sat on the mat and the dog on the log"] * 4).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_model(tokenizer_folder: Path):
    """A seeded nano model: `make_model("llama")`, `make_model("t5", ["no", "yes"])`."""
    vocabulary = Vocabulary.of(open_tokenizer(tokenizer_folder))

    def make(architecture, names=None, seed=1, **more):
        shape = ModelConfig.model_validate(f"{architecture}-nano").model_copy(update=more)
        return build(shape, vocabulary, Labels(names) if names else None, seed).eval()

    return make
