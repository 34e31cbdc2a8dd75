"""The FineWeb rules: shapes of lines that set apart text from lists and menus.

Source: Penedo et al. 2024 (arXiv 2406.17557), the filters of their own; thresholds of datatrove
0.10 (fineweb_quality_filter.py).
"""

from collections.abc import Iterator

from pipelines.corpus.rules.marks import TERMINAL
from pipelines.corpus.rules.measure import Measure, duplicates
from pipelines.corpus.rules.words import Words

MIN_TERMINATED_LINES = 0.12
SHORT_LINE, MAX_SHORT_LINES = 30, 0.67
MAX_DUPLICATE_LINE_CHARS = 0.01
MAX_NEWLINES = 0.3  # a word


def fineweb(text: str, words: Words) -> Iterator[Measure]:
    """The measures of `fineweb`, cheap ones first.

    Args:
        text: any.
        words: of the text; cut only where a bound does not do.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    yield "lines", len(lines), 1, float("inf")
    terminated = sum(line[-1] in TERMINAL for line in lines) / len(lines)
    yield "terminated_lines", terminated, MIN_TERMINATED_LINES, 1
    short = sum(len(line) <= SHORT_LINE for line in lines) / len(lines)
    yield "short_lines", short, 0, MAX_SHORT_LINES
    newlines = text.count("\n")
    repeated = duplicates(lines)[1] / (len(text) - newlines)
    yield "duplicate_line_chars", repeated, 0, MAX_DUPLICATE_LINE_CHARS
    bound = newlines / words.least
    yield "newlines", bound if bound <= MAX_NEWLINES else newlines / words.count, 0, MAX_NEWLINES
