"""Cleaning: what is repaired, what stays, and that once is enough."""

import gzip
import json
import time

import pytest
from hypothesis import example, given, settings
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


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("┌──────┐\n│ name │\n├──────┤\n│ Anna │\n└──────┘", "│ name │\n│ Anna │"),
        ("above\n  ═══ ═══\nbelow", "above\nbelow"),
        ("█▀▄\nlogo", "logo"),
        ("end\n-----\n-----\n\n\n-----\nnext", "end\n-----\nnext"),
        ("  ----\n----\nx", "----\nx"),
        ("Hyphen\u00ad\nated, hy\u00adphen", "Hyphenated, hyphen"),
    ],
)
def test_lines_that_only_draw_go_and_broken_words_are_joined(raw, cleaned):
    assert clean(raw) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "Title\n=====\n\nText\n-----",  # headings
        "=====\nTitle\n=====",
        "---\nkey: value\n---",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "a ─ b\n│ c",
        "ha ha ha\nha ha ha\nha ha ha",  # verse: whether lines repeat too much is for rule sets
        "well-\nknown",
        "-----\n----",  # not the same
    ],
)
def test_lines_with_a_meaning_stay(text):
    assert clean(text) == text


ALPHABET = st.sampled_from("ab \t\n\n\n\r-=─│\u00ad\u2028\u00a0\u0301éÃ©â\x00\x80\u200b中")


@settings(max_examples=300, deadline=None)
@example("\x80â\r─")  # the bar keeps the rest from looking broken, until it goes
@given(st.text(st.characters(codec=None), max_size=80) | st.text(ALPHABET, max_size=60))
def test_cleaning_twice_is_cleaning_once(text):
    once = clean(text)
    assert clean(once) == once
    once.encode()


def test_a_long_line_takes_no_longer_than_its_length():
    started = time.process_time()
    clean("-" * 300_000 + "\n" + "=" * 300_000 + "x\n" + "\n" * 300_000 + "\n---" * 100_000)
    clean("─" * 300_000 + "x" + " ─" * 100_000 + "\u00ad " * 100_000)
    assert time.process_time() - started < 3  # squared, it would be minutes


def test_real_text_is_cleaned_once_and_for_all(shared_data):
    for name in ("en_web_ewt", "zh_d2l"):
        with gzip.open(shared_data / f"pretrain/{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            texts = [json.loads(line)["text"] for line in lines][:100]
        for text in texts:
            once = clean(text)
            assert clean(once) == once
            assert len(once) > 0.9 * len(text.strip())
