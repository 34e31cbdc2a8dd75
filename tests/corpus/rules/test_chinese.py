"""zh: one crafted text a threshold, and what it keeps and rejects of real and planted text."""

import gzip
import json

import pytest

from pipelines.corpus.rules import chinese
from pipelines.corpus.rules.measure import Failure
from pipelines.corpus.rules.sets import judge

STORY = (
    "我冒了严寒，回到相隔二千余里，别了二十余年的故乡去。时候既然是深冬；渐近故乡时，天气又阴晦了，"
    "冷风吹进船舱中，呜呜的响，从篷隙向外一望，苍黄的天底下，远近横着几个萧索的荒村，没有一些活气。"
    "我的心禁不住悲凉起来了。"
)


def verdict(text):
    return judge(text, ["zh"]).failure


def failed(rule, value, threshold):
    return Failure("zh", rule, value, threshold)


def measures(text):
    return {rule: value for rule, value, *_ in chinese.measures(text)}


def test_prose_and_a_poem_in_traditional_characters_pass():
    assert verdict(STORY) is None
    assert verdict("靜夜思\n牀前明月光，疑是地上霜。\n舉頭望明月，低頭思故鄉。") is None


def test_nineteen_characters_are_too_few():
    text = "我们今天去看海，他们明天来看山，大家都很高兴。"
    assert measures(text)["chinese_chars"] == 20
    assert verdict(text) is None
    assert verdict(text.replace("很", "")) == failed("chinese_chars", 19, 20)


def test_words_of_other_scripts_count_one_each():
    chinese_chars = measures(STORY)["chinese_chars"]
    words = " ".join(f"word{n}" for n in range(150))
    share = chinese_chars / (chinese_chars + 150)
    assert measures(f"{STORY} {words}.,.,.,.,.,")["chinese_share"] == pytest.approx(share)
    words = " ".join(f"word{n}" for n in range(200))
    share = round(chinese_chars / (chinese_chars + 200), 4)
    assert verdict(f"{STORY} {words}") == failed("chinese_share", share, 0.4)


def test_text_without_punctuation_fails_and_text_of_little_else():
    bare = STORY.translate({ord(mark): None for mark in "，。；"})
    assert verdict(bare) == failed("punctuation", 0, 0.01)
    text = f"{STORY}{'！' * 200}"
    share = round(measures(text)["punctuation"], 4)
    assert verdict(text) == failed("punctuation", share, 0.5)


def test_characters_drawn_at_random_fail_for_want_of_common_ones():
    drawn = "".join(chr(0x4E00 + 7919 * n % 20_000) for n in range(500))
    text = "，".join(drawn[at : at + 9] for at in range(0, 500, 9))
    found = verdict(text)
    assert (found.rule, found.threshold) == ("common_chars", 0.02)


def test_boilerplate_fails_by_its_share_of_characters():
    text = f"{STORY}\n版权所有，免责声明，友情链接，设为首页，加入收藏。"
    chars = len(text) - 1
    assert verdict(text) == failed("boilerplate", round(20 / chars, 4), 0.1)
    assert verdict(f"{STORY}\n版权所有，免责声明。") is None


def test_repeated_lines_fail_by_their_characters():
    lines = [STORY[at : at + 12] for at in range(0, 96, 12)]
    text = "\n".join([*lines, *lines[:4]])
    assert verdict(text) == failed("duplicate_line_chars", round(4 / 12, 4), 0.3)
    assert verdict("\n".join([*lines, *lines[:3]])) is None


def test_the_most_frequent_pair_fails_by_its_share():
    text = f"{STORY}{'哈哈，' * 40}"
    share = measures(text)["top_2gram_chars"]
    assert share == pytest.approx(80 / (len(STORY) + 120), abs=0.1)
    assert verdict(text).rule == "top_2gram_chars"


def test_the_most_frequent_run_of_four_fails_by_its_share():
    found = [
        rule for rule, value, _, most in chinese.ngrams("春夏秋冬" * 9 + STORY[:30]) if value > most
    ]
    assert "top_4gram_chars" in found


def test_text_repeated_over_and_over_fails():
    text = (STORY[:45] + "\n") * 2
    text += "".join(STORY[at : at + 15] + "又" for at in range(0, 30, 15)) + STORY[:45] * 6
    assert measures(text)["duplicate_13gram_chars"] > 0.7
    assert verdict(text) is not None


def rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


@pytest.mark.parametrize("name", ["zh_classics", "zh_d2l", "zh_luxun", "zh_tidb_docs"])
def test_98_of_100_real_documents_are_kept(shared_data, name):
    texts = [row["text"] for row in rows(shared_data / f"pretrain/{name}.jsonl.gz")]
    texts = texts[:: 20 if len(texts) > 10_000 else 2]
    assert sum(verdict(text) is None for text in texts) >= 0.98 * len(texts)


def test_all_planted_garbage_is_rejected_and_all_clean_chinese_kept(shared_data):
    truth = {row["id"]: row for row in rows(shared_data / "planted/truth.jsonl.gz")}
    for row in rows(shared_data / "planted/corpus.jsonl.gz"):
        facts = truth[row["id"]]
        if facts["kind"] == "garbage":
            assert verdict(row["text"]) is not None
        elif facts["kind"] == "clean" and facts["lang"] == "zh":
            assert verdict(row["text"]) is None
