"""Personal data: found by pattern and check, masked by type, clean text left alone."""

import gzip
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.safety import pii
from pipelines.safety.pii import find, mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to jane.doe+x@mail.example.org.", "Write to [EMAIL]."),
        ("Call +44 20 7946 0396 now", "Call [PHONE] now"),
        ("Call (774) 555-3273 or 774-555-3273x12", "Call [PHONE] or [PHONE]"),
        ("电话13804942169。", "电话[PHONE]。"),
        ("from 210.94.196.180:", "from [IP]:"),
        ("from 2001:db8:85a3::8a2e:370:7334.", "from [IP]."),
        ("card 4025 7313 8675 9164, thanks", "card [CARD], thanks"),
        ("IBAN DE89 3704 0044 0532 0130 00.", "IBAN [IBAN]."),
        ("IBAN MT84MALT011000012345MTLCAST001S", "IBAN [IBAN]"),
        ("SSN 390-95-3710, or SSN: 390953710", "SSN [SSN], or SSN: [SSN]"),
        ("身份证号为11010519491231002X，", "身份证号为[CN_ID]，"),
        ("手机号１３８０４９４２１６９", "手机号[PHONE]"),
        ("Tel +86 138 0494 2169, 010-62345678, 400-800-1234", "Tel [PHONE], [PHONE], [PHONE]"),
        ("call me on 9472 7916?", "call me on [PHONE]?"),
        ("655 437 108 office", "[PHONE] office"),
    ],
)
def test_each_type_is_replaced_by_its_name(text, masked):
    assert mask(text)[0] == masked


@pytest.mark.parametrize(
    "text",
    [
        "card 4025731386759165 fails its check digit",
        "256.1.1.1 has an octet over 255",
        "version 1.2.3 of 2024-01-15 at 12:30:45",
        "ISBN 978-0-306-40615-7",
        "array([[1.5, 2.25, 3.125], [100, 200, 300]])",
        "std::vector and x[1:2:3] and @decorator",
        "pi is 3.14159265358979323846",
        "IBAN DE88370400440532013000 fails mod 97",
        "part 390953710 and 000-12-3456 and 912-12-3456",
        "号码110105194912310021",
        "9472 7916 seats; call me on 2024-01-15",
        "version 10.0.1.2",
        "key = some_function_name(argument_1)",
        "token: the_quick_brown_fox_1_and_2",
        "commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
        "@decorator and user @ home",
    ],
)
def test_text_that_only_looks_like_personal_data_stays(text):
    assert mask(text) == (text, {})


def test_only_the_types_asked_for_are_masked_and_counted():
    text = "a@example.org b@example.org 10.20.30.40"
    assert mask(text, ("email",)) == ("[EMAIL] [EMAIL] 10.20.30.40", {"email": 2})


def test_spans_are_the_characters_of_the_data():
    text = "to a@example.org, 10.20.30.40"
    assert [text[span.start : span.end] for span in find(text)] == ["a@example.org", "10.20.30.40"]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789.-+() :@abx[]", max_size=60))
def test_masking_twice_is_masking_once(text):
    once = mask(text)[0]
    assert mask(once) == (once, {})


