"""The transformers tokenizer of a folder encodes as the library does, whatever was set on it."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from pipelines.core.errors import ArtifactError
from pipelines.tokenizer.encode import open_backend, plain_ids
from pipelines.tokenizer.load import encode_texts, open_tokenizer

HOSTILE = ["the quick [SEP] fox [MASK]", "low<|endoftext|>lower<|sep|>", ""]


@pytest.fixture(scope="module", params=["wordpiece", "bpe", "unigram"])
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return open_tokenizer(folder)


def test_it_gives_the_ids_of_the_library_and_of_transformers(
    folder: Path, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    ids = encode_texts(tokenizer, texts + HOSTILE)
    assert ids == plain_ids(open_backend(folder), texts + HOSTILE)
    assert ids == tokenizer(texts + HOSTILE, add_special_tokens=False)["input_ids"]


def test_no_literal_text_yields_a_special_token_but_unknown(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    forbidden = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    ids = encode_texts(tokenizer, ["".join(tokenizer.all_special_tokens), *HOSTILE])
    assert not forbidden.intersection(*ids)


def test_what_another_caller_set_on_the_tokenizer_changes_nothing(folder: Path) -> None:
    tokenizer = open_tokenizer(folder)
    expected = encode_texts(tokenizer, HOSTILE)
    tokenizer(["low", "lower lowest"], padding=True, truncation=True, max_length=4)
    tokenizer.backend_tokenizer.encode_special_tokens = False
    assert encode_texts(tokenizer, HOSTILE) == expected


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no tokenizer"):
        open_tokenizer(tmp_path)
