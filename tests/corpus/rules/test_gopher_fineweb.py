"""gopher@fineweb: one crafted text a threshold; n-grams against datatrove's own loops, retold."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.corpus.rules import gopher
from pipelines.corpus.rules.measure import Failure
from pipelines.corpus.rules.sets import judge
from pipelines.corpus.rules.words import Words


def failed(rule, value, threshold):
    return Failure("gopher@fineweb", rule, value, threshold)


def verdict(text, min_words=50):
    return judge(text, ["gopher@fineweb"], min_words).failure


def prose(count, start=0):
    """`count` distinct words of five letters, with two stop words in front."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    made = [f"w{a}{b}{c}e" for a in letters for b in letters for c in letters]
    return " ".join(["the", "and", *made[start : start + count - 2]])


def test_plain_prose_passes():
    assert verdict(prose(60)) is None


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("", failed("words", 0, 1)),
        (" \n ", failed("words", 0, 1)),
        (prose(49), failed("words", 49, 50)),
        (prose(49) + " ." * 5, failed("words", 49, 50)),  # marks are no words here
        ("\n\n".join(prose(17000) for _ in range(6)), failed("duplicate_lines", 0.8333, 0.3)),
        (" ".join(f"{n} w" for n in range(50_001)), failed("words", 100_002, 100_000)),
        (" ".join(["the", "and", *"abcdefghij" * 5]), failed("word_length", 1.0769, 3)),
        (prose(50) + " " + "x" * 300, failed("word_length", 10.7059, 10)),
        # 50 words and 6 marks; the paper's reading has one word more, not six
        (prose(50) + " ######", failed("hashes", 0.1071, 0.1)),
        (prose(50) + " ......" * 3 + " word", failed("ellipses", 0.1111, 0.1)),
        (prose(50) + " … … … … … … word", failed("ellipses", 0.1053, 0.1)),
        ("\n".join(f"- {prose(7, 7 * n)}" for n in range(20)), failed("bullet_lines", 1, 0.9)),
        (
            "\n".join(f"{prose(20, 20 * n)}{'...' if n < 2 else ''}" for n in range(4)),
            failed("ellipsis_lines", 0.5, 0.3),
        ),
        # 60 words of which 16 numbers: 60 / 76; a comma after each word counts as well
        (prose(60) + " 12345" * 16, failed("alphabetic_words", 0.7895, 0.8)),
        (prose(60).replace(" ", ", ", 20), failed("alphabetic_words", 0.75, 0.8)),
        (prose(60).replace("and", "or"), failed("stop_words", 1, 2)),
        (prose(60).replace("the", "The"), failed("stop_words", 1, 2)),  # case counts
    ],
)
def test_a_text_over_a_threshold_fails_that_rule(text, failure):
    assert verdict(text) == failure


def test_a_repeated_line_counts_each_time_but_the_first():
    lines = [prose(15, 15 * number) for number in range(6)]
    assert verdict("\n".join([*lines, *["same"] * 5])) == failed("duplicate_lines", 0.3636, 0.3)


def test_long_repeated_lines_fail_by_their_share_of_the_text():
    lines = [prose(15, 15 * number) for number in range(5)]
    text = "\n".join([*lines, prose(40, 500), prose(40, 500)])
    share = round(len(prose(40, 500)) / len(text), 4)
    assert verdict(text) == failed("duplicate_line_chars", share, 0.2)


def test_repeated_paragraphs_are_counted_and_measured():
    body = [prose(30, 30 * number) for number in range(2)]
    text = "\n\n".join([*body, "aa\nbb", "aa\nbb", "aa\nbb"])
    measures = {rule: (value, most) for rule, value, _, most in gopher.fineweb_lines(text)}
    assert measures["duplicate_paragraphs"] == (2 / 5, 0.3)
    assert measures["duplicate_paragraph_chars"] == (10 / len(text), 0.2)


def test_runs_of_line_ends_split_as_by_a_regular_expression():
    for text in ("a", "a\nb", "\na\n\n\nb\n\n\n\nc\n", "\n", "\n\n", "a\n\nb\n\n\n\n\nc"):
        assert gopher._lines(text) == re.split(r"\n+", text)
        parts = re.split(r"\n{2,}", text.strip())
        assert gopher._paragraphs(text.strip()) == [part for part in parts if part]


def naive(words, text):
    """What datatrove's find_top_duplicate and find_all_duplicate compute, divided by the text."""
    found = {}
    for n in (2, 3, 4):
        grams = [" ".join(words[at : at + n]) for at in range(len(words) - n + 1)]
        if grams:
            gram, count = Counter(grams).most_common(1)[0]
            found[f"top_{n}gram_chars"] = len(gram) * count / len(text)
    for n in range(5, 11):
        read, chars, at = set(), 0, 0
        while at < len(words) - n + 1:
            gram = tuple(words[at : at + n])
            if gram in read:
                chars += sum(map(len, gram))
                at += n
            else:
                read.add(gram)
                at += 1
        found[f"duplicate_{n}gram_chars"] = chars / len(text)
    return found


@given(st.lists(st.sampled_from(["a", "bb", "ccc"]), min_size=1, max_size=80))
def test_ngrams_are_measured_as_by_datatrove(words):
    text = " ".join(words)
    expected = naive(words, text)
    for rule, value, _, most in gopher.fineweb_ngrams(text, Words(words)):
        right = expected.pop(rule)
        # Below its threshold a share may be a bound: more than the exact one, and no failure.
        assert value == pytest.approx(right) if value > most else right <= value
    assert not any(expected.values())


def ngrams(text):
    found = gopher.fineweb_ngrams(text, Words(text.split()))
    return {rule: (value, most) for rule, value, _, most in found}


@pytest.mark.parametrize(("n", "most"), [(2, 0.20), (3, 0.18), (4, 0.16)])
def test_the_most_frequent_ngram_fails_by_its_share_of_the_text(n, most):
    fillers = prose(100).split()
    phrase = [f"long{'x' * 20}{place}" for place in range(n)]
    words = [word for at in range(0, 60, 10) for word in (*fillers[at : at + 10], *phrase)]
    text = " ".join(words)
    measures = ngrams(text)
    assert measures[f"top_{n}gram_chars"] == (6 * len(" ".join(phrase)) / len(text), most)
    assert measures[f"top_{n}gram_chars"][0] > most


@pytest.mark.parametrize(
    ("n", "most"), [(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)]
)
def test_duplicate_ngrams_fail_by_their_share_of_the_text(n, most):
    words = [f"w{number:03d}e" for number in range(3 * n)]
    words += words[:n]  # n of 4 n words repeat, with spaces 5/24 of the characters
    text = " ".join(words)
    measures = ngrams(text)
    assert measures[f"duplicate_{n}gram_chars"] == (5 * n / len(text), most)
    assert f"duplicate_{n + 1}gram_chars" not in measures
