"""Several sets together: order, edits, one failure, and the same verdicts as datatrove."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.corpus.rules.sets import RuleSet, judge

PROSE = "\n".join(
    f"It is the {n}th line of a text that we have read with some care, and {n} more."
    for n in "abcdefgh"
)


def test_sets_after_one_that_edits_see_the_edited_text():
    text = f"{PROSE}\nNext\nNext\nNext"
    assert judge(text, ["fineweb"]).failure.rule == "duplicate_line_chars"
    verdict = judge(text, ["c4", "fineweb"])
    assert verdict.failure is None
    assert verdict.text == PROSE
    assert judge(text, ["fineweb", "c4"]).failure.rule_set == "fineweb"


def test_sets_before_it_see_the_text_as_it_was():
    text = f"{PROSE}\n" + "no\n" * 30
    assert judge(text, ["gopher@fineweb", "c4"]).failure.rule == "duplicate_lines"


def test_no_sets_keep_everything():
    assert judge("", []).failure is None


@pytest.mark.parametrize("name", get_args(RuleSet))
@given(text=st.text(st.characters(), max_size=200))
def test_any_text_is_judged_and_always_the_same(name, text):
    verdict = judge(text, [name])
    assert verdict == judge(text, [name])
    if verdict.failure:
        assert verdict.text == text
        assert verdict.failure.rule_set == name
        assert verdict.failure.value != verdict.failure.threshold


@given(st.lists(st.sampled_from(PROSE.split("\n")), min_size=1, max_size=12))
def test_which_sets_come_first_matters_to_no_verdict_but_for_edits(lines):
    text = "\n".join(lines)
    one = judge(text, ["gopher@paper", "gopher@fineweb", "fineweb"], 20)
    other = judge(text, ["fineweb", "gopher@fineweb", "gopher@paper"], 20)
    assert (one.failure is None) == (other.failure is None)
    each = [judge(text, [name], 20) for name in ("gopher@paper", "gopher@fineweb", "fineweb")]
    assert (one.failure is None) == all(verdict.failure is None for verdict in each)


def test_lone_surrogates_are_judged():
    for name in get_args(RuleSet):
        judge("\ud800 " * 100, [name])
