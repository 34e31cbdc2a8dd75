"""FineWeb's rules: one crafted text a threshold."""

import pytest

from pipelines.corpus.rules.measure import Failure
from pipelines.corpus.rules.sets import judge

LONG = [f"a line of more than thirty characters, number {n}" for n in range(100)]


def verdict(*lines):
    return judge("\n".join(lines), ["fineweb"]).failure


def failed(rule, value, threshold):
    return Failure("fineweb", rule, value, threshold)


@pytest.mark.parametrize("mark", [".", "!", "?", "。", "‽"])
def test_lines_must_end_in_a_terminal_mark_often_enough(mark):
    ended = [line + mark for line in LONG]
    assert verdict(*ended[:12], *LONG[12:]) is None
    assert verdict(*ended[:11], *LONG[11:]) == failed("terminated_lines", 0.11, 0.12)


def test_other_marks_end_no_line():
    assert verdict(*(f"{line}," for line in LONG)) == failed("terminated_lines", 0, 0.12)


def test_most_lines_must_have_over_30_characters():
    ended = [f"{line}." for line in LONG]
    short = [f"{n:02d} words in thirty characters." for n in range(100)]
    short = [line.replace("characters", "signs").ljust(30, "!") for line in short]
    assert set(map(len, short)) == {30}
    assert verdict(*ended[:33], *short[:67]) is None
    assert verdict(*ended[:32], *short[:68]) == failed("short_lines", 0.68, 0.67)


def test_repeated_lines_may_have_a_hundredth_of_the_characters():
    ended = [f"{line}." for line in LONG]
    assert verdict(*ended[:99], ended[0]) is None  # 49 of 4,948
    chars = sum(map(len, ended[:49])) + len(ended[0])
    failure = failed("duplicate_line_chars", round(len(ended[0]) / chars, 4), 0.01)
    assert verdict(*ended[:49], ended[0]) == failure


def test_line_ends_are_counted_by_words_and_marks():
    lines = [f"{'x' * 40}{n} yes." for n in range(40)]  # 3 words a line with the mark: 39 / 120
    assert verdict(*lines) == failed("newlines", 0.325, 0.3)
    assert verdict(*(f"{line[:-1]}, no." for line in lines)) is None  # 5 a line


@pytest.mark.parametrize("text", ["", " ", "\n\n"])
def test_a_text_without_lines_fails(text):
    assert verdict(text) == failed("lines", 0, 1)
