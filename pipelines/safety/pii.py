"""Text -> the personal data in it, and the text with each replaced by its type, as `[EMAIL]`.

Patterns and checks only, no model: e-mail, phone (international, North American, Chinese mobile,
national with a leading 0), IPv4 and IPv6, payment cards (Luhn, ISO/IEC 7812-1). Two cheap tests
gate the costly patterns, so clean text costs one scan.
"""

import ipaddress
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

PiiType = Literal["email", "phone", "ip", "card"]
TYPES: tuple[PiiType, ...] = ("email", "ip", "card", "phone")  # the earlier wins an overlap


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of a text that are personal data."""

    start: int
    end: int
    type: PiiType


_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+"
    r"[A-Za-z]{2,24}(?![\w-])",
    re.ASCII,
)
_NUMERIC = re.compile(r"[0-9][0-9 ().-]{5,}[0-9]")
_IPV4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w]|\.[0-9])", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){2,7}(?![\w:])", re.ASCII)
_CARD = re.compile(r"(?<![0-9.,_+-])[1-6][0-9](?:[ -]?[0-9]){10,17}(?![0-9_]|[.,-][0-9])")
_ISSUERS = re.compile(r"1800|2131|2[2-7]|3[0-9]|4|5|6")
_PHONE = re.compile(
    r"""(?<![\w.+-])(?:
        \+[1-9][0-9]{0,2}(?:[ .-]?(?:\(0\)|\([0-9]{1,4}\)|[0-9]{1,12}+)){1,6}  # +44 20 7946 0396
      | (?:001-|1[-. ])?(?:\([2-9][0-9]{2}\)[ ]?|[2-9][0-9]{2}[-. ])[2-9][0-9]{2}[-.][0-9]{4}
      | 1[3-9][0-9](?:[ -]?[0-9]{4}){2}                                        # 138 0494 2169
      | 0[0-9]{2,4}(?:[ ][0-9]{2,4}){2,3}                                      # 0490 75 40 81
      | 0[0-9]{2,4}[ -][0-9]{6,8}                                              # 0393 1144137
      | [0-9]{2}(?:-[0-9]{2}){3}                                               # 60-56-85-91
      | 0[0-9](?:\.[0-9]{2}){4}                                                # 03.93.92.16.85
      | \([0-9]{2}\)[ ][0-9]{4}[ -][0-9]{4}                                    # (08) 8747 6301
    )(?:x[0-9]{1,5})?(?![\w]|[.-][0-9])""",
    re.VERBOSE | re.ASCII,
)
_MIN_PHONE_DIGITS, _MAX_PHONE_DIGITS = 7, 15  # ITU-T E.164 allows 15


def find(text: str, types: Sequence[PiiType] = TYPES) -> list[Span]:
    """The personal data of `types` in a text, in order, not overlapping."""
    chosen: list[Span] = []
    for kind in TYPES:
        if kind in types:
            starts = [span.start for span in chosen]
            free = [s for s in _matches(text, kind) if not _overlaps(s, chosen, starts)]
            chosen = sorted(chosen + free, key=lambda span: span.start)
    return chosen


def _overlaps(span: Span, chosen: list[Span], starts: list[int]) -> bool:
    """Whether `span` shares a character with the last of `chosen` that begins before it ends."""
    before = bisect_left(starts, span.end) - 1
    return before >= 0 and chosen[before].end > span.start


def mask(text: str, types: Sequence[PiiType] = TYPES) -> tuple[str, dict[PiiType, int]]:
    """The text with every span replaced by its type, and how many there were of each.

    Repeats until none is found, because a mask can lay bare a number that leaned on the masked one;
    hence masking twice is masking once.
    """
    counts: dict[PiiType, int] = {}
    while spans := find(text, types):
        pieces, end = [], 0
        for span in spans:
            pieces += [text[end : span.start], f"[{span.type.upper()}]"]
            end = span.end
            counts[span.type] = counts.get(span.type, 0) + 1
        text = "".join(pieces) + text[end:]
    return text, counts


def _matches(text: str, kind: PiiType) -> Iterator[Span]:
    match kind:
        case "email":
            if "@" in text:
                yield from _spans(_EMAIL, text, kind)
        case "ip":
            if _NUMERIC.search(text):
                yield from (s for s in _spans(_IPV4, text, kind) if _is_ip(text[s.start : s.end]))
            if ":" in text:
                yield from (s for s in _spans(_IPV6, text, kind) if _is_ip(text[s.start : s.end]))
        case "card":
            if _NUMERIC.search(text):
                yield from (s for s in _spans(_CARD, text, kind) if _is_card(text[s.start : s.end]))
        case "phone":
            if _NUMERIC.search(text):
                yield from (
                    s for s in _spans(_PHONE, text, kind) if _is_phone(text[s.start : s.end])
                )


def _spans(pattern: re.Pattern[str], text: str, kind: PiiType) -> Iterator[Span]:
    return (Span(found.start(), found.end(), kind) for found in pattern.finditer(text))


def _is_ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _is_card(value: str) -> bool:
    digits = value.replace(" ", "").replace("-", "")
    return 12 <= len(digits) <= 19 and bool(_ISSUERS.match(digits)) and luhn(digits)


def _is_phone(value: str) -> bool:
    digits = sum(char.isdigit() for char in value.partition("x")[0])
    return _MIN_PHONE_DIGITS <= digits <= _MAX_PHONE_DIGITS


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
