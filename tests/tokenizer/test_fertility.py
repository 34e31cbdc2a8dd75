"""Fertility by hand: one language at a time, Han characters as words."""

import numpy as np

from pipelines.tokenizer.fertility import TEXTS, WORD, fertility
from pipelines.tokenizer.sample import Sampled


class Letters:
    """One token a character that is not a space; `?` is unknown, id 1."""

    name = "letters"

    def ids(self, texts: list[str]) -> list[np.ndarray]:
        return [np.array([1 if c == "?" else 9 for c in text if c != " "]) for text in texts]


def test_the_ratios_are_those_counted_by_hand() -> None:
    found = fertility(Letters(), 1, [Sampled("ab cd?", "en"), Sampled("狐狸 a", "zh")])
    assert list(found) == ["all", "en", "zh"]
    assert found["en"].facts == {
        "texts": 1,
        "characters": 6,
        "tokens_per_word": 5 / 2,
        "characters_per_token": 6 / 5,
        "unknown_share": 1 / 5,
    }
    assert found["zh"].facts["tokens_per_word"] == 3 / 3
    assert found["all"].facts["tokens_per_word"] == 8 / 5


def test_a_han_character_is_a_word_and_so_is_a_run_of_others() -> None:
    assert WORD.findall("狐狸ran 3.5 次，好") == ["狐", "狸", "ran", "3.5", "次", "，", "好"]


def test_a_common_language_does_not_crowd_out_a_rare_one() -> None:
    drawn = [Sampled("a", "en")] * (TEXTS + 5) + [Sampled("b", "nl")]
    found = fertility(Letters(), None, drawn)
    assert (found["en"].texts, found["nl"].texts, found["all"].texts) == (TEXTS, 1, TEXTS + 1)
