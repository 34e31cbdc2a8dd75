"""What a rule set finds: measures against limits, and the first that fails."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

RuleSet = Literal["gopher@paper", "gopher@fineweb", "c4", "fineweb", "refinedweb", "zh"]


@dataclass(frozen=True)
class Failure:
    """The rule a text fails, the value it has and the threshold it crosses."""

    rule_set: str
    rule: str
    value: float
    threshold: float


Measure = tuple[str, float, float, float]  # rule, value, least, most


def first_failure(rule_set: str, measures: Iterable[Measure]) -> Failure | None:
    """The first measure outside its limits; later ones are not computed."""
    for rule, value, low, high in measures:
        if not low <= value <= high:
            return Failure(rule_set, rule, round(value, 4), low if value < low else high)
    return None


def duplicates(parts: list[str]) -> tuple[int, int]:
    """How many parts repeat an earlier one, and their characters."""
    unique = set(parts)
    if len(unique) == len(parts):
        return 0, 0
    return len(parts) - len(unique), sum(map(len, parts)) - sum(map(len, unique))
