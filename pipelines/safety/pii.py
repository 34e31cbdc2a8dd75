"""Text -> the personal data in it, and the text with each replaced by its type, as `[EMAIL]`.

Patterns and checks only, no model: e-mail, IPv4 and IPv6, phone (international, North American,
Chinese mobile and land line, national forms, and any grouped digits beside a word like "call me
on"), payment card, IBAN, US Social Security number, Chinese identity number, keys and tokens.
One vectorised look for digits gates all that are made of digits, and they are matched only around
those, so that clean text costs one scan. Reports get counts, never a value.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np

from pipelines.safety import checks, patterns

PiiType = Literal["email", "phone", "ip", "card", "iban", "ssn", "cn_id", "key"]
TYPES: tuple[PiiType, ...] = ("key", "email", "ip", "iban", "cn_id", "card", "ssn", "phone")
"""The earlier wins an overlap: what has a check or a mark of its own goes before what has none."""

MIN_PHONE_DIGITS, MAX_PHONE_DIGITS = 7, 15  # ITU-T E.164 allows 15
MIN_RUN = 7  # characters of the shortest number: the address 1.2.3.4, a local phone
MAX_GAP = 4  # between digits of one number, as in `+1 (555) 010`: three signs
REACH = 48  # characters that a number can have before and after its digits: an IBAN's letters
MIN_KEY = 16  # characters of a word that may hold a key
CUE = 32  # characters before a value that may say what it is

_CLASSES = bytes(  # 1 for a digit, 2 for a letter
    1 if chr(code).isdigit() else 2 if chr(code).isalpha() else 0 for code in range(128)
) + bytes(128)
_WIDE = "０１２３４５６７８９＠"  # eleven memchr are four times as fast as one regex
_WIDE_SIGNS = re.compile("[０-９＠＋－（）．]+")
_NARROW = {0xFEE0 + code: code for code in map(ord, "0123456789@+-().")}


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of a text that are personal data."""

    start: int
    end: int
    type: PiiType


Window = tuple[int, int]  # characters [start, end) of a text that are looked at


@dataclass(frozen=True)
class Hints:
    """Where numbers may stand, and words that may hold a key."""

    numbers: tuple[Window, ...]
    words: tuple[Window, ...]


def find(text: str, types: Sequence[PiiType] = TYPES) -> list[Span]:
    """The personal data of `types` in a text, in order, not overlapping."""
    if not text.isascii() and any(map(text.__contains__, _WIDE)):
        text = _WIDE_SIGNS.sub(_narrow, text)  # one character for one, so that spans stay true
    hints = _hints(text)
    chosen: list[Span] = []
    for kind in TYPES:
        if kind in types and (hints.numbers or kind in ("key", "email", "ip")):
            found = list(_matches(text, kind, hints))
            if found:
                starts = [span.start for span in chosen]
                free = [span for span in found if not _overlaps(span, chosen, starts)]
                chosen = sorted(chosen + free, key=lambda span: span.start)
    return chosen


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


def _narrow(found: re.Match[str]) -> str:
    return found[0].translate(_NARROW)


def _overlaps(span: Span, chosen: list[Span], starts: list[int]) -> bool:
    """Whether `span` shares a character with the last of `chosen` that begins before it ends."""
    before = bisect_left(starts, span.end) - 1
    return before >= 0 and chosen[before].end > span.start


def _hints(text: str) -> Hints:
    """Stretches with seven characters of digits near each other, and long words with a digit."""
    if len(text) < MIN_RUN:
        return Hints((), ())
    classes = np.frombuffer(text.encode("ascii", "replace").translate(_CLASSES), np.uint8)
    digits = (classes == 1).nonzero()[0]  # a byte for a character, so these are places in the text
    if not digits.size:
        return Hints((), ())
    edges = np.ones(len(digits) + 1, np.bool_)  # whether a stretch begins, or the last one ends
    np.greater(digits[1:] - digits[:-1], MAX_GAP, out=edges[1:-1])
    first, last = digits[edges[:-1]], digits[edges[1:]]
    long = (last - first >= MIN_RUN - 1).nonzero()[0]
    numbers = _merged(first[long].tolist(), last[long].tolist(), len(text)) if long.size else ()
    beside = (classes.take(digits - 1, mode="clip") | classes.take(digits + 1, mode="clip")) & 2
    mixed = beside.nonzero()[0]
    return Hints(numbers, _words(text, digits[mixed].tolist()) if mixed.size else ())


def _merged(firsts: list[int], lasts: list[int], size: int) -> tuple[Window, ...]:
    """What is within reach of stretches of digits, with windows that touch made one."""
    merged: list[Window] = []
    for first, last in zip(firsts, lasts, strict=True):
        start, end = max(first - REACH, 0), min(last + 1 + REACH, size)
        if merged and start <= merged[-1][1]:
            start, _ = merged.pop()
        merged.append((start, end))
    return tuple(merged)


def _words(text: str, places: list[int]) -> tuple[Window, ...]:
    """Words of `MIN_KEY` characters around digits that stand beside a letter, as in any key."""
    words: list[Window] = []
    end = 0
    for place in places:
        if place >= end:
            start, end = _word(text, place)
            if end - start >= MIN_KEY:
                words.append((start, end))
    return tuple(words)


_BREAK = re.compile(r"[^A-Za-z0-9+/=_.\-:\"']")


def _word(text: str, place: int) -> Window:
    """The stretch without white space or brackets around a place."""
    start = place
    while start and not _BREAK.match(text, start - 1):
        start -= 1
    end = _BREAK.search(text, place)
    return start, end.start() if end else len(text)


