"""Cleaning: what is repaired, what stays, and that once is enough."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus.clean import clean


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("a  \r\nb\rc", "a\nb\nc"),
        ("a\n\n\n\n b", "a\n\n b"),
        ("  x\x00\x07y\x7f  ", "xy"),
        ("def f():\n    return 1", "def f():\n    return 1"),
        ("cafe\u0301", "caf\u00e9"),
        ("The cafÃ© is open", "The café is open"),
        ("zero\u200bwidth\ufeff, no\u00a0break", "zerowidth, no break"),
        ("bad \ud800 half", "bad  half"),
        ("line\u2028end", "line\nend"),
        ("\u202eabc", "abc"),
        ("👩\u200d💻", "👩\u200d💻"),
        ("中文，标点。", "中文，标点。"),
        ("\u00c2\x1f\x80", "€"),
    ],
)
def test_text_is_repaired(raw, cleaned):
    assert clean(raw) == cleaned


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec=None), max_size=80))
def test_cleaning_twice_is_cleaning_once(text):
    once = clean(text)
    assert clean(once) == once
    once.encode()
