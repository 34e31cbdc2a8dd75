"""Contamination: repeated items are found however they are formatted, and nothing else is."""

import gzip
import json
import random
import string
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.errors import DataError
from pipelines.corpus import contamination
from pipelines.corpus.contamination import RUN, SEED, Match, build, fold, load, matches, sizes

ITEM = "Janet's ducks lay 16 eggs per day; she eats three for breakfast every morning, and bakes."
SHORT = "unflinchingly bleak and desperate"  # 30 letters
CHINESE = "早餐太差，无论去多少人，那边也不加食品的。酒店应该重视一下这个问题了。房间本身很好。"


@pytest.fixture(scope="module")
def index():
    return build({"maths": [("m1", ITEM)], "films": [("f1", SHORT), ("f2", "a gem")],
                  "hotels": [("h1", CHINESE)]})  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        f"Some words before. {ITEM} Some words after.",
        ITEM.upper().replace(" ", "  \n"),
        "".join(char for char in ITEM.lower() if char.isalnum() or char == " "),
        ITEM.replace(" ", "-"),
    ],
)
def test_an_item_is_found_however_it_is_formatted(index, text):
    assert matches(index, text) == [Match("maths", "m1", 1.0)]


def test_full_width_forms_and_chinese_without_its_punctuation_are_found(index):
    wide = "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in SHORT)
    assert matches(index, f"看：{wide}") == [Match("films", "f1", 1.0)]
    assert matches(index, CHINESE.replace("，", " ").replace("。", "\n")) == [
        Match("hotels", "h1", 1.0)
    ]


def test_a_short_item_is_found_whole_or_not_at_all(index):
    assert matches(index, f"It is {SHORT}.") == [Match("films", "f1", 1.0)]
    assert matches(index, "It is unflinchingly bleak and desperat.") == []


def test_items_below_a_seed_are_counted_as_not_looked_for(index):
    assert len(fold("a gem")) < SEED
    assert matches(index, "a gem") == []
    assert sizes(index) == {
        "films": {"items": 2, "too_short": 1},
        "hotels": {"items": 1, "too_short": 0},
        "maths": {"items": 1, "too_short": 0},
    }


def test_the_share_is_what_is_covered_by_runs_of_enough_bytes(index):
    folded = fold(ITEM).decode()
    assert matches(index, folded[: RUN - 1]) == []
    [match] = matches(index, folded[:RUN])
    assert match.share == round(RUN / len(folded), 4)
    assert matches(index, folded[:RUN], min_share=0.8) == []


def test_two_runs_around_a_change_add_up():
    words = [f"word{place:02}" for place in range(40)]  # 240 letters and digits
    made = build({"set": [("i", " ".join(words))]})
    words[20] = "x"
    assert matches(made, " ".join(words)) == [Match("set", "i", round(234 / 240, 4))]


def test_an_index_is_the_same_file_however_often_it_is_built_and_reads_back(index, tmp_path):
    sets = {"hotels": [("h1", CHINESE)], "films": [("f1", SHORT), ("f2", "a gem")]}
    again = build(sets | {"maths": [("m1", ITEM)]})
    assert again.to_bytes() == index.to_bytes()
    (tmp_path / "index").write_bytes(index.to_bytes())
    copy = load(str(tmp_path / "index"))
    assert matches(copy, ITEM + CHINESE) == matches(index, ITEM + CHINESE)
    assert copy.to_bytes() == index.to_bytes()


def test_an_index_of_another_version_is_refused(index, tmp_path, monkeypatch):
    (tmp_path / "index").write_bytes(index.to_bytes())
    monkeypatch.setattr(contamination, "VERSION", "0")
    with pytest.raises(DataError, match="version 1, expected 0"):
        load(str(tmp_path / "index"))


def test_no_sets_no_items_and_no_text_are_no_error(index):
    assert matches(build({}), ITEM) == []
    assert matches(build({"set": []}), ITEM) == []
    assert matches(index, "") == []
    assert matches(index, "\ud800") == []


def test_a_text_longer_than_a_block_is_read_across_its_edges(index, monkeypatch):
    monkeypatch.setattr(contamination, "BLOCK", 32)
    assert matches(index, "x " * 40 + ITEM + " y" * 40) == [Match("maths", "m1", 1.0)]


def test_a_phrase_said_over_and_over_costs_no_more_than_its_length():
    phrase = "which of the following answers is the right one of these "
    made = build({"set": [(str(n), phrase * 3 + string.ascii_letters) for n in range(200)]})
    started = time.process_time()
    matches(made, phrase * 5000)
    assert time.process_time() - started < 5


@settings(max_examples=100, deadline=None)
@given(st.text("ab1 ,.", min_size=120, max_size=200), st.integers(0, 60), st.randoms())
def test_any_stretch_of_enough_letters_is_found(item, skip, rng):
    """Independent reference: does a stretch of the folded item occur in the folded text?"""
    folded = fold(item).decode()
    noise = "".join(random.Random(rng.random()).choices("xyz", k=50))
    text = noise + folded[skip : skip + RUN] + noise
    if len(folded) >= skip + RUN:
        assert matches(build({"set": [("i", item)]}), text, min_share=0)


def _rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_planted_items_are_found_and_no_clean_document_is_hit(shared_data):
    texts = {
        "gsm8k": ("lm_eval/gsm8k_test_a", "id", "question"),
        "humaneval": ("seq2seq/humaneval", "task_id", "prompt"),
        "sst2": ("classification/sst2_dev_a", "id", "text"),
        "xquad_en": ("qa/xquad_en_a", "id", "context"),
    }
    index = build(
        {
            name: [(row[key], row[field]) for row in _rows(shared_data / f"{path}.jsonl.gz")]
            for name, (path, key, field) in texts.items()
        }
    )
    truth = {row["id"]: row for row in _rows(shared_data / "planted/truth.jsonl.gz")}
    found = {"verbatim": [], "lower_nopunct": []}
    false = 0
    for row in _rows(shared_data / "planted/corpus.jsonl.gz"):
        hits = {(match.set, match.item) for match in matches(index, row["text"])}
        fact = truth[row["id"]]
        if fact["kind"] == "contaminated":
            found[fact["mode"]].append((fact["eval_set"], fact["eval_id"]) in hits)
        else:
            false += bool(hits)
    assert (len(found["verbatim"]), len(found["lower_nopunct"])) == (48, 52)
    assert np.mean(found["verbatim"]) >= 0.99
    assert np.mean(found["lower_nopunct"]) >= 0.95
    assert false <= 3  # of 2,982; measured: none


def test_chnsenticorps_dev_set_repeats_its_train_set(shared_data):
    """342 of its 1,200 reviews are in train letter for letter; some more with a changed word."""
    dev = _rows(shared_data / "classification/chnsenticorp_dev.jsonl.gz")
    train = _rows(shared_data / "classification/chnsenticorp_train.jsonl.gz")
    folded = {fold(row["text"]) for row in train}
    same = {row["id"] for row in dev if fold(row["text"]) in folded}
    index = build({"chnsenticorp": [(row["id"], row["text"]) for row in dev]})
    found = [matches(index, row["text"]) for row in train]
    assert len(same) == 342
    assert same <= {match.item for one in found for match in one if match.share == 1}
    assert sizes(index)["chnsenticorp"]["too_short"] == 0
    assert 342 <= len({match.item for one in found for match in one}) <= 360
