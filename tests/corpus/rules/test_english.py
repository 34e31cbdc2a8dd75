"""Words and marks as spaCy's blank English model cuts them; expectations are its own output."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.corpus.rules.english import MAX_CHUNK, pieces
from pipelines.corpus.rules.exceptions import exceptions


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        ("word", "word"),
        ('"Don\'t,"', '" Do n\'t , "'),
        ("can’t", "ca n’t"),
        ("cannot", "can not"),
        ("I'd've", "I 'd 've"),
        ("its", "its"),
        ("Inc.", "Inc."),
        ("U.S.", "U.S."),
        ("end.", "end ."),
        ("(e.g.,", "( e.g. ,"),
        ("end.Then", "end . Then"),
        ("well-known", "well - known"),
        ("fact--wishes", "fact -- wishes"),
        ("red,green", "red , green"),
        ("1,000", "1,000"),
        ("10-20", "10 - 20"),
        ("5pm", "5 pm"),
        ("10km", "10 km"),
        ("$5.00", "$ 5.00"),
        ("US$5", "US$ 5"),
        ("°C.", "° C ."),
        ("AB.", "AB ."),
        ("wait...", "wait ..."),
        ("....", "...."),
        (":-)", ":-)"),
        ("fine:-)", "fine:- )"),
        ("https://a.example.org/x,y", "https://a.example.org/x,y"),
        ("(www.example.com)", "( www.example.com )"),
        ("me@example.com", "me@example.com"),
        ("key=value", "key = value"),
        ('{"a":', '{ " a " :'),
        ("你好。", "你好 。"),
    ],
)
def test_a_chunk_is_cut_as_by_spacy(chunk, expected):
    assert pieces(chunk) == tuple(expected.split(" "))


def test_exceptions_are_as_many_as_in_spacy_but_for_white_space():
    assert len(exceptions()) == 1343  # 1,347 rules; those of " ", "\t", "\n", "\u00a0" left out
    assert all("".join(parts) == word for word, parts in exceptions().items())


@given(st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1, max_size=30))
def test_pieces_together_are_the_text(text):
    for chunk in text.split():
        assert "".join(pieces(chunk)) == chunk


@given(st.text("ab.,'\"()-:/@1$", min_size=1, max_size=12))
def test_marks_are_cut_without_loss(chunk):
    assert "".join(pieces(chunk)) == chunk
    assert all(pieces(chunk))


@pytest.mark.parametrize("unit", ["(", "a.", "a:", "a@a.", ".", "'", "a-", "1", "°"])
def test_hostile_text_takes_linear_time(unit):
    chunk = unit * (20_000 // len(unit))
    begin = time.process_time()
    assert "".join(pieces(chunk)) == chunk
    assert time.process_time() - begin < 5  # 0.4 s here; its square would be minutes


def test_longer_text_is_cut_first():
    assert pieces("x" * (MAX_CHUNK + 1)) == ("x" * MAX_CHUNK, "x")