def _matches(text: str, kind: PiiType, hints: Hints) -> Iterator[Span]:
    match kind:
        case "key":
            return _keys(text, hints.words)
        case "email":
            return _emails(text)
        case "ip":
            return _addresses(text, hints.numbers)
        case "iban":
            return _numbers(text, hints.numbers, patterns.IBAN, kind, _is_iban)
        case "cn_id":
            return _numbers(text, hints.numbers, patterns.CHINESE_ID, kind, _is_chinese_id)
        case "card":
            return _numbers(text, hints.numbers, patterns.CARD, kind, _is_card)
        case "ssn":
            return _numbers(text, hints.numbers, patterns.SSN, kind, _is_ssn)
        case "phone":
            return _phones(text, hints.numbers)
        case _:
            assert_never(kind)


Check = Callable[[str, int, int], bool]  # whether characters [start, end) of a text are of the type


def _numbers(
    text: str, windows: Sequence[Window], pattern: re.Pattern[str], kind: PiiType, check: Check
) -> Iterator[Span]:
    for start, end in windows:
        for found in pattern.finditer(text, start, end):
            if check(text, found.start(), found.end()):
                yield Span(found.start(), found.end(), kind)


def _emails(text: str) -> Iterator[Span]:
    before, after = patterns.EMAIL_REACH
    end, at = 0, text.find("@")
    while at >= 0:
        if patterns.EMAIL_AT.match(text, max(at - 1, 0)):
            found = patterns.EMAIL.search(text, max(end, at - before), at + after)
            if found and found.start() < at:
                yield Span(found.start(), found.end(), "email")
                end = found.end()
        at = text.find("@", max(at + 1, end))


def _addresses(text: str, windows: Sequence[Window]) -> Iterator[Span]:
    yield from _numbers(text, windows, patterns.IPV4, "ip", _is_ipv4)
    end = 0
    for hint in patterns.IPV6_HINT.finditer(text):
        if hint.start() >= end:
            end = hint.end() + REACH
            window = max(hint.start() - REACH, 0), end
            yield from _numbers(text, [window], patterns.IPV6, "ip", _is_address)


def _phones(text: str, windows: Sequence[Window]) -> Iterator[Span]:
    found = list(_numbers(text, windows, patterns.PHONE, "phone", _is_phone))
    taken = [span.start for span in found]
    yield from found
    for span in _numbers(text, windows, patterns.GROUPED, "phone", _is_cued_phone):
        if not _overlaps(span, found, taken):
            yield span


def _keys(text: str, words: Sequence[Window]) -> Iterator[Span]:
    found: list[Span] = []
    if patterns.PRIVATE_KEY_MARK in text:
        found += [Span(*hit.span(), "key") for hit in patterns.PRIVATE_KEY.finditer(text)]
    if "AKIA" in text:  # for the 3.6 % of these that have no digit
        found += [Span(*hit.span(), "key") for hit in patterns.AWS.finditer(text)]
    for start, end in words:
        found += [Span(*hit.span(), "key") for hit in patterns.AWS.finditer(text, start, end)]
        found += [Span(*hit.span(), "key") for hit in patterns.KEYS.finditer(text, start, end)]
        found += _assigned(text, start, end)
    end = 0
    for span in sorted(found, key=lambda span: (span.start, -span.end)):
        if span.start >= end:
            yield span
            end = span.end


def _assigned(text: str, start: int, end: int) -> list[Span]:
    """Random-looking values that a name like `api_key` or `token` is given."""
    spans = []
    for hit in patterns.ASSIGNED.finditer(text, max(0, start - CUE), end):
        cued = patterns.KEY_CUE.search(text, max(0, hit.start() - CUE), hit.start())
        if cued and checks.random_looking(hit[1]):
            spans.append(Span(*hit.span(1), "key"))
    return spans


def _is_ipv4(text: str, start: int, end: int) -> bool:
    named = patterns.VERSION.search(text, max(0, start - CUE), start)
    return not named and checks.ip_address(text[start:end])


def _is_address(text: str, start: int, end: int) -> bool:
    return checks.ip_address(text[start:end])


def _is_iban(text: str, start: int, end: int) -> bool:
    return checks.iban(text[start:end].replace(" ", "").replace("-", ""))


def _is_chinese_id(text: str, start: int, end: int) -> bool:
    return checks.chinese_id(text[start:end])


def _is_card(text: str, start: int, end: int) -> bool:
    digits = text[start:end].replace(" ", "").replace("-", "")
    issued = 12 <= len(digits) <= 19 and bool(patterns.ISSUERS.match(digits))
    return issued and checks.luhn(digits)


def _is_ssn(text: str, start: int, end: int) -> bool:
    """With hyphens by itself; with spaces or nothing only where `SSN` stands before it."""
    digits = text[start:end].replace(" ", "").replace("-", "")
    hyphens = text.count("-", start, end) == 2
    cued = hyphens or patterns.SSN_CUE.search(text, max(0, start - CUE), start)
    return bool(cued) and checks.social_security(digits)


def _is_phone(text: str, start: int, end: int) -> bool:
    digits = sum(char.isdigit() for char in text[start:end].partition("x")[0])
    return MIN_PHONE_DIGITS <= digits <= MAX_PHONE_DIGITS


def _is_cued_phone(text: str, start: int, end: int) -> bool:
    if patterns.DATE.match(text, start):
        return False
    if patterns.PHONE_CUE.search(text, max(0, start - CUE), start):
        return True
    return bool(patterns.PHONE_CUE_AFTER.match(text, end)) and text[start:end].count(" ") > 0
