"""Repeated paragraphs and lines: dropped from the later document, counted, never from the first."""

import numpy as np
import pytest

from pipelines.core.artifact import Workspace
from pipelines.core.storage import Store
from pipelines.corpus import shuffle
from pipelines.corpus.config import Passages
from pipelines.corpus.passages import count, dropped, find, without

PARAGRAPHS = Passages(min_chars=5, min_left=1)
LINES = Passages(unit="lines", min_chars=5, min_left=1)


def cut(parts, how, folder, order=list):
    """The texts of every part, less their repeated passages."""
    out = Workspace.take(Store.at(str(folder)))
    units = [sum(count(text, how) for text in texts) for texts in parts]

    def spread(function, items):
        return map(function, order(items))

    find(spread, out, lambda part: enumerate(parts[part]), units, how)
    found = [dropped(out, part) for part in range(len(parts))]
    return [
        [without(text, found[part].get(row, set()), how) for row, text in enumerate(texts)]
        for part, texts in enumerate(parts)
    ]


def test_a_paragraph_goes_from_the_later_document_alone(tmp_path):
    parts = [["First one.\n\nCookies are used."], ["COOKIES  are\nused.\n \n\nSecond one."]]
    assert cut(parts, PARAGRAPHS, tmp_path) == [[parts[0][0]], ["Second one."]]


def test_lines_are_compared_where_lines_are_asked_for(tmp_path):
    parts = [["About us\nNews of today", "About us\nNews of then\n\nAbout us"]]
    assert cut(parts, LINES, tmp_path) == [["About us\nNews of today", "News of then"]]
    assert cut(parts, PARAGRAPHS, tmp_path / "p") == parts


def test_what_a_document_repeats_of_itself_stays(tmp_path):
    parts = [["A refrain\n\nverse one\n\nA refrain"]]
    assert cut(parts, PARAGRAPHS, tmp_path) == parts


def test_a_passage_shorter_than_the_least_stays(tmp_path):
    """`Note` has 4 characters, and 5 is the least."""
    parts = [["Note\n\nsome text"], ["Note\n\nother text"]]
    assert cut(parts, PARAGRAPHS, tmp_path) == parts


def test_the_rest_of_a_text_is_left_as_it_is():
    text = "one\n\n  two\n \nthree\n\n\nfour"
    assert without(text, set(), PARAGRAPHS) == text
    assert without(text, {0}, PARAGRAPHS) == "two\n \nthree\n\n\nfour"
    assert without(text, {1, 3}, PARAGRAPHS) == "one\n \nthree"
    assert count(text, PARAGRAPHS) == 4


@pytest.mark.parametrize("share", [3, 10**6])
def test_shares_and_the_order_of_tasks_change_nothing(share, tmp_path, monkeypatch):
    generator = np.random.default_rng(5)
    lines = [f"this is line {number}" for number in range(30)]
    parts = [
        ["\n".join(lines[n] for n in generator.integers(0, 30, 6)) for _ in range(5)]
        for _ in range(6)
    ]
    whole = cut(parts, LINES, tmp_path / "whole")
    monkeypatch.setattr(shuffle, "SHARE", share)
    assert cut(parts, LINES, tmp_path / "cut", order=lambda items: list(items)[::-1]) == whole
    seen = set()
    for text, left in (
        (t, left) for p, q in zip(parts, whole, strict=True) for t, left in zip(p, q, strict=True)
    ):
        assert left.split("\n") == [n for n in text.split("\n") if n not in seen] or not left
        seen |= set(text.split("\n"))
