"""HTML -> the text of its article, without menus, teasers, comments and footers.

Three steps, each cheaper than the next is needed: (1) elements whose class or id says that they are
no content are cut from resiliparse's tree; (2) resiliparse extracts, and blocks are kept by length,
link density and neighbours, as jusText does (Pomikalek 2011, "Removing Boilerplate and Duplicate
Content from Web Corpora", section 3.2); (3) where little is left, the page is not an ordinary
article and trafilatura decides. `benchmarks/extraction.md` has what each costs and gains.
"""

import functools
import html
import logging
import re
from dataclasses import dataclass

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import DOMNode, HTMLTree

MAX_HTML = 4 << 20  # characters of a page; larger ones are data, not articles
MAX_SLOW = 2 << 20  # characters that trafilatura gets, which takes seconds for as many
MAX_TAGS = 40_000  # marks "<" of a page; 297 of the 300 pages measured have fewer than 7,000
MAX_DEPTH = 3_000  # nested elements: time grows with their square, 0.5 s for 5,000
# The four below were chosen on the 300 pages of benchmarks/extraction.md, from a coarse grid.
LONG = 100  # characters that make a block of text good by itself
SHARE = 0.6  # of resiliparse's text that the blocks kept must make, else trafilatura decides
ENOUGH = 600  # characters in good blocks, else trafilatura decides
CUT_SHARE = 0.4  # of the page: an element with more is kept, whatever its class says
MIDDLE = 40  # characters of a sentence that is kept beside a good block
LINKED = 0.35  # share of a block's characters in links above which it is a menu
NEAR, RUN = 2, 12  # blocks from a good one; blocks between two, as in a poem or a program
WIDE = 3  # a Chinese, Japanese or Korean character says as much as about three Latin ones

_NEVER = "script,style,noscript,svg,template,iframe"
_SELDOM = "form,nav,footer,aside"
_NAMED = (
    "div[class],div[id],section[class],section[id],ul[class],ol[class],p[class],span[class],"
    "aside[class]"
)
# After trafilatura 2.3's OVERALL_DISCARD_XPATH (Apache-2.0), whose words years of pages have tried.
_BOILERPLATE = re.compile(
    r"social|viral|newsletter|syndication|cookie|tags|sidebar|banner|bread-?crumb|button|author|"
    r"(?:^|\s)(?:shar|nav|post-nav|ad-)|subnav|navigation|navbar|navbox|menu|-ad-|outbrain|taboola|"
    r"widget(?!-(?:container|wrap|theme|text))|paid-?content|footer|byline|share-|sociable|embed|"
    r"tag-list|consent|modal-content|related|next-|-stories|most-popular|more-on|(?:^|[-_\s])meta|"
    r"rating|timestamp|user-info|user-profile|-icon|overlay|expand|teaser|comments?-|comments|"
    r"(?:^|\s)comment(?:\s|$)|respond|disqus|reply-|akismet|noprint|suggest-links|promo|copyright|"
    r"caption|print-only|hidden",
    re.IGNORECASE,
)
_TAG = re.compile(r"<[^>]*>")
_LINK = re.compile(r"<a [^>]*>(.*?)</a>", re.DOTALL)
_HEADING = re.compile(r"\s*<h[1-6]>")
_CJK = re.compile("[\u2e80-\u9fff\uac00-\ud7af]")
_MARKUP = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_VOID = frozenset(
    [
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "source",
        "track",
        "wbr",
    ]
)
# The end tag may be left out, so a long list of them is not a deep one.
_OPEN_ENDED = frozenset(
    ["p", "li", "dt", "dd", "tr", "td", "th", "thead", "tbody", "tfoot", "option", "optgroup"]
)


@dataclass(frozen=True)
class Block:
    """A paragraph, list item or heading; `linked` is the share of its characters in links."""

    text: str
    linked: float
    heading: bool


def extract(page: str) -> str:
    """The article's text, one line a block; empty if the page has none.

    Raises:
        ValueError: the page is too large, too deep or has too many elements to be an article.
    """
    _refuse_absurd(page)
    found = blocks(_boiled(page))
    kept, good = _kept(found)
    text = "\n".join(block.text for block in kept)
    if good >= ENOUGH and len(text) >= SHARE * sum(len(block.text) for block in found):
        return text
    return _slow(page) or text


