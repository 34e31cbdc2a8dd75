"""Text without white space -> its words and marks, as spaCy's blank English model cuts it.

datatrove, and so FineWeb, counts these as words: `"Don't,"` is `"`, `Do`, `n't`, `,`, `"`. The
rules are those of spaCy 3.8 (tokenizer.pyx; lang/punctuation.py, char_classes.py and en/, MIT
licence, Explosion AI): take prefixes and suffixes off until an exception or nothing is left to
take, keep addresses whole, cut the rest at infixes, then join what an exception holds together
(`:` `)`).
Not followed: spaCy looks for such exceptions across a space too, and then changes nothing.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache

from pipelines.corpus.rules.exceptions import exceptions

Pieces = tuple[str, ...]

MAX_CHUNK = 1000  # characters; a longer one is cut first, or hostile text costs its square

_CASED = """
41-5a 61-7a c0-d6 d8-f6 f8-1bf 1c4-2af 386 388-38a 38c 38e-38f 391-3a9 3ac-3af 3b1-3c9 3cc-3ce
400-401 403-40a 40c-40d 410-451 453-45a 45c-45d 490-491 496-497 4a2-4a3 4ae-4af 4ba-4bb 4d8-4d9
4e8-4e9 1d00-1d25 1d6b-1d77 1d79-1d9a 1e00-1eff 2c60-2c7b 2c7e-2c7f a722-a76f a771-a787 a78b-a78e
a790-a7b9 a7fa ab30-ab5a ab60-ab64 ff21-ff3a ff41-ff5a
"""
_UNCASED = """
591-5f4 620-64a 66e-6d5 6e5-6ff 750-77f 8a0-8bd 900-9ff b80-cff d80-dff 1100-137f 2e80-2fdf
2ff0-30ff 31c0-31ef 3200-4dbf 4e00-9fff ac00-d7af f900-faff fb1d-fbb1 fbd3-fd3d fd50-fdc7 fdf0-fdfb
fe30-fe4f fe70-fefc 1ee00-1eebb 1f200-1f2ff 20000-2a6df 2a700-2ebef 2f800-2fa1f
"""
_ICONS = """
a6 a9 ae b0 482 58d-58e 60e-60f 6de 6e9 6fd-6fe 7f6 9fa b70 bf3-bf8 bfa c7f d4f d79 f01-f03 f13
f15-f17 f1a-f1f f34 f36 f38 fbe-fc5 fc7-fcc fce-fcf fd5-fd8 109e-109f 1390-1399 1940 19de-19ff
1b61-1b6a 1b74-1b7c 2100-2101 2103-2106 2108-2109 2114 2116-2117 211e-2123 2125 2127 2129 212e
213a-213b 214a 214c-214d 214f 218a-218b 2195-2199 219c-219f 21a1-21a2 21a4-21a5 21a7-21ad 21af-21cd
21d0-21d1 21d3 21d5-21f3 2300-2307 230c-231f 2322-2328 232b-237b 237d-239a 23b4-23db 23e2-2426
2440-244a 249c-24e9 2500-25b6 25b8-25c0 25c2-25f7 2600-266e 2670-2767 2794-27bf 2800-28ff 2b00-2b2f
2b45-2b46 2b4d-2b73 2b76-2b95 2b98-2bc8 2bca-2bfe 2ce5-2cea 2e80-2e99 2e9b-2ef3 2f00-2fd5 2ff0-2ffb
3004 3012-3013 3020 3036-3037 303e-303f 3190-3191 3196-319f 31c0-31e3 3200-321e 322a-3247 3250
3260-327f 328a-32b0 32c0-32fe 3300-33ff 4dc0-4dff a490-a4c6 a828-a82b a836-a837 a839 aa77-aa79 fdfd
ffe4 ffe8 ffed-ffee fffc-fffd 10137-1013f 10179-10189 1018c-1018e 10190-1019b 101a0 101d0-101fc
10877-10878 10ac8 1173f 16b3c-16b3f 16b45 1bc9c 1d000-1d0f5 1d100-1d126 1d129-1d164 1d16a-1d16c
1d183-1d184 1d18c-1d1a9 1d1ae-1d1e8 1d200-1d241 1d245 1d300-1d356 1d800-1d9ff 1da37-1da3a
1da6d-1da74 1da76-1da83 1da85-1da86 1ecac 1f000-1f02b 1f030-1f093 1f0a0-1f0ae 1f0b1-1f0bf
1f0c1-1f0cf 1f0d1-1f0f5 1f110-1f16b 1f170-1f1ac 1f1e6-1f202 1f210-1f23b 1f240-1f248 1f250-1f251
1f260-1f265 1f300-1f3fa 1f400-1f6d4 1f6e0-1f6ec 1f6f0-1f6f9 1f700-1f773 1f780-1f7d8 1f800-1f80b
1f810-1f847 1f850-1f859 1f860-1f887 1f890-1f8ad 1f900-1f90b 1f910-1f93e 1f940-1f970 1f973-1f976
1f97a 1f97c-1f9a2 1f9b0-1f9b9 1f9c0-1f9c2 1f9d0-1f9ff 1fa60-1fa6d
"""


def _chars(ranges: str) -> Iterator[str]:
    for ends in ranges.split():
        first, _, last = ends.partition("-")
        yield from map(chr, range(int(first, 16), int(last or first, 16) + 1))


def _escaped(ranges: str) -> str:
    """The inside of a character class, every end as an escape of eight digits."""
    return "".join(re.sub(r"[0-9a-f]+", _code, ends) for ends in ranges.split())


def _code(digits: re.Match[str]) -> str:
    return f"\\U{digits[0]:0>8}"


_OTHER = _escaped(_UNCASED)
_LOWER = "".join(char for char in _chars(_CASED) if char.islower() or char == "ʔ") + _OTHER
_UPPER = "".join(char for char in _chars(_CASED) if char.isupper()) + _OTHER
_ALPHA = _escaped(_CASED) + _OTHER
_QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉〈〉⟦⟧"
_MARKS = r"…,:;\!\?¿؟¡\(\)\[\]\{\}<>_#\*&。？！，、；：～·।،۔؛٪"
_DIALS = r"€£¥฿₽﷼\$" + "".join(map(chr, range(0x20A0, 0x20C0)))
_UNITS = """
km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h
kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см см² см³ мм
мм² мм³ нм кг г мг м/с км/ч кПа Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ тбكم كم² كم³ م م² م³ سم سم²
سم³ مم مم² مم³ كم غرام جرام جم كغ ملغ كوب اكواب
"""
_PREFIX = re.compile(
    rf"[§%=—–{_MARKS}{_QUOTES}{_DIALS}{_escaped(_ICONS)}]|\.\.+|(?:US|C|A)\$|\+(?![0-9])"
)
_SUFFIX = re.compile(
    rf"(?:[—–{_MARKS}{_QUOTES}{_escaped(_ICONS)}]|……|\.\.+|['’][sS]"
    rf"|(?<=[0-9])(?:\+|[{_DIALS}]|(?:US|C|A)\$|{'|'.join(_UNITS.split())})"
    rf"|(?<=[0-9{_LOWER}%²\-\+{_MARKS}|(?:){_QUOTES}])\."
    rf"|(?<=°[FfCcKk])\.|(?<=[{_UPPER}][{_UPPER}])\.)$"
)
_LONGEST_SUFFIX = max(map(len, _UNITS.split()))
_DIGITS = tuple("0123456789")
_INFIX = re.compile(
    rf"\.\.+|[…{_escaped(_ICONS)}]"
    r"|(?<=[0-9])[+\-\*^](?=[0-9-])"
    rf"|(?<=[{_LOWER}{_QUOTES}])\.(?=[{_UPPER}{_QUOTES}])"
    rf"|(?<=[{_ALPHA}]),(?=[{_ALPHA}])"
    rf"|(?<=[{_ALPHA}0-9])(?:---?|——|[-–—~])(?=[{_ALPHA}])"
    rf"|(?<=[{_ALPHA}0-9])[:<>=/](?=[{_ALPHA}])"
)
_MAYBE_INFIX = re.compile(r"[^A-Za-z0-9'_()]")
_HOST = (
    r"(?:"
    r"(?!(?:10|127)(?:\.\d{1,3}){3})"
    r"(?!(?:169\.254|192\.168)(?:\.\d{1,3}){2})"
    r"(?!172\.(?:1[6-9]|2\d|3[0-1])(?:\.\d{1,3}){2})"
    r"(?:[1-9]\d?|1\d\d|2[01]\d|22[0-3])"
    r"(?:\.(?:1?\d{1,2}|2[0-4]\d|25[0-5])){2}"
    r"(?:\.(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-4]))"
    r"|"
    r"(?:(?:[A-Za-z0-9\u00a1-\uffff][A-Za-z0-9\u00a1-\uffff_-]{0,62})?[A-Za-z0-9\u00a1-\uffff]\.)+"
    rf"(?:[{_LOWER}]{{2,63}})"
    r")"
    r"(?::\d{2,5})?"
    r"(?:[/?#]\S*)?"
    r"$"
)
_PROTOCOL = r"(?:[\w\+\-\.]{2,}://)?"
_ADDRESS = re.compile(_PROTOCOL + _HOST)
_USER_ADDRESS = re.compile(_PROTOCOL + r"(?:\S+(?::\S*)?@)?" + _HOST)
_EXCEPTIONS = exceptions()


def pieces(chunk: str) -> Pieces:
    """The words and marks of text without white space, in order; together they are the text."""
    if len(chunk) > MAX_CHUNK:
        parts = (chunk[at : at + MAX_CHUNK] for at in range(0, len(chunk), MAX_CHUNK))
        return tuple(piece for part in parts for piece in pieces(part))
    if chunk in _EXCEPTIONS:
        return _joined(_EXCEPTIONS[chunk])
    if chunk.isalpha():
        return (chunk,)
    return _joined(tuple(_cut(chunk, _EXCEPTIONS)))


def _cut(chunk: str, known: dict[str, Pieces]) -> list[str]:
    """Prefixes, what is left (an exception, an address, or split at infixes), suffixes."""
    before: list[str] = []
    after: list[str] = []
    while chunk and chunk not in known and not chunk.isalpha():
        begin = _prefix(chunk)
        if begin and chunk[begin:] in known:
            before.append(chunk[:begin])
            chunk = chunk[begin:]
            break
        end = _suffix(chunk[begin:])
        if end and chunk[:-end] in known:
            after.append(chunk[-end:])
            chunk = chunk[:-end]
            break
        if not begin and not end:
            break
        if begin:
            before.append(chunk[:begin])
        if end and (begin + end <= len(chunk) or not begin):
            after.append(chunk[-end:])
            chunk = chunk[begin:-end]
        else:
            chunk = chunk[begin:]
    return [*before, *_middle(chunk, known), *reversed(after)]


def _prefix(chunk: str) -> int:
    found = _PREFIX.match(chunk)
    return found.end() if found else 0


def _suffix(chunk: str) -> int:
    """Length of the longest suffix; only the end is searched, or a long word costs its square."""
    if chunk[-1:] in _DIGITS:
        return 0
    if chunk.endswith(".."):
        return len(chunk) - len(chunk.rstrip("."))
    found = _SUFFIX.search(chunk, max(0, len(chunk) - _LONGEST_SUFFIX))
    return len(chunk) - found.start() if found else 0


def _middle(chunk: str, known: dict[str, Pieces]) -> Iterable[str]:
    if chunk in known:
        return known[chunk]
    if chunk.isalpha():
        return [chunk]
    if not chunk or _is_address(chunk):
        return [chunk] if chunk else []
    return _between(chunk) if _MAYBE_INFIX.search(chunk) else [chunk]


def _is_address(chunk: str) -> bool:
    if "." not in chunk:
        return False
    return (_USER_ADDRESS if "@" in chunk else _ADDRESS).match(chunk) is not None


def _between(chunk: str) -> list[str]:
    parts: list[str] = []
    start = 0
    for infix in _INFIX.finditer(chunk):
        if infix.start() == 0:
            continue
        if infix.start() != start:
            parts.append(chunk[start : infix.start()])
        parts.append(infix[0])
        start = infix.end()
    if start < len(chunk):
        parts.append(chunk[start:])
    return parts


@cache
def _sequences() -> tuple[dict[Pieces, Pieces], int, set[str]]:
    """What the rules make of the exceptions they cut -> its pieces; most parts; first parts."""
    affixed = (
        word for word in _EXCEPTIONS if _prefix(word) or _suffix(word) or _INFIX.search(word)
    )
    found = {tuple(_cut(word, {})): _EXCEPTIONS[word] for word in affixed}
    return found, max(map(len, found)), {parts[0] for parts in found}


def _joined(parts: Pieces) -> Pieces:
    """The parts, with sequences that make an exception replaced by it; the longest first."""
    known, longest, firsts = _sequences()
    if len(parts) == 1 or firsts.isdisjoint(parts):
        return parts
    spans = [
        (size, start)
        for size in range(min(longest, len(parts)), 0, -1)
        for start in range(len(parts) - size + 1)
        if parts[start : start + size] in known
    ]
    taken: set[int] = set()
    chosen: dict[int, int] = {}
    for size, start in spans:
        if start not in taken and start + size - 1 not in taken:
            chosen[start] = size
        taken.update(range(start, start + size))
    if not chosen:
        return parts
    made: list[str] = []
    at = 0
    while at < len(parts):
        size = chosen.get(at, 0)
        made.extend(known[parts[at : at + size]] if size else [parts[at]])
        at += size or 1
    return tuple(made)
