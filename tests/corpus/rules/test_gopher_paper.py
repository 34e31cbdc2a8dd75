"""gopher@paper: one crafted text a threshold, each failing that rule and no other before it."""

from itertools import islice

import pytest

from pipelines.corpus.rules import gopher as rules
from pipelines.corpus.rules.measure import Failure
from pipelines.corpus.rules.sets import judge


def gopher(text, min_words=50):
    return judge(text, ["gopher@paper"], min_words).failure


def failed(rule, value, threshold):
    return Failure("gopher@paper", rule, value, threshold)


def prose(count, start=0):
    """`count` distinct five-letter words, with two stop words in front."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    made = (f"w{a}{b}{c}e" for a in letters for b in letters for c in letters)
    return " ".join(["the", "and", *islice(made, start, start + count - 2)])


def dict_of(measures):
    return {rule: (value, most) for rule, value, _, most in measures}


def test_plain_prose_passes():
    assert gopher(prose(60)) is None


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        (prose(49), failed("words", 49, 50)),
        (prose(16000) + (" " + prose(16000)) * 6, failed("words", 112_000, 100_000)),
        (" ".join(["the", "and", *"abcdefghij" * 5]), failed("word_length", 1.0769, 3)),
        (prose(50) + " " + "x" * 300, failed("word_length", 10.7059, 10)),
        (prose(50) + " ######", failed("hashes", 0.1176, 0.1)),
        (prose(50) + " ......" * 3, failed("ellipses", 0.1132, 0.1)),
        (prose(50) + " ………………", failed("ellipses", 0.1176, 0.1)),
        (
            "\n".join(f"- {prose(7, 7 * n)}" for n in range(20)),
            failed("bullet_lines", 1.0, 0.9),
        ),
        (
            "\n".join(f"{prose(20, 20 * n)}{'...' if n < 2 else ''}" for n in range(4)),
            failed("ellipsis_lines", 0.5, 0.3),
        ),
        (prose(60) + " 12345" * 16, failed("alphabetic_words", 0.7895, 0.8)),
        (prose(60).replace("and", "or"), failed("stop_words", 1, 2)),
    ],
)
def test_a_text_over_a_quality_threshold_fails_that_rule(text, failure):
    found = gopher(text)
    assert found is not None
    assert (found.rule, found.threshold) == (failure.rule, failure.threshold)
    assert found.value == pytest.approx(failure.value, abs=1e-3)


def test_a_repeated_line_counts_each_time_but_the_first():
    lines = [prose(15, 15 * number) for number in range(6)]
    assert gopher("\n".join([*lines, *["same"] * 5])) == failed("duplicate_lines", 0.3636, 0.3)


def test_long_repeated_lines_fail_by_their_characters():
    lines = [prose(15, 15 * number) for number in range(5)]
    long = prose(40, 500)
    found = gopher("\n".join([*lines, long, long]))
    share = len(long) / (5 * len(lines[0]) + 2 * len(long))
    assert found == failed("duplicate_line_chars", round(share, 4), 0.2)


def test_repeated_paragraphs_fail_by_their_number():
    """Lines differ, so only paragraphs repeat: one that is cut differently is not the same line."""
    body = [prose(30, 30 * number) for number in range(2)]
    measures = dict_of(
        rules.paper(text := "\n\n".join([*body, "aa\nbb", "aa\nbb", "aa\nbb"]), text.split(), 50)
    )
    assert measures["duplicate_paragraphs"] == (pytest.approx(2 / 5), 0.3)
    # 2 x 179 characters of prose (30 words, 29 spaces, two of 3 letters), 3 x 5 of the block.
    chars = sum(map(len, body)) + 15
    assert measures["duplicate_paragraph_chars"] == (pytest.approx(10 / chars), 0.2)


@pytest.mark.parametrize(("n", "most"), [(2, 0.20), (3, 0.18), (4, 0.16)])
def test_the_most_frequent_ngram_is_measured_by_its_characters(n, most):
    phrase = list("xyzt"[:n])
    words = prose(100).split()
    text = [*words[:50], *phrase, *words[50:], *phrase]
    measures = dict_of(rules.paper_ngrams(text))
    # 2 occurrences of n one-letter words, in 98 words of 5 letters and two of 3.
    chars = 98 * 5 + 2 * 3 + 2 * n
    assert measures[f"top_{n}gram_chars"] == (pytest.approx(2 * n / chars), most)


@pytest.mark.parametrize(
    ("n", "most"), [(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)]
)
def test_duplicate_ngrams_cover_overlaps_once_and_not_the_first_occurrence(n, most):
    words = [f"w{number:03d}e" for number in range(40)]
    repeated = words + words[:n]
    measures = dict_of(rules.paper_ngrams(repeated))
    assert measures[f"duplicate_{n}gram_chars"] == (pytest.approx(n / (40 + n)), most)
    assert f"duplicate_{n + 1}gram_chars" not in measures


def test_an_ngram_that_occurs_once_is_no_repetition():
    assert list(rules.paper_ngrams([f"word{n}" for n in range(20)])) == []


def test_fewer_words_are_allowed_on_request():
    assert gopher(prose(20), min_words=20) is None
    assert gopher(prose(19), min_words=20) == failed("words", 19, 20)
