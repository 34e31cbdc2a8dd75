"""Language detection: offline, of the first 2,000 characters."""

import pytest

from pipelines.corpus.language import CHARS, detect


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The quick brown fox jumps over the lazy dog and runs away.", "en"),
        ("今天的天气很好，我们去公园散步。", "zh"),
        ("Der schnelle braune Fuchs springt über den faulen Hund.", "de"),
        ("Le renard brun saute par-dessus le chien paresseux.", "fr"),
    ],
)
def test_a_sentence_has_its_language(text, code):
    found, score = detect(text)
    assert found == code
    assert 0.65 < score <= 1


def test_capitals_do_not_hide_a_language():
    assert (
        detect("THE OLD PEOPLE OF THIS SMALL TOWN HAVE KNOWN THAT WINTER COMES EARLY.")[0] == "en"
    )


def test_only_the_beginning_is_read():
    english = "The quick brown fox jumps over the lazy dog. " * 60
    assert len(english) > CHARS
    assert detect(english + "今天的天气很好。" * 500) == detect(english)
