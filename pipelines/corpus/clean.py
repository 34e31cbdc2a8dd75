"""Text -> the same text, repaired: encoding, Unicode form, control characters, white space.

Pure and cheap: ASCII text, most of an English corpus, skips every Unicode step.
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
_CONTROLS_ASCII = re.compile("[\x00-\x08\x0b-\x1f\x7f]")


def clean(text: str) -> str:
    """`text` repaired; cleaning twice is cleaning once.

    Lines keep their indentation (it is meaning in code and lists) and lose trailing blanks; at most
    one empty line stays between two others.
    """
    text = _ascii(text) if text.isascii() else _unicode(text)
    text = _LINE_TAIL.sub("", text)
    return _BLANK_LINES.sub("\n\n", text).strip()


def _ascii(text: str) -> str:
    return _CONTROLS_ASCII.sub("", _LINE_ENDS.sub("\n", text))


def _unicode(text: str) -> str:
    """Repaired until nothing changes: what is removed may have stood inside a broken character."""
    for _ in range(MOST_PASSES):
        before, text = text, _repaired(text)
        if text == before:
            break
    return text


def _repaired(text: str) -> str:
    if _SUSPICIOUS.search(text):
        text = ftfy.fix_encoding(text)
    text = _REMOVED.sub("", _LINE_ENDS.sub("\n", text))
    return unicodedata.normalize("NFC", _SPACES.sub(" ", text))
