"""A text and the names of rule sets -> the text as they edit it, or the first rule it fails.

A name is a version: the thresholds behind it do not change. The sets, in the order FineWeb has
them, are its filters; `benchmarks/rules.md` compares the verdicts with datatrove's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, assert_never

from pipelines.corpus.rules import chinese, gopher, lines
from pipelines.corpus.rules.fineweb import fineweb
from pipelines.corpus.rules.measure import Failure, Measure, first_failure
from pipelines.corpus.rules.words import Words

RuleSet = Literal["gopher@paper", "gopher@fineweb", "c4", "fineweb", "refinedweb", "zh"]


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

    Rules of lines, which cost least, are tried first, those of English words next, of n-grams last:
    that changes which of several failing rules is named, never which texts are kept.

    Args:
        text: cleaned.
        sets: in order.
        min_words: fewest words in the Gopher sets; 50 in the paper.
    """
    now = _Text(text)
    late: list[tuple[RuleSet, _Text]] = []
    for name in sets:
        found = _lines(name, now, min_words)
        if isinstance(found, Failure):
            return Verdict(text, found)
        late.append((name, now))
        now = now if found == now.text else _Text(found)
    for rules in (_words, _ngrams):
        for name, seen in late:
            if failure := first_failure(name, rules(name, seen, min_words)):
                return Verdict(text, failure)
    return Verdict(now.text, None)


def _lines(name: RuleSet, now: _Text, min_words: int) -> str | Failure:
    """The text as the set edits it, or what fails, by the rules that cost least."""
    match name:
        case "gopher@paper":
            return first_failure(name, gopher.paper(now.text, now.split, min_words)) or now.text
        case "gopher@fineweb":
            return first_failure(name, gopher.fineweb_lines(now.text)) or now.text
        case "c4":
            return lines.c4(now.text)
        case "fineweb":
            return first_failure(name, fineweb(now.text, now.words)) or now.text
        case "refinedweb":
            return lines.refinedweb(now.text, now.split)
        case "zh":
            return first_failure(name, chinese.shapes(now.text)) or now.text
        case _:
            assert_never(name)


def _words(name: RuleSet, seen: _Text, min_words: int) -> Iterable[Measure]:
    """Rules for which English words are cut."""
    if name == "gopher@fineweb":
        return gopher.fineweb(seen.text, seen.words, min_words)
    return ()


def _ngrams(name: RuleSet, seen: _Text, min_words: int) -> Iterable[Measure]:  # noqa: ARG001
    match name:
        case "gopher@paper":
            return gopher.paper_ngrams(seen.split)
        case "gopher@fineweb":
            return gopher.fineweb_ngrams(seen.text, seen.words)
        case "zh":
            return chinese.ngrams(seen.text)
        case "c4" | "fineweb" | "refinedweb":
            return ()
        case _:
            assert_never(name)
