"""A text and the names of rule sets -> the text as they edit it, or the first rule it fails.

A name is a version: the thresholds behind it do not change. The sets, in the order FineWeb has
them, are its filters; `benchmarks/rules.md` compares the verdicts with datatrove's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import assert_never

from pipelines.corpus.rules import chinese, gopher, lines
from pipelines.corpus.rules.fineweb import fineweb
from pipelines.corpus.rules.measure import Failure, Measure, RuleSet, first_failure
from pipelines.corpus.rules.words import Words


@dataclass(frozen=True)
class Verdict:
    """A kept text as edited, or a rejected one as it was, with the rule it fails."""

    text: str
    failure: Failure | None


class _Text:
    """A text and its splits, each made once and shared by all sets."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def split(self) -> list[str]:
        return self.text.split()

    @cached_property
    def words(self) -> Words:
        return Words(self.split)


def judge(text: str, sets: Sequence[RuleSet], min_words: int = 50) -> Verdict:
    """Whether the sets keep a text; `c4` and `refinedweb` edit it for those after them.

    The failure is of the first set in order that rejects the text; within a set rules that cost
    less are tried first, which changes the rule that is named, never which texts are kept.

    Args:
        text: cleaned.
        sets: in order.
        min_words: fewest words in the Gopher sets; 50 in the paper.
    """
    now = _Text(text)
    for name in sets:
        found = _judged(name, now, min_words)
        if isinstance(found, Failure):
            return Verdict(text, found)
        now = now if found == now.text else _Text(found)
    return Verdict(now.text, None)


def _judged(name: RuleSet, now: _Text, min_words: int) -> str | Failure:
    """The text as the set edits it, or what fails."""
    match name:
        case "c4":
            return lines.c4(now.text)
        case "refinedweb":
            return lines.refinedweb(now.text, now.split)
        case _:
            return first_failure(name, _measures(name, now, min_words)) or now.text


def _measures(name: RuleSet, now: _Text, min_words: int) -> Iterable[Measure]:
    match name:
        case "gopher@paper":
            return gopher.paper(now.text, now.split, min_words)
        case "gopher@fineweb":
            return gopher.fineweb(now.text, now.words, min_words)
        case "fineweb":
            return fineweb(now.text, now.words)
        case "zh":
            return chinese.measures(now.text)
        case "c4" | "refinedweb":
            raise AssertionError(name)  # they drop lines: no plain measures
        case _:
            assert_never(name)
