"""Sums and numbers of words, and sentences, worked out by hand."""

import random

import pytest

from pipelines.corpus.rules import words as module
from pipelines.corpus.rules.words import Lexicon, Words, sentences


def test_sums_of_words_marks_and_letters():
    words = Words(["The", '"dog"', "isn't", "12", "--", "ok.", "The", "end"])
    # The " dog " is n't 12 -- ok . The end
    assert words.count == 12
    assert words.least == 8
    assert words.words == 8  # without " " -- .
    assert words.letters == 3 + 3 + 2 + 3 + 2 + 2 + 3 + 3
    assert words.alphabetic == 7  # 12 has no letter
    assert words.stop_words == 0  # `The` is none: case counts, as in datatrove


def test_stop_words_count_once_each():
    assert Words(["the", "the", "and", "with", "the"]).stop_words == 3


def test_equal_words_have_equal_numbers_in_order():
    ids, lengths = Words(["a,", "b,", "a"]).pieces()
    assert lengths.tolist() == [1, 1, 1, 1, 1]
    assert ids[0] == ids[4]
    assert ids[1] == ids[3]
    assert len(set(ids.tolist())) == 3


def test_what_was_seen_before_changes_nothing(monkeypatch):
    texts = ["one, two three.", "two (three) four", "it's one's own", "one, two three."]
    for _ in range(3):
        random.shuffle(texts)
        lexicon = Lexicon()
        monkeypatch.setattr(module, "LEXICON", lexicon)
        sums = {text: (Words(text.split()).count, Words(text.split()).letters) for text in texts}
        assert sums["one, two three."] == (5, 11)
        assert sums["two (three) four"] == (5, 12)


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_KNOWN", 10)
    lexicon = Lexicon()
    for number in range(100):
        facts, _ = lexicon.facts([f"word{number}", "same,"])
        assert facts[1, 1] == 2
        assert len(lexicon) <= 12


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("no end", 1),
        ("One. Two. Three", 3),
        ("One.", 1),
        ("One?! Two", 2),
        ('He said "No." Then left.', 2),
        ("Mr. Smith came.", 1),
        ("e.g. this", 1),
        ("Wait... what", 1),  # an ellipsis is no end
        ("One.  Two", 2),
        ("One.  ", 2),  # white space longer than a space is a token
        ("One. ", 1),
        ("", 1),
    ],
)
def test_sentences_are_those_of_the_sentencizer(text, count):
    assert sentences(text, 10) == count


def test_counting_sentences_stops_when_there_are_enough():
    assert sentences("A bee. " * 100, 5) == 5
