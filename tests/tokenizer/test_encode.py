"""Encoding with the library alone: no text forges a special token, and torch stays away."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pipelines.core.errors import ArtifactError
from pipelines.tokenizer.encode import boundaries, end_of_text, open_backend, plain_ids
from pipelines.tokenizer.load import open_tokenizer

SPECIALS = {
    "wordpiece": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "bpe": ("<|pad|>", "<|endoftext|>", "<|cls|>", "<|sep|>", "<|mask|>"),
    "unigram": ("<pad>", "<unk>", "<s>", "</s>", "<mask>"),
}
UNKNOWN = {"wordpiece": "[UNK]", "bpe": None, "unigram": "<unk>"}
LITERALS = [name for names in SPECIALS.values() for name in names]
HOSTILE = st.lists(st.one_of(st.sampled_from(LITERALS), st.text(max_size=8))).map("".join)


@pytest.fixture(scope="module", params=["wordpiece", "bpe", "unigram"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def backend(kind: str, folders: dict[str, Path]) -> Tokenizer:
    return open_backend(folders[kind])


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(HOSTILE, max_size=4))
def test_no_text_yields_a_special_token_but_unknown(
    texts: list[str], kind: str, backend: Tokenizer
) -> None:
    forbidden = {backend.token_to_id(name) for name in SPECIALS[kind]}
    assert None not in forbidden
    forbidden -= {backend.token_to_id(UNKNOWN[kind] or "")}
    for ids in plain_ids(backend, texts):
        assert not forbidden.intersection(ids)


def test_the_library_by_itself_does_forge_one(kind: str, folders: dict[str, Path]) -> None:
    """The control for the property above."""
    library = Tokenizer.from_file(str(folders[kind] / "tokenizer.json"))
    literal = SPECIALS[kind][3]
    ids = library.encode(f"a {literal} b", add_special_tokens=False).ids
    assert library.token_to_id(literal) in ids


def test_special_text_in_byte_level_bpe_is_kept_as_text(folders: dict[str, Path]) -> None:
    backend = open_backend(folders["bpe"])
    text = "end<|endoftext|> [MASK]<|mask|>"
    assert backend.decode(plain_ids(backend, [text])[0], skip_special_tokens=False) == text


def test_max_length_keeps_the_first_ids(backend: Tokenizer, texts: list[str]) -> None:
    whole = plain_ids(backend, texts)
    assert plain_ids(backend, texts, 3) == [ids[:3] for ids in whole]
    assert plain_ids(backend, [], 3) == []


def test_many_threads_may_encode_at_once(backend: Tokenizer, texts: list[str]) -> None:
    expected = plain_ids(backend, texts)
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda _: plain_ids(backend, texts), range(64))
    assert all(ids == expected for ids in found)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no tokenizer"):
        open_backend(tmp_path)


def test_encoding_documents_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, pipelines.tokens.encode; print({'torch', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_boundaries_are_those_that_transformers_knows(
    kind: str, folders: dict[str, Path]
) -> None:
    tokenizer = open_tokenizer(folders[kind])
    assert boundaries(folders[kind]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


def test_a_folder_that_names_no_boundaries_is_refused(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_bytes((folders[kind] / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"cls_token": "[CLS]"}')
    with pytest.raises(ArtifactError, match="cls_token and sep_token"):
        boundaries(tmp_path)


def test_a_document_ends_with_the_eos_token_or_sep(kind: str, folders: dict[str, Path]) -> None:
    names = {"wordpiece": "[SEP]", "bpe": "<|endoftext|>", "unigram": "</s>"}
    backend = open_backend(folders[kind])
    assert end_of_text(folders[kind]) == backend.token_to_id(names[kind])


@pytest.mark.parametrize("config", ["{}", "[]", '{"eos_token": "<none>"}'])
def test_a_folder_that_names_no_end_of_text_is_refused(
    config: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_bytes((folders["bpe"] / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(config)
    with pytest.raises(ArtifactError, match="eos_token"):
        end_of_text(tmp_path)
