"""Extraction: articles without menus, absurd pages refused in time, truth on real pages."""

import json
import tarfile
import time

import pytest

from pipelines.corpus.encoding import declared_charset, decoded
from pipelines.corpus.extract import MAX_DEPTH, MAX_HTML, MAX_TAGS, Block, blocks, extract

SENTENCE = "A sentence of an article has words enough to be told from a menu, and it ends. "
PAGE = """<html><head><script>var x = "<p>not text</p>";</script></head><body>
<nav><a href="/">Home</a> <a href="/news">News</a></nav>
<div class="sidebar">Most read this week: a long teaser which nobody asked for, with a verb.</div>
<article><h1>The title</h1>%s</article>
<div id="comments"><p>First! This is a comment, long enough to look like a text, sadly.</p></div>
<footer>Copyright 2026, all rights reserved, imprint and privacy</footer></body></html>"""


def test_the_article_is_kept_and_what_surrounds_it_is_not():
    body = "".join(f"<p>{number}. {SENTENCE * 2}</p>" for number in range(6))
    lines = extract(PAGE % body).split("\n")
    assert lines == ["The title"] + [f"{number}. {(SENTENCE * 2).strip()}" for number in range(6)]


def test_short_lines_between_paragraphs_stay_and_a_menu_does_not():
    long = f"<p>{SENTENCE * 5}</p>"
    poem = "".join(f"<p>verse {number}</p>" for number in range(5))
    menu = "".join(f'<p><a href="/{number}">link {number}</a></p>' for number in range(5))
    text = extract(f"<body>{long}{poem}{long}{menu}{long}</body>")
    assert "verse 3" in text
    assert "link 3" not in text


def test_a_page_of_little_text_is_left_to_trafilatura():
    assert extract("<html><body><p>Hello, this is short.</p></body></html>") == (
        "Hello, this is short."
    )


def test_an_element_named_like_a_menu_that_holds_the_page_is_kept():
    body = "".join(f"<p>{SENTENCE * 3}</p>" for _ in range(6))
    assert extract(f'<body><div class="has-sidebar">{body}</div></body>').count("menu") == 18


def test_blocks_know_their_links_and_headings():
    assert blocks('<h2>A &amp; B</h2>\n\n<p>ab<a href="x">cd</a></p>') == [
        Block("A & B", 0.0, True),
        Block("abcd", 0.5, False),
    ]


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("x" * (MAX_HTML + 1), "too long an HTML page: 4,194,305 characters"),
        ("<p>x" * (MAX_TAGS + 1), "too many tags in an HTML page: 40,001"),
        ("<div>" * (MAX_DEPTH + 1), "HTML nested deeper than 3,000 elements"),
    ],
)
def test_an_absurd_page_is_refused_before_a_parser_sees_it(page, reason):
    started = time.process_time()
    with pytest.raises(ValueError, match=reason):
        extract(page)
    assert time.process_time() - started < 1


TEXTS = {
    "gb18030": "这是一个用于测试编码检测的中文句子，我们希望它能被正确识别。",
    "big5": "這是一個用於測試編碼檢測的中文句子，我們希望它能被正確識別。",
    "shift_jis": "これは文字コードの判定を試すための日本語の文章です。正しく読めますか。",
    "euc-jp": "これは文字コードの判定を試すための日本語の文章です。",
    "euc-kr": "이것은 인코딩 감지를 시험하기 위한 한국어 문장입니다.",
    "cp1251": "Это русское предложение для проверки определения кодировки текста.",
    "koi8-r": "Это русское предложение для проверки определения кодировки текста.",
    "cp1252": "Der Müller aß süße Brötchen – „schön“ ist das für ihn.",
    "utf-16": "any text 文",
    "utf-16-le": "plain text without a mark",
    "utf-16-be": "plain text without a mark",
    "utf-32": "any text 文",
    "utf-8-sig": "any text 文",
}


@pytest.mark.parametrize("name", TEXTS)
def test_an_encoding_is_detected(name):
    assert decoded(TEXTS[name].encode(name)) == TEXTS[name]


def test_a_declared_encoding_goes_before_a_guess_but_not_before_valid_utf8():
    cyrillic = "да".encode("cp1251")
    assert decoded(cyrillic, "windows-1251") == "да"
    assert decoded("да".encode(), "windows-1251") == "да"
    assert decoded(cyrillic, "no-such-charset") != ""
    assert declared_charset(b'<?xml version="1.0" encoding="koi8-r"?>') == "koi8-r"
    assert declared_charset(b'<META http-equiv=x content="text/html; charset=GBK">') == "GBK"


@pytest.mark.parametrize("data", [b"\0\1\2\3" * 100, b"text\0with a zero", b"\xff\xfe\x00\xd8"])
def test_binary_data_is_refused(data):
    with pytest.raises(ValueError, match=r"binary|not utf-16"):
        decoded(data)


def test_real_pages_keep_what_they_must_and_lose_what_they_must(shared_data):
    """60 of the 300 pages; `benchmarks/extraction.md` has all of them, and F1 .92."""
    hits = {"with": [0, 0], "without": [0, 0]}
    with tarfile.open(shared_data / "html/trafilatura_eval.tar.gz") as archive:
        files = {member.name.rpartition("/")[2]: member for member in archive if member.isfile()}
        truth = [json.loads(line) for line in archive.extractfile(files["truth.jsonl"])]
        for row in truth[::5]:
            data = archive.extractfile(files[row["file"]]).read()
            text = extract(decoded(data, declared_charset(data)))
            for kind, counts in hits.items():
                counts[0] += sum(string in text for string in row[kind])
                counts[1] += len(row[kind])
    assert hits["with"][0] / hits["with"][1] > 0.88
    assert hits["without"][0] / hits["without"][1] < 0.15
