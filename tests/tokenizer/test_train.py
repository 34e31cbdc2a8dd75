"""What a learnt tokenizer is: repeatable, framed as BERT's, and loadable by transformers."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipelines.core.errors import ConfigError
from pipelines.tokenizer.config import TokenizerConfig
from pipelines.tokenizer.fast import open_encoder
from pipelines.tokenizer.load import encode_texts, open_tokenizer, sentinels
from pipelines.tokenizer.train import train

KINDS = ("wordpiece", "bpe", "unigram")


def configured(kind: str, **settings: object) -> TokenizerConfig:
    return TokenizerConfig.model_validate({"corpus": "unused", "kind": kind} | settings)


def wikitext(shared_data: Path) -> list[str]:
    with gzip.open(shared_data / "pretrain/en_wikitext2_valid.jsonl.gz") as lines:
        return [json.loads(line)["text"] for line in lines][:10]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_texts_give_the_same_bytes_on_any_number_of_threads(
    kind: str, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for number, parallel in enumerate(("false", "true", "true")):
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", parallel)
        folder = tmp_path / str(number)
        tokenizer = train(configured(kind, vocab_size=1000), wikitext(shared_data))
        tokenizer.save_pretrained(folder)
        seen.add(tuple(file.read_bytes() for file in sorted(folder.iterdir())))
    assert len(seen) == 1


def test_the_library_alone_does_not_repeat_wordpiece(shared_data: Path) -> None:
    """The control for the test above: why the alphabet is numbered before training."""
    texts, seen = wikitext(shared_data), set()
    for _ in range(3):
        backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer()
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=1000, show_progress=False)
        backend.train_from_iterator(texts, trainer)
        seen.add(backend.to_str())
    assert len(seen) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_is_framed_as_bert_frames_it(kind: str, folders: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders[kind])
    pair = tokenizer("low", "new")
    a = tokenizer("low", add_special_tokens=False)["input_ids"]
    b = tokenizer("new", add_special_tokens=False)["input_ids"]
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert pair["input_ids"] == [cls, *a, sep, *b, sep]
    assert pair["token_type_ids"] == [0] * (len(a) + 2) + [1] * (len(b) + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_it_with_all_special_tokens(kind: str, folders: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders[kind])
    names = ("pad", "unk", "cls", "sep", "mask")
    assert [getattr(tokenizer, f"{name}_token_id") for name in names] == [0, 1, 2, 3, 4]
    assert tokenizer.is_fast
    assert tokenizer.model_max_length == 512


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_and_the_library_give_equal_ids(
    kind: str, folders: dict[str, Path], texts: list[str]
) -> None:
    ours = AutoTokenizer.from_pretrained(folders[kind])
    library = Tokenizer.from_file(str(folders[kind] / "tokenizer.json"))
    for text in texts:
        assert ours(text)["input_ids"] == library.encode(text).ids


@pytest.fixture(scope="module")
def bpe(folders: dict[str, Path]) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(folders["bpe"], split_special_tokens=True)


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_byte_level_bpe_gives_back_any_text(text: str, bpe: PreTrainedTokenizerFast) -> None:
    assert bpe.decode(bpe(text, add_special_tokens=False)["input_ids"]) == text


def test_wordpiece_pieces_are_those_counted_by_hand() -> None:
    """`ab` ten times: the alphabet is a, b, ##a, ##b, and the only pair merges into ab."""
    tokenizer = train(configured("wordpiece", vocab_size=300), ["ab " * 10])
    entries = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    assert entries[5:] == ["a", "b", "##a", "##b", "ab"]


def test_lowercase_folds_case_and_accents_only_when_asked() -> None:
    texts = ["Café CAFÉ café"] * 5
    folded = train(configured("wordpiece", vocab_size=300), texts)
    kept = train(configured("wordpiece", vocab_size=300, lowercase=False), texts)
    assert folded.tokenize("CAFÉ") == ["cafe"]
    assert kept.tokenize("CAFÉ") == ["CAFÉ"]


def test_the_alphabet_takes_at_most_half_of_the_entries() -> None:
    """200 Chinese characters, the first the commonest; 300 entries keep (300 - 5) // 2 = 147."""
    characters = [chr(0x4E00 + number) for number in range(200)]
    text = "".join(c * (200 - number) for number, c in enumerate(characters))
    tokenizer = train(configured("wordpiece", vocab_size=300), [text])
    single = {entry for entry in tokenizer.get_vocab() if len(entry) == 1}
    assert single == set(characters[:147])


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_the_entries_asked_for_are_learnt(kind: str, shared_data: Path) -> None:
    assert len(train(configured(kind, vocab_size=700), wikitext(shared_data))) == 700


def test_the_library_alone_does_not_repeat_unigram(shared_data: Path) -> None:
    """The control for the same: why SentencePiece's own trainer learns it."""
    texts, seen = wikitext(shared_data), set()
    for _ in range(3):
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=500, show_progress=False)
        backend.train_from_iterator(texts, trainer)
        seen.add(backend.to_str())
    assert len(seen) > 1


def test_unigram_folds_compatibility_characters_and_white_space() -> None:
    tokenizer = train(configured("unigram", vocab_size=300), ["the fox ran\n"] * 20)
    ids = tokenizer("the fox", add_special_tokens=False)["input_ids"]
    assert tokenizer("  ｔｈｅ \n\t fox ", add_special_tokens=False)["input_ids"] == ids
    assert tokenizer.decode(ids) == "the fox"


def test_unigram_with_fewer_entries_than_characters_is_an_error() -> None:
    text = " ".join(chr(0x4E00 + number) for number in range(1000))
    with pytest.raises(ConfigError, match="vocab_size leaves 295 entries"):
        train(configured("unigram", vocab_size=300), [text] * 3)


@pytest.mark.parametrize("kind", KINDS)
def test_sentinels_are_special_entries_that_no_text_forges(
    kind: str, texts: list[str], tmp_path: Path
) -> None:
    made = train(configured(kind, vocab_size=400, sentinels=4), texts)
    made.save_pretrained(tmp_path)
    tokenizer = open_tokenizer(tmp_path)
    ids = sentinels(tokenizer)
    assert len(ids) == 4
    assert len(tokenizer) <= 400
    assert set(ids.tolist()) <= set(tokenizer.all_special_ids)
    (found,) = encode_texts(tokenizer, ["a <extra_id_0> b"])
    assert not set(ids.tolist()) & set(found)
    (fast,) = open_encoder(tmp_path).ids(["a <extra_id_0> b"])
    assert fast.tolist() == found


@pytest.mark.parametrize("kind", KINDS)
def test_without_sentinels_there_are_none(kind: str, folders: dict[str, Path]) -> None:
    assert "extra" not in (folders[kind] / "tokenizer_config.json").read_text()
    assert len(sentinels(open_tokenizer(folders[kind]))) == 0
