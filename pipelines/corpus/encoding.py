"""Bytes of unknown encoding -> text, or the reason why not.

The order is that of certainty: a byte order mark, valid UTF-8 (bytes of another encoding are all
but never valid UTF-8, RFC 3629 section 1), what the file or server declares, UTF-16 betrayed by its
zeros, and at last a guess from letter statistics. Nothing is ever replaced: what no encoding
decodes exactly is refused, but for a few bytes of a web page.
"""

import codecs
import re

from charset_normalizer import from_bytes
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

SAMPLE = 1 << 16  # bytes that a guess looks at
MISFITS = 0.01  # share of a page's characters that may be replaced
DECLARED = 1024  # bytes a charset must be declared within: HTML standard, 13.2.3.2
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_META = re.compile(
    rb"<(?:meta|\?xml)[^>]*?(?:charset|encoding)\s*=\s*[\"']?\s*([\w:.-]+)", re.IGNORECASE
)
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]")
# GB 18030 contains GBK and GB 2312, and Windows-31J contains what the web calls Shift JIS.
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "hz": "gb18030", "shift_jis": "cp932"}


def decoded(data: bytes, declared: str | None = None) -> str:
    """The text of `data`; `declared` is the encoding that a header or the file itself names.

    Raises:
        ValueError: binary data, or an encoding that cannot be told.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            return _exact(data, name)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return _other(data, declared, error)
    if "\0" in text:
        return _zeros(data)
    return text


def page_text(data: bytes, declared: str | None = None) -> str:
    """The text of a web page; a few bytes that do not fit are replaced, as browsers do.

    Raises:
        ValueError: binary data, or more than one byte in a hundred fits no encoding.
    """
    try:
        return decoded(data, declared)
    except ValueError:
        text = data.decode("utf-8", "replace")
        if b"\0" in data or text.count("\ufffd") > MISFITS * len(text):
            raise
        return text


def lines_encoding(head: bytes) -> str:
    """The encoding of a file that begins with the lines of `head`: one for all its rows.

    A short row alone says too little. Only rows that are not ASCII speak; where half of them are
    UTF-8 the file is, and the others are damaged. UTF-8 too where nothing fits.
    """
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    telling = [line for line in head.split(b"\n") if not line.isascii()]
    others = [line for line in telling if not _is_utf8(line)]
    if 2 * len(others) <= len(telling):
        return "utf-8"
    sample = b"\n".join(others)[:SAMPLE].rpartition(b"\n")[0] or others[0]
    names = (_codec(name) for name in _guesses(sample) if _plausible(sample, name) is not None)
    return next(filter(None, names), "utf-8")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def declared_charset(data: bytes) -> str | None:
    """The charset that the first kilobyte of an HTML or XML file declares."""
    found = _META.search(data[:DECLARED])
    return found[1].decode("ascii") if found else None


def _other(data: bytes, declared: str | None, error: UnicodeDecodeError) -> str:
    if b"\0" in data:
        return _zeros(data)
    for name in (declared, *_guesses(data)):
        if name and (text := _plausible(data, name)) is not None:
            return text
    raise ValueError(f"not UTF-8 nor any known encoding: {error.reason} at byte {error.start}")


def _guesses(data: bytes) -> list[str]:
    """Encodings by letter statistics, the likeliest first; Windows-1252 fits what is left."""
    sample = data[:SAMPLE]
    found = detect_encoding(sample, html5_compatible=False)
    best = from_bytes(sample, cp_exclusion=["utf_7"]).best() if len(sample) < SAMPLE else None
    return [name for name in (found, best.encoding if best else None, "cp1252") if name]


def _plausible(data: bytes, name: str) -> str | None:
    """The text in an encoding, unless that does not decode it or yields control characters."""
    try:
        codec = _codec(name)
        if codec is None:
            return None
        text = _exact(data, codec)
    except (ValueError, LookupError):
        return None
    return None if _CONTROLS.search(text) else text


def _codec(name: str) -> str | None:
    """What an encoding of this name is read with; None for one that was ruled out before.

    As browsers do: a page that says ISO-8859-1 is in Windows-1252.
    """
    name = name.lower()
    if name.replace("-", "").replace("_", "") in ("utf8", "utf7", "ascii", "usascii"):
        return None
    web: str = map_encoding_to_html5(name, False) or name
    return _WIDER.get(web.lower(), web)


def _zeros(data: bytes) -> str:
    """UTF-16 without its mark, in which Latin text has a zero in every other byte."""
    even, odd = data[:SAMPLE:2].count(0), data[1:SAMPLE:2].count(0)
    half = max(1, min(len(data), SAMPLE) // 2)
    for name, many, few in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if many > 0.4 * half and few < 0.05 * half and (text := _plausible(data, name)) is not None:
            return text
    raise ValueError("binary: it has NUL bytes")


def _exact(data: bytes, name: str) -> str:
    try:
        text = data.decode(name)
    except UnicodeDecodeError as error:
        raise ValueError(f"not {name}: {error.reason} at byte {error.start}") from error
    if not isinstance(text, str):
        raise LookupError(name)  # a codec of Python's that makes no text, such as zlib
    return text