BLOB = "MIIEpAIBAAKCAQEA7bq0Zk3xkXoH2u7nq5Qm9f0cQ8dG"
SECRETS = [  # of no account: random, in their makers' forms; joined here, so that no scanner stirs
    "AKIA" + "IOSFODNN7EXAMPLE",
    "AKIA" + "IOSFODNNQEXAMPLE",
    "gh" + "p_16C7e42F292c6912E7710c838347Ae178B4a",
    "xox" + "b-17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzqqgy",
    "AIza" + "SyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe",
    "sk_" + "live_4eC39HqLyjWDarjtT1zdp7dc",
    "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9",
    f"-----BEGIN RSA PRIVATE KEY-----\n{BLOB}\n{BLOB}=\n-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "use {}, please", "令牌：{}。", "x=('{}')"])
def test_keys_with_a_mark_of_their_own_are_masked(secret, around):
    assert mask(around.format(secret)) == (around.format("[KEY]"), {"key": 1})


@pytest.mark.parametrize(
    "text",
    [
        "api_key = 'Zx81kQpLr04vNsTy'",
        '"access_token": "Zx81kQpLr04vNsTy"',
        "export SECRET=9f86d081884c7d659a2feaa0c55ad015",
        "Authorization: Bearer Zx81kQpLr04vNsTyZx81kQpL",
    ],
)
def test_random_values_that_a_name_calls_keys_are_masked(text):
    masked, counts = mask(text)
    assert counts == {"key": 1}
    assert "Zx81" not in masked
    assert "9f86" not in masked


def test_a_private_key_without_its_end_is_masked_as_far_as_it_goes():
    text = f"-----BEGIN PRIVATE KEY-----\n{BLOB}\n{BLOB}"
    assert mask(text)[0] == "[KEY]"


NUMBERS = st.sampled_from(
    ["390-95-3710", "+44 20 7946 0396", "13804942169", "DE89 3704 0044 0532 0130 00",
     "MT84MALT011000012345MTLCAST001S", "4025731386759164", "10.20.30.40", "1.2.3.4",
     "11010519491231002X", "(08) 8747 6301", "774-555-3273x12", "call me on 9472 7916",
     " ", "\n", "中", "in 1998", "x", ".", "word " * 12, "-", "１"]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(NUMBERS, max_size=12).map("".join))
def test_looking_only_around_digits_finds_what_looking_everywhere_does(text):
    whole = pii.Hints(((0, len(text)),), ((0, len(text)),))
    hints, pii._hints = pii._hints, lambda text: whole
    try:
        everywhere = find(text)
    finally:
        pii._hints = hints
    assert find(text) == everywhere


def test_canary_no_planted_identifier_survives(shared_data):
    values = {
        entity["value"]
        for row in _rows(shared_data / "planted/truth.jsonl.gz")
        for entity in row.get("pii", ())
    }
    assert len(values) > 700
    masked = "\n".join(
        mask(row["text"])[0] for row in _rows(shared_data / "planted/corpus.jsonl.gz")
    )
    assert [value for value in values if value in masked] == []


def test_recall_and_precision_on_planted_identifiers_by_type_and_span(shared_data):
    kinds = {"EMAIL": "email", "PHONE": "phone", "IP": "ip", "CREDIT_CARD": "card",
             "IBAN": "iban", "SSN": "ssn", "CN_ID": "cn_id"}  # fmt: skip
    texts = {row["id"]: row["text"] for row in _rows(shared_data / "planted/corpus.jsonl.gz")}
    hit, missed, strange = Counter(), Counter(), Counter()
    for row in _rows(shared_data / "planted/truth.jsonl.gz"):
        if "pii" in row:
            found = {(span.start, span.end, span.type) for span in find(texts[row["id"]])}
            planted = {
                (entity["start"], entity["start"] + len(entity["value"]), kinds[entity["type"]])
                for entity in row["pii"]
            }
            hit.update(kind for *_, kind in found & planted)
            missed.update(kind for *_, kind in planted - found)
            strange.update(kind for *_, kind in found - planted)
    assert sum(hit.values()) == 808  # measured: all, and nothing else
    for kind in kinds.values():
        assert hit[kind] / (hit[kind] + missed[kind]) >= 0.95
        assert hit[kind] / (hit[kind] + strange[kind]) >= 0.95


def test_recall_and_precision_on_presidios_synthetic_set(shared_data):
    """Presidio's own recogniser reaches .60 recall over all types; ours are the checkable ones."""
    rows = _rows(shared_data / "robustness/pii_presidio_synth_v2.jsonl.gz")
    floors = {"EMAIL_ADDRESS": 1.0, "IP_ADDRESS": 1.0, "CREDIT_CARD": 0.98}
    floors |= {"PHONE_NUMBER": 0.96, "IBAN_CODE": 1.0, "US_SSN": 1.0}
    hit, total, strangers = dict.fromkeys(floors, 0), dict.fromkeys(floors, 0), []
    for row in rows:
        spans = find(row["text"])
        for gold in row["spans"]:
            if gold["type"] in floors:
                total[gold["type"]] += 1
                hit[gold["type"]] += any(
                    s.start <= gold["start"] + 2 and s.end >= gold["end"] for s in spans
                )
        strangers += [
            row["text"][s.start : s.end]
            for s in spans
            if not any(s.start < gold["end"] and gold["start"] < s.end for gold in row["spans"])
        ]
    assert {
        kind: hit[kind] / total[kind] >= floor for kind, floor in floors.items()
    } == dict.fromkeys(floors, True), (hit, total)
    assert strangers == []


def _rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_long_runs_of_digits_and_many_hits_take_no_longer_than_their_length() -> None:
    # Backtracking would take 2 s a line of the first, comparing all pairs minutes for the second.
    assert find("\n".join(["+" + "1" * 80 + "x"] * 500)) == []
    spans = find("\n".join(["ann@example.com 10.0.0.1"] * 20_000))
    assert [span.type for span in spans] == ["email", "ip"] * 20_000
