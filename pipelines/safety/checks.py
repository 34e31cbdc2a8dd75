"""Written values -> whether they can be what they look like: check digits, dates, randomness.

Each check is the published one: Luhn for payment cards (ISO/IEC 7812-1, annex B), mod 97 for IBANs
(ISO 13616-1), mod 11-2 for Chinese identity numbers (GB 11643-1999), the Social Security
Administration's list of numbers it never issues, Shannon's entropy for keys.
"""

import ipaddress
import math
from collections import Counter
from datetime import date

_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # 2^(17 - i) mod 11
_ID_CHECKS = "10X98765432"
_REGIONS = (  # GB/T 2260: the provinces, by their first digit
    ("1", "12345"),
    ("2", "123"),
    ("3", "1234567"),
    ("4", "123456"),
    ("5", "01234"),
    ("6", "12345"),
    ("7", "1"),
    ("8", "123"),
)
_PROVINCES = frozenset(first + second for first, seconds in _REGIONS for second in seconds)
_REGISTRY = {  # SWIFT's IBAN registry: length: countries
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_IBAN_LENGTHS = {
    country: length for length, countries in _REGISTRY.items() for country in countries.split()
}
MIN_ENTROPY, MIN_HEX_ENTROPY = 3.5, 3.0  # bits a character; detect-secrets' limits are 4.5 and 3.0


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban(value: str) -> bool:
    """Whether a compact IBAN has its country's length and the remainder 1 (ISO 13616-1)."""
    value = value.upper()
    if _IBAN_LENGTHS.get(value[:2]) != len(value):
        return False
    return int("".join(str(int(char, 36)) for char in value[4:] + value[:4])) % 97 == 1


def chinese_id(value: str) -> bool:
    """Whether 18 characters have a province, a day of birth and their check (GB 11643-1999)."""
    if value[:2] not in _PROVINCES:
        return False
    try:
        date(int(value[6:10]), int(value[10:12]), int(value[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(value[:17], _ID_WEIGHTS, strict=True))
    return _ID_CHECKS[total % 11] == value[17].upper()


def social_security(digits: str) -> bool:
    """Whether nine digits can be an SSN: never 000, 666, 9xx; 00; 0000 (SSA, since 2011)."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


def ip_address(value: str) -> bool:
    """Whether this is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def random_looking(value: str) -> bool:
    """Whether a value has a digit, a letter and the entropy of a key, not of a name or a path."""
    letters = sum(char.isalpha() for char in value)
    digits = sum(char.isdigit() for char in value)
    if not letters or digits < 2:
        return False
    hexadecimal = all(char in "0123456789abcdefABCDEF-" for char in value)
    return entropy(value) >= (MIN_HEX_ENTROPY if hexadecimal else MIN_ENTROPY)


def entropy(value: str) -> float:
    """Shannon's entropy of the characters of a value, in bits a character."""
    total = len(value)
    return -sum(n / total * math.log2(n / total) for n in Counter(value).values())
