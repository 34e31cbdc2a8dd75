"""Check digits against published examples and worked values."""

import pytest

from pipelines.safety.checks import (
    chinese_id,
    entropy,
    iban,
    ip_address,
    luhn,
    random_looking,
    social_security,
)


def test_luhn_agrees_with_a_worked_number():
    # ISO/IEC 7812-1's example: 7992739871 has check digit 3.
    assert [digit for digit in "0123456789" if luhn("7992739871" + digit)] == ["3"]


@pytest.mark.parametrize(
    "value",
    ["GB82WEST12345698765432", "DE89370400440532013000", "FR1420041010050500013M02606",
     "NO9386011117947", "MT84MALT011000012345MTLCAST001S", "gb82west12345698765432"],
)  # fmt: skip
def test_ibans_of_the_registry_are_valid_and_no_other_check_digits_are(value):
    assert iban(value)
    wrong = value[:2] + f"{(int(value[2:4]) + 1) % 100:02}" + value[4:]
    assert not iban(wrong)
    assert not iban(value + "0")
    assert not iban("XX" + value[2:])


def test_a_chinese_identity_number_has_a_province_a_day_and_a_check():
    # GB 11643-1999's own example: 11010519491231002X.
    assert [c for c in "0123456789X" if chinese_id("11010519491231002" + c)] == ["X"]
    assert chinese_id("11010519491231002x")
    assert not chinese_id("99010519491231002X")
    assert not chinese_id("110105194913310029")


@pytest.mark.parametrize(
    ("digits", "valid"),
    [("123456789", True), ("899456789", True), ("000456789", False), ("666456789", False),
     ("900456789", False), ("123006789", False), ("123450000", False)],
)  # fmt: skip
def test_numbers_that_social_security_never_issues_are_none(digits, valid):
    assert social_security(digits) is valid


def test_addresses():
    assert ip_address("10.0.0.255")
    assert not ip_address("10.0.0.256")
    assert ip_address("2001:db8::1")
    assert not ip_address("12:30:45")


def test_entropy_in_bits():
    assert entropy("aaaa") == 0
    assert entropy("abcd") == 2


@pytest.mark.parametrize(
    ("value", "random"),
    [("9f86d081884c7d659a2feaa0c55ad015", True), ("Zx81kQpLr04vNsTy", True),
     ("aaaaaaaaaaaaaaa11", False), ("your-api-key-goes-here", False), ("1234567890123456", False),
     ("configuration_value_1", False)],
)  # fmt: skip
def test_keys_look_random_and_names_do_not(value, random):
    assert random_looking(value) is random
