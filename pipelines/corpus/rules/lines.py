"""Rules that drop lines, and then perhaps the text: C4's and RefinedWeb's."""

import re
from collections.abc import Iterator
from itertools import chain

from pipelines.corpus.rules.measure import Failure
from pipelines.corpus.rules.words import sentences

# C4 (Raffel et al. 2020, section 2.2; c4_utils.py of TensorFlow Datasets), as FineWeb has it.
MIN_LINE_WORDS = 3
MAX_WORD_CHARS = 1000
MIN_SENTENCES = 5
POLICY = (
    *("terms of use", "privacy policy", "cookie policy"),
    *("uses cookies", "use of cookies", "use cookies"),
)
CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")

# RefinedWeb (Penedo et al. 2023, appendix G.2); figures and counters from DCLM's reading of it.
MAX_UPPERCASE, MAX_NUMERIC = 0.5, 0.999999  # of a line's characters
MIN_REFINED_WORDS = 2
MAX_NOTICE_WORDS = 10
MAX_REMOVED = 0.05  # of a text's words
COUNTER = re.compile(
    r"\W*\d[\d,.]*[kmb]?\s+(?:likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes"
    r"|downvotes|downloads|views|followers)\W*"
)
NOTICE = re.compile(r"^sign-in|items in cart|read more\.\.\.$", re.IGNORECASE)

_SUSPECT = (*POLICY, "javascript", "lorem ipsum", "{")


def c4(text: str) -> str | Failure:
    """A text without citations and unwanted lines, or why all of it is unwanted.

    FineWeb's reading (datatrove 0.10, c4_filters.py): a line need not end in a full stop. Lines are
    dropped with fewer than 3 words, a word of over 1000 characters, "javascript" or a policy
    phrase; texts with "lorem ipsum", "{" or fewer than 5 sentences in the lines left.

    """
    lines = list(map(str.strip, text.splitlines()))
    if _is_plain(text, lines):
        lines = [line for line in lines if len(line.split(None, 2)) >= MIN_LINE_WORDS]
    else:
        kept = []
        for line in map(_c4_line, lines):
            if isinstance(line, Failure):
                return line
            if line is not None:
                kept.append(line)
        lines = kept
    count = len(lines)  # every line is a sentence or more
    if count < MIN_SENTENCES:
        count = sum(sentences(line, MIN_SENTENCES) for line in lines)
    if count < MIN_SENTENCES:
        return Failure("c4", "sentences", count, MIN_SENTENCES)
    return "\n".join(lines).strip()


def _is_plain(text: str, lines: list[str]) -> bool:
    """Whether no line can have anything to cut out or to be dropped for but too few words."""
    lowered = text.lower()
    if CITATION.search(text) or any(phrase in lowered for phrase in _SUSPECT):
        return False
    long = (line for line in lines if len(line) > MAX_WORD_CHARS)
    return not any(len(word) > MAX_WORD_CHARS for line in long for word in line.split())


def _c4_line(line: str) -> str | Failure | None:
    """The line to keep, None for one to drop, or why the whole text is unwanted."""
    words = line.split()
    if len(words) < MIN_LINE_WORDS or max(map(len, words)) > MAX_WORD_CHARS:
        return None
    line = CITATION.sub("", line)
    lowered = line.lower()
    if "lorem ipsum" in lowered:
        return Failure("c4", "lorem_ipsum", 1, 0)
    if "javascript" in lowered:
        return None
    if "{" in line:
        return Failure("c4", "curly_brackets", 1, 0)
    return None if any(phrase in lowered for phrase in POLICY) else line


def refinedweb(text: str, words: list[str]) -> str | Failure:
    """A text without lines of menus, counters and notices, or why all of it is unwanted.

    Dropped are lines of mostly capitals, of digits only, counters ("3 likes") and single words; cut
    out of lines of at most 10 words is "sign-in" at the start, "read more..." at the end and
    "items in cart" anywhere. A text that loses over 5 % of its words is unwanted.

    Args:
        text: any.
        words: its words between white space.
    """
    edited = "\n".join(chain.from_iterable(map(_refined, text.split("\n")))).strip()
    if not words:
        return Failure("refinedweb", "words", 0, 1)
    removed = 0.0 if edited == text else 1 - len(edited.split()) / len(words)
    if removed > MAX_REMOVED:
        return Failure("refinedweb", "removed_words", round(removed, 4), MAX_REMOVED)
    return edited


def _refined(line: str) -> Iterator[str]:
    """The line without notices, if it is to be kept; blank lines are."""
    if not line.strip():
        yield line
        return
    few = line.split(None, MAX_NOTICE_WORDS)
    if len(few) <= MAX_NOTICE_WORDS:
        line = NOTICE.sub("", line.strip()) if NOTICE.search(line.strip()) else line
        few = line.split(None, MIN_REFINED_WORDS)
    if len(few) < MIN_REFINED_WORDS or COUNTER.fullmatch(line.lower()):
        return
    if sum(map(str.isupper, line)) <= MAX_UPPERCASE * len(line) and not _is_numeric(line):
        yield line


def _is_numeric(line: str) -> bool:
    return sum(map(str.isdigit, line)) > MAX_NUMERIC * len(line)
