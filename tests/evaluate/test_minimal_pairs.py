"""Minimal pairs: which of two sentences is likelier, overall and by phenomenon."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pipelines.core.errors import ConfigError, DataError
from pipelines.evaluate.minimal_pairs import Pair, judge_pairs, read_pairs
from tests.tasks.tiny import VOCABULARY, model

NAMES = {"pad_token": "0", "cls_token": "2", "sep_token": "3", "mask_token": "4"}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One whose words are the numbers of their ids."""
    vocabulary = {str(place): place for place in range(VOCABULARY)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="1"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="1", **NAMES)


def always(token: int) -> torch.nn.Module:
    """A decoder that finds `token` likelier than any other, whatever came before."""
    decoder = model("llama")
    with torch.no_grad():
        decoder.model.norm.weight.zero_()  # all states are 0, and so all scores
    decoder.lm_head = torch.nn.Linear(16, VOCABULARY)
    torch.nn.init.zeros_(decoder.lm_head.weight)
    torch.nn.init.zeros_(decoder.lm_head.bias)
    decoder.lm_head.bias.data[token] = 5.0
    return decoder


def test_the_share_of_pairs_whose_good_sentence_is_likelier(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    pairs = [
        Pair("agreement", "10 30", "10 31"),  # right
        Pair("agreement", "10 31", "10 30"),  # wrong
        Pair("islands", "11 30 12", "11 31 12"),  # right
        Pair("islands", "11 12", "11 13"),  # equal, so wrong
        Pair("order", "12 30 30", "12 30 31"),  # right
    ]
    found = judge_pairs(always(30), tokenizer, pairs)
    assert found["accuracy"] == 3 / 5
    assert found["by_phenomenon"] == {"agreement": 0.5, "islands": 0.5, "order": 1.0}
    assert found["standard_error"] == pytest.approx((0.6 * 0.4 / 5) ** 0.5)


def test_an_encoder_has_an_answer_for_each_pair(tokenizer: PreTrainedTokenizerFast) -> None:
    pairs = [Pair("any", f"10 {n} 12", f"10 {n + 1} 12") for n in range(20, 40)]
    flipped = [Pair("any", bad, good) for _, good, bad in pairs]
    found, mirrored = (judge_pairs(model("bert"), tokenizer, two) for two in (pairs, flipped))
    assert found["accuracy"] + mirrored["accuracy"] == pytest.approx(1.0)


def test_an_encoder_decoder_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ConfigError, match="a t5 is an encoder-decoder"):
        judge_pairs(model("t5"), tokenizer, [Pair("any", "10", "11")])


def test_blimps_lines_are_read(tmp_path: Path) -> None:
    row = {"linguistics_term": "npi", "sentence_good": "A b.", "sentence_bad": "B a."}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert read_pairs(path) == [Pair("npi", "A b.", "B a.")]
    path.write_text(json.dumps(row) + '\n{"sentence_good": "A"}\n')
    with pytest.raises(DataError, match=r"pairs\.jsonl:2: not a minimal pair: .*linguistics_term"):
        read_pairs(path)
