"""Text -> the same text, repaired: encoding, Unicode form, control characters, white space, lines.

Pure and cheap: ASCII text, most of an English corpus, skips every Unicode step. Lines that only
draw go where they say nothing: box-drawing characters (U+2500-259F) by themselves, and a rule
(`-----`) that repeats the line before it. Words broken by a soft hyphen at a line's end are joined;
a plain hyphen there may be the word's own and stays.
"""

import re
import unicodedata

import ftfy

MOST_PASSES = 8  # one is the rule; text broken n times needs n + 1
# Characters that UTF-8 read as Latin-1 or Windows-1252 begins with; without one there is none.
_SUSPICIOUS = re.compile("[\u00c2\u00c3\u00e2\u00ef\u00f0\u00e3-\u00e9\u0080-\u009f]")
_LINE_ENDS = re.compile("\r\n?|[\u0085\u2028\u2029]")
# C0 and C1 controls but \t and \n; zero-width space, BOM, soft hyphen, word joiner; direction marks
# and overrides; lone surrogates, which UTF-8 cannot hold. ZWJ and ZWNJ stay: emoji and Persian.
_REMOVED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff"
    "\ud800-\udfff]"
)
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f]")
_LINE_TAIL = re.compile("[ \t]+(?=\n|$)")
_BLANK_LINES = re.compile("\n{3,}")
_SOFT_HYPHEN = re.compile("\u00ad[ \t]*\n[ \t]*(?=\\w)")  # "ex\u00ad|ample": a broken word
# Box-drawing and block elements, alone on a line; a line that has a letter between two bars stays.
_BOX_LINE = re.compile("\n[ \t]*[\u2500-\u259f][\u2500-\u259f \t]*(?=\n)")
_BOX = re.compile("[\u2500-\u259f]")
# A literal first, so the search is a memchr; possessive, so that a long line is read once.
_RULES = re.compile(r"\n(-{3,}+|={3,}+|_{3,}+|\*{3,}+|~{3,}+|#{3,}+|\+{3,}+)(?:\n++\1(?=\n))++")
_CONTROL_BYTES = bytes({*range(32), 127} - {9, 10})
_UNCLEAN = re.compile(f"{_REMOVED.pattern[:-1]}{_SPACES.pattern[1:-1]}\r\u2028\u2029]")


def clean(text: str) -> str:
    """`text` repaired; cleaning twice is cleaning once.

    Lines keep their indentation (it is meaning in code and lists) and lose trailing blanks; at most
    one empty line stays between two others.
    """
    if text.isascii():
        return _tidied(_ascii(text))
    # Until nothing changes: what is removed may have stood inside a broken character, or between
    # two that only together look broken.
    for _ in range(MOST_PASSES):
        before, text = text, _tidied(_repaired(text))
        if text == before:
            break
    return text


def _tidied(text: str) -> str:
    """Without blanks at the ends of lines, lines that only draw, and more than one empty line."""
    if _trailing(text):
        text = _LINE_TAIL.sub("", text)
    text = _lines(text)
    return _BLANK_LINES.sub("\n\n", text) if "\n\n\n" in text else text


def _trailing(text: str) -> bool:
    return " \n" in text or "\t\n" in text or text.endswith((" ", "\t"))


def _lines(text: str) -> str:
    """Without white space around it, lines of box drawing and rules that repeat."""
    if not text.isascii() and _BOX.search(text):
        text = _BOX_LINE.sub("", f"\n{text}\n")
    return _RULES.sub(r"\n\1", f"\n{text.strip()}\n")[1:-1]


def _ascii(text: str) -> str:
    if "\r" in text:
        text = _LINE_ENDS.sub("\n", text)
    return text.encode("ascii").translate(None, _CONTROL_BYTES).decode("ascii")


def _repaired(text: str) -> str:
    if _SUSPICIOUS.search(text):
        text = ftfy.fix_encoding(text)
    if _UNCLEAN.search(text):
        text = _LINE_ENDS.sub("\n", text)
        if "\u00ad" in text:
            text = _SOFT_HYPHEN.sub("", text)
        text = _SPACES.sub(" ", _REMOVED.sub("", text))
    return unicodedata.normalize("NFC", text)
