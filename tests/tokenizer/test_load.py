"""Encoding: no text forges a special token, whoever calls and from however many threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipelines.core.errors import ArtifactError
from pipelines.tokenizer.load import encode_texts, open_tokenizer

SPECIALS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("<|pad|>", "<|endoftext|>", "<|cls|>", "<|sep|>", "<|mask|>"),
)
HOSTILE = st.lists(st.one_of(st.sampled_from(SPECIALS), st.text(max_size=8))).map("".join)


@pytest.fixture(scope="module", params=["wordpiece", "bpe"])
def tokenizer(request: pytest.FixtureRequest, folders: dict[str, Path]) -> PreTrainedTokenizerFast:
    return open_tokenizer(folders[request.param])


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(HOSTILE, max_size=4))
def test_no_text_yields_a_special_token_but_unknown(
    texts: list[str], tokenizer: PreTrainedTokenizerFast
) -> None:
    forbidden = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for ids in encode_texts(tokenizer, texts):
        assert not forbidden.intersection(ids)


def test_the_plain_library_call_does_forge_one(folders: dict[str, Path]) -> None:
    """The control for the property above."""
    tokenizer = AutoTokenizer.from_pretrained(folders["wordpiece"])
    ids = tokenizer("a [SEP] b", add_special_tokens=False)["input_ids"]
    assert tokenizer.sep_token_id in ids


def test_special_text_in_byte_level_bpe_is_kept_as_text(folders: dict[str, Path]) -> None:
    tokenizer = open_tokenizer(folders["bpe"])
    text = "end<|endoftext|> [MASK]<|mask|>"
    (ids,) = encode_texts(tokenizer, [text])
    assert tokenizer.decode(ids) == text


def test_each_text_has_the_ids_it_has_alone(
    tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    together = encode_texts(tokenizer, texts)
    assert together == [encode_texts(tokenizer, [text])[0] for text in texts]
    assert together == [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


def test_max_length_keeps_the_first_ids(
    tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    whole = encode_texts(tokenizer, texts)
    assert encode_texts(tokenizer, texts, 3) == [ids[:3] for ids in whole]
    assert encode_texts(tokenizer, [], 3) == []


def test_what_another_caller_set_on_the_tokenizer_changes_nothing(folders: dict[str, Path]) -> None:
    tokenizer = open_tokenizer(folders["wordpiece"])
    expected = encode_texts(tokenizer, ["the quick brown fox [SEP]", "low"])
    tokenizer(["low", "lower lowest"], padding=True, truncation=True, max_length=4)
    tokenizer.backend_tokenizer.encode_special_tokens = False
    assert encode_texts(tokenizer, ["the quick brown fox [SEP]", "low"]) == expected


def test_many_threads_may_encode_at_once(
    tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    expected = encode_texts(tokenizer, texts)
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda _: encode_texts(tokenizer, texts), range(64))
    assert all(ids == expected for ids in found)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no tokenizer"):
        open_tokenizer(tmp_path)
