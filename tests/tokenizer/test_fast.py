"""Fast encoders give the library's ids: on every character, on hostile and on real text."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.errors import ArtifactError
from pipelines.tokenizer import fast
from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokenizer.encode import open_backend
from pipelines.tokenizer.fast import Encoder, Library, disagreement, open_encoder
from pipelines.tokenizer.train import train

KINDS = {"wordpiece": "words", "bpe": "tiktoken", "unigram": "words"}
LITERALS = [
    "[SEP]",
    "[MASK]",
    "[UNK]",
    "<|endoftext|>",
    "<|sep|>",
    "<s>",
    "</s>",
    "<mask>",
    "<pad>",
]
PIECES = st.one_of(
    st.sampled_from([*LITERALS, " ", "  ", "\n", "\t\n ", "\x1c", "\x85", "\xa0", "　", "'s", "▁"]),
    st.text(max_size=6),
    st.text("ab 狐。é!\u0301", max_size=8),
)
TEXTS = st.lists(st.lists(PIECES, max_size=8).map("".join), max_size=4)


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of real English and Chinese."""
    made = tmp_path_factory.mktemp(kind)
    config = TokenizerConfig.model_validate({"corpus": "-", "kind": kind, "vocab_size": 4000})
    train(config, real(shared_data, 5)).save_pretrained(made)
    return made


def real(shared_data: Path, step: int) -> list[str]:
    texts = []
    for name in ("en_wikitext2_valid", "zh_luxun"):
        with gzip.open(shared_data / f"pretrain/{name}.jsonl.gz") as lines:
            texts += [json.loads(line)["text"] for line in lines][::step]
    return texts


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return open_encoder(folder)


@pytest.fixture(scope="module")
def library(folder: Path) -> Library:
    return Library(open_backend(folder))


def test_each_kind_has_its_fast_way(kind: str, encoder: Encoder) -> None:
    assert encoder.name == KINDS[kind]


def test_every_character_in_every_neighbourhood(encoder: Encoder, library: Library) -> None:
    """All of the Basic Multilingual Plane and the emoji beyond: about 66,000 texts."""
    codes = [
        *range(0xD800),
        *range(0xE000, 0x10000),
        *range(0x1F300, 0x1F700),
        *range(0xE0000, 0xE0080),
    ]
    texts = [f"a {c}b {c}{c}\n{c} A{c}c" for c in map(chr, codes)]
    for at in range(0, len(texts), 8000):
        some = texts[at : at + 8000]
        pairs = zip(some, encoder.ids(some), library.ids(some), strict=True)
        assert [
            hex(ord(text[2])) for text, ours, theirs in pairs if ours.tolist() != theirs.tolist()
        ] == []


@settings(max_examples=200, deadline=None)
@given(texts=TEXTS)
def test_hostile_text(texts: list[str], encoder: Encoder, library: Library) -> None:
    for ours, theirs in zip(encoder.ids(texts), library.ids(texts), strict=True):
        assert ours.tolist() == theirs.tolist()
        assert ours.dtype == theirs.dtype


def test_real_text(encoder: Encoder, library: Library, shared_data: Path) -> None:
    assert disagreement(encoder, library, real(shared_data, 3)) is None


@pytest.mark.parametrize(
    "text",
    [
        " " * 1_100_000 + "x",  # overflows the stack of tiktoken's regular expressions
        "\n" * 300_000,
        "a" * 30_000,
        "狐" * 30_000,
        "word 狐狸。\n  " * 120_000,  # cut into blocks
        "\x1c" + "word " * 1000,
        "x" * 1_200_000 + " y",
    ],
    ids=["spaces", "lines", "one word", "Han", "long", "separator", "long word"],
)
def test_texts_that_break_encoders(text: str, encoder: Encoder, library: Library) -> None:
    assert encoder.ids([text])[0].tolist() == library.ids([text])[0].tolist()


def test_a_dictionary_begun_anew_changes_nothing(
    folder: Path, library: Library, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "CACHE_BYTES", 1000)
    monkeypatch.setattr(fast, "BLOCK", 500)
    texts = real(shared_data, 10)
    small = open_encoder(folder)
    for ours, theirs in zip(small.ids(texts), library.ids(texts), strict=True):
        assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("before", [0, 1, 4999, 5000, 7777])
def test_a_long_blank_is_found_wherever_it_lies(before: int) -> None:
    assert fast._has_long_blank("x" * before + " " * fast.LONG_BLANK + "x")
    assert not fast._has_long_blank(("x" * before + " " * 4000 + "x") * 5)


def test_a_disagreement_says_where(library: Library) -> None:
    class Wrong:
        name = "wrong"

        def ids(self, texts: list[str]) -> list[np.ndarray]:
            return [np.append(ids[:-1], 7) for ids in library.ids(texts)]

    found = disagreement(Wrong(), library, ["The fox ran over the dog"])
    assert found is not None
    assert "wrong gives [7] where library gives" in found
    assert "'The fox ran over the dog'" in found


def altered(folder: Path, tmp_path: Path, **changes: object) -> Path:
    spec = json.loads((folder / "tokenizer.json").read_text())
    for place, value in changes.items():
        if place in spec["model"]:
            spec["model"][place] = value
        else:
            spec[place] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    return tmp_path


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"dropout": 0.1},
        {"ignore_merges": True},
        {
            "pre_tokenizer": {
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": True,
                "use_regex": True,
            }
        },
    ],
    ids=["normalizer", "splitter", "dropout", "ignore_merges", "prefix space"],
)
def test_a_bpe_of_another_make_is_left_to_the_library(
    changes: dict[str, object], folders: dict[str, Path], tmp_path: Path
) -> None:
    assert open_encoder(altered(folders["bpe"], tmp_path, **changes)).name == "library"


def test_merges_out_of_order_are_left_to_the_library(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    merges = json.loads((folders["bpe"] / "tokenizer.json").read_text())["model"]["merges"]
    swapped = [merges[1], merges[0], *merges[2:]]
    assert open_encoder(altered(folders["bpe"], tmp_path, merges=swapped)).name == "library"
    fewer = altered(folders["bpe"], tmp_path, merges=merges[:-1])
    assert open_encoder(fewer).name == "library"


def test_a_token_added_for_text_is_left_to_the_library(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    spec = json.loads((folders["wordpiece"] / "tokenizer.json").read_text())
    added = [one | {"special": False} for one in spec["added_tokens"]]
    assert (
        open_encoder(altered(folders["wordpiece"], tmp_path, added_tokens=added)).name == "library"
    )


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no tokenizer"):
        open_encoder(tmp_path)
