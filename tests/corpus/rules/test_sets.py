"""Several sets together: order, edits, one failure, and the same verdicts as datatrove."""

import gzip
import itertools
import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.corpus.rules.measure import RuleSet
from pipelines.corpus.rules.sets import judge

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


# What datatrove 0.10 with spaCy 3.8 keeps (1) and rejects (0) of every 50th document from the 8th
# on: a 1, then a bit a document. Written down from a run of `benchmarks/rules.py --every 50`.
DATATROVE = {
    "pretrain/en_books": 0x1FFCFBF37FBFFB5FFF,
    "pretrain/en_factbook": 0x40,
    "pretrain/en_peps": 0x2000,
    "pretrain/en_web_ewt": 0x3E715,
    "pretrain/en_wikitext2_valid": 0x4,
    "dedup/powershell_docs_5.1_7.4": 0x100000,
    "planted/corpus": 0x5BDDBEDBCEED7F9E,
}


@pytest.mark.parametrize(("name", "bits"), DATATROVE.items())
def test_the_fineweb_chain_keeps_what_datatrove_keeps(shared_data, name, bits):
    with gzip.open(shared_data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in itertools.islice(lines, 7, None, 50)]
    chain = ("gopher@fineweb", "c4", "fineweb")
    kept = "".join(str(int(judge(text, chain).failure is None)) for text in texts)
    assert kept == f"{bits:b}"[1:]


# Rules of `gopher@fineweb` that reject each planted kind of garbage.
GARBAGE = {
    "repeated_lines": {"duplicate_lines"},
    "repeated_words": {"stop_words", "word_length"},
    "lorem": {"stop_words", "words"},
    "code_json": {"word_length"},
    "menu": {"duplicate_lines"},
    "too_short": {"words"},
    "empty": {"words"},
    "symbols": {"words", "bullet_lines"},
}


def test_planted_garbage_is_rejected_by_rules_that_fit(shared_data):
    found = {}
    with gzip.open(shared_data / "planted/truth.jsonl.gz", "rt", encoding="utf-8") as lines:
        truth = {row["id"]: row for row in map(json.loads, lines)}
    with gzip.open(shared_data / "planted/corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if what := truth[row["id"]].get("what"):
                failure = judge(row["text"], ["gopher@fineweb"]).failure
                found.setdefault(what, set()).add(failure.rule if failure else "kept")
    assert {what: found[what] for what in GARBAGE} == GARBAGE
