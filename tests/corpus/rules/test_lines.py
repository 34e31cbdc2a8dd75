"""C4's and RefinedWeb's line rules: one crafted text each."""

import pytest

from pipelines.corpus.rules.measure import Failure
from pipelines.corpus.rules.sets import judge

LINES = [f"This is sentence number {n} of it." for n in range(6)]
TEXT = "\n".join(LINES)


def c4(*lines):
    return judge("\n".join(lines), ["c4"])


def refined(*lines):
    return judge("\n".join(lines), ["refinedweb"])


def test_c4_keeps_prose_as_it_is():
    assert c4(*LINES).text == TEXT
    assert c4(*LINES).failure is None


@pytest.mark.parametrize(
    "line",
    [
        "Two words.",
        "",
        "A word of " + "x" * 1001 + " characters.",
        "Please switch on JavaScript to read.",
        *(
            f"Read our {phrase} before you go."
            for phrase in ("Terms of Use", "privacy policy", "cookie policy")
        ),
        "This page uses cookies now.",
        "On our use of cookies here.",
        "Here we use cookies too.",
        "The java[1]script is joined by the cut.",
    ],
)
def test_c4_drops_the_line(line):
    assert c4(*LINES, line) == c4(*LINES)


def test_c4_keeps_a_word_of_exactly_1000_characters_and_lines_without_a_full_stop():
    lines = [*LINES, "A word of " + "x" * 1000, "no end mark here"]
    assert c4(*lines).text == "\n".join(lines)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("Here Lorem Ipsum goes on.", "lorem_ipsum"),
        ("def f() { return 1 }", "curly_brackets"),
    ],
)
def test_c4_rejects_the_text_for_a_line(line, rule):
    verdict = c4(*LINES, line)
    assert verdict.failure == Failure("c4", rule, 1, 0)
    assert verdict.text == "\n".join([*LINES, line])  # a rejected text is shown as it was


def test_c4_looks_for_brackets_only_in_lines_it_would_keep():
    assert c4(*LINES, "{ }").text == TEXT
    assert c4(*LINES, "javascript { in } it").text == TEXT


def test_c4_wants_five_sentences_in_the_lines_it_keeps():
    assert c4(*LINES[:5]).failure is None
    assert c4(*LINES[:4]).failure == Failure("c4", "sentences", 4, 5)
    assert c4("One two. Three four. Five six. Seven eight. Nine ten.").failure is None
    assert c4(*LINES[:4], "Too short.").failure == Failure("c4", "sentences", 4, 5)


def test_c4_cuts_citations_out():
    lines = [line.replace("sentence", "sentence[12]") for line in LINES]
    assert c4(*lines, "More on it[edit] and that[citation needed] here[].").text == (
        f"{TEXT}\nMore on it and that here."
    )


def test_c4_splits_lines_at_every_line_end_and_trims_them():
    assert c4("\r\n".join(f"  {line} " for line in LINES)).text == TEXT


PROSE = [f"a line of prose with nothing odd in it {n}" for n in range(30)]


def test_refinedweb_keeps_prose_and_blank_lines():
    assert refined(*PROSE[:3], "", *PROSE[3:]).text == "\n".join([*PROSE[:3], "", *PROSE[3:]])


@pytest.mark.parametrize(
    "line",
    [
        "THIS IS MOSTLY IN capitals",
        "123456",
        "3 likes",
        "1.2K Shares",
        "(1,204 views)",
        "word",
        "Sign-in",
        "Read more...",
    ],
)
def test_refinedweb_drops_the_line(line):
    assert refined(*PROSE, line).text == "\n".join(PROSE)


@pytest.mark.parametrize(
    "line", ["HALF CAPS half cap", "3 likes from me", "in 1984", "12 34", "we like 3 views"]
)
def test_refinedweb_keeps_the_line(line):
    assert refined(*PROSE, line).text == "\n".join([*PROSE, line])


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("Sign-in to go on", " to go on"),
        ("There is more here. Read more...", "There is more here. "),
        ("you have 3 items in cart right now", "you have 3  right now"),
        ("one two three four five six seven eight nine ten read more...", None),
    ],
)
def test_refinedweb_cuts_notices_out_of_short_lines(line, left):
    kept = refined(*PROSE, line, *PROSE).text.split("\n")[len(PROSE)]
    assert kept == (line if left is None else left)


def test_refinedweb_rejects_a_text_that_loses_over_a_twentieth_of_its_words():
    words = 10 * len(PROSE)  # 300
    assert refined(*PROSE, *["3 likes"] * 7).failure is None  # 14 of 314: 0.0446
    failure = refined(*PROSE, *["3 likes"] * 8).failure
    assert failure == Failure("refinedweb", "removed_words", round(16 / (words + 16), 4), 0.05)


def test_an_empty_text_is_rejected_not_divided_by():
    assert refined("").failure == Failure("refinedweb", "words", 0, 1)
    assert c4("").failure == Failure("c4", "sentences", 0, 5)
