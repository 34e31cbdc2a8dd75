"""Where sentences end, in two languages."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.tokens.sentences import sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", " Two!", " Three?"]),
        ('"Yes!" he said. (Not so.) Or?!', ['"Yes!"', " he said.", " (Not so.)", " Or?!"]),
        (
            "Dr. Who met J. Smith, e.g. in U.S. waters.",
            ["Dr. Who met J. Smith, e.g. in U.S. waters."],
        ),
        ("Pi is 3.14 and x.y is no end", ["Pi is 3.14 and x.y is no end"]),
        ("Wait... what", ["Wait...", " what"]),
        ("head \n\n  body\ntail", ["head", " \n\n  body", "\ntail"]),
        ("他说：“好。”然后走了！真的？！是", ["他说：“好。”", "然后走了！", "真的？！", "是"]),
        ("标题\n　　革命成功之后。", ["标题", "\n　　革命成功之后。"]),
        ("", []),
        (" \n ", [" \n "]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(st.text(alphabet='aB.!?。！”") \n\t', max_size=40))
def test_the_pieces_are_the_text_again_and_none_is_empty(text: str) -> None:
    pieces = sentences(text)
    assert "".join(pieces) == text
    assert all(pieces)


@pytest.mark.parametrize("unit", [".", "\n", ' \n"', '."', "。", "a.", ".)"])
def test_repeated_punctuation_takes_linear_time(unit: str) -> None:
    """200,000 of them: well under a second, where a quadratic scan takes minutes."""
    started = time.process_time()
    sentences(unit * 200_000)
    assert time.process_time() - started < 5