def blocks(minimal: str) -> list[Block]:
    """The blocks of resiliparse's minimal HTML, which has one a line."""
    found = []
    for line in minimal.split("\n"):
        if text := " ".join(html.unescape(_TAG.sub("", line)).split()):
            linked = sum(len(_TAG.sub("", link)) for link in _LINK.findall(line))
            found.append(Block(text, min(1.0, linked / len(text)), bool(_HEADING.match(line))))
    return found


def _refuse_absurd(page: str) -> None:
    """Parsers take time and stack by elements and depth; both are counted before one is called."""
    if len(page) > MAX_HTML:
        raise ValueError(f"too long an HTML page: {len(page):,} characters, more than {MAX_HTML:,}")
    if (tags := page.count("<")) > MAX_TAGS:
        raise ValueError(f"too many tags in an HTML page: {tags:,}, more than {MAX_TAGS:,}")
    if tags < MAX_DEPTH:
        return
    depth = 0
    for mark in _MARKUP.finditer(page):
        name = mark[2].lower()
        if name not in _VOID and name not in _OPEN_ENDED:
            depth = max(0, depth - 1) if mark[1] else depth + 1
            if depth > MAX_DEPTH:
                raise ValueError(f"HTML nested deeper than {MAX_DEPTH:,} elements")


def _boiled(page: str) -> str:
    """The page's main content as minimal HTML."""
    tree = HTMLTree.parse(page)
    if tree.body is not None:
        for node in tree.body.query_selector_all(_NEVER):
            _cut(node)
        total = len(tree.body.text)
        for node in tree.body.query_selector_all(_SELDOM):
            if len(node.text) < total / 2:  # some sites put the whole page into one form
                _cut(node)
        for node in tree.body.query_selector_all(_NAMED):
            named = _is_boilerplate(f"{node.class_name} {node.id}")
            if named and len(node.text) < CUT_SHARE * total:
                _cut(node)
    return str(
        extract_plain_text(tree, "minimal_html", main_content=True, links=True, alt_texts=False)
    )


def _cut(node: DOMNode) -> None:
    if node.parent is not None:
        node.parent.remove_child(node)


@functools.lru_cache(1 << 14)  # a page has a thousand elements and a hundred names
def _is_boilerplate(names: str) -> bool:
    return _BOILERPLATE.search(names[:1000]) is not None


def _kept(found: list[Block]) -> tuple[list[Block], int]:
    """The blocks that are text, and the characters of those that are so by themselves."""
    lengths = [len(block.text) + (WIDE - 1) * len(_CJK.findall(block.text)) for block in found]
    kinds = [_kind(block, length) for block, length in zip(found, lengths, strict=True)]
    before = _distances(kinds)
    after = _distances(kinds[::-1])[::-1]
    kept = [
        block
        for block, kind, left, right in zip(found, kinds, before, after, strict=True)
        if _keep(block, kind, left, right)
    ]
    good = [length for length, kind in zip(lengths, kinds, strict=True) if kind == "good"]
    return kept, sum(good)


def _kind(block: Block, length: int) -> str:
    if block.linked > LINKED:
        return "bad"
    if block.heading:
        return "heading"
    if length >= LONG:
        return "good"
    ended = block.text[-1] in '.?!:;"”»…。！？'
    return "sentence" if length >= MIDDLE and ended else "short"


def _distances(kinds: list[str]) -> list[int]:
    """How many blocks each is after a good one; a sentence near a good one counts as good."""
    distance, found = 10**9, []
    for kind in kinds:
        near = kind == "good" or (kind == "sentence" and distance <= NEAR)
        distance = 0 if near else distance + 1
        found.append(distance)
    return found


def _keep(block: Block, kind: str, left: int, right: int) -> bool:
    if kind in ("good", "bad"):
        return kind == "good"
    if (kind == "sentence" and min(left, right) <= NEAR) or (kind == "heading" and right <= NEAR):
        return True
    return max(left, right) <= 3 or (block.linked <= 0.2 and left + right <= RUN)


def _slow(page: str) -> str:
    """Trafilatura's text of a page that is not too long for it, or nothing."""
    if len(page) > MAX_SLOW:
        return ""
    import trafilatura  # noqa: PLC0415 (0.6 s that corpora without web pages need not wait for)

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it reports each empty page
    return trafilatura.extract(page, include_comments=False, fast=True) or ""
