"""A text -> its sentences, in English, Chinese and anything punctuated like them.

The pieces put together are the text again: white space stays at the head of the sentence it leads,
where byte-level BPE wants it.
"""

import re

# Full stops that end no sentence: after one letter (J. Smith, e.g., U.S.) and after titles.
_WHOLE = r"(?<!\b[A-Za-z]\.)(?<!\b[MD]r\.)(?<!\bMs\.)(?<!\bSt\.)(?<!\bvs\.)(?<!\bMrs\.)"
# Only the first stop of a run is tried: a line of n dots would else cost n * n.
_LATIN = rf"(?<=[.!?])(?<![.!?].){_WHOLE}[.!?]*+[\"'”’)\]]*+(?=\s)"
_CHINESE = r"(?<=[。！？])[。！？]*[\"”’」』）)\]]*"
# One character class in front lets `re` skip to candidates: 20 million characters a second, not 2.
_END = re.compile(rf"[.!?。！？\n](?:(?<=\n)\s*|{_CHINESE}|{_LATIN})")


def sentences(text: str) -> list[str]:
    """The sentences of `text`, which end at closing punctuation or the end of a line."""
    pieces, start = [], 0
    for match in _END.finditer(text):
        end = match.end()
        if match[0].startswith("\n"):  # the white space before and after it leads the next one
            end = start + len(text[start : match.start()].rstrip())
        if start < end:
            pieces.append(text[start:end])
            start = end
    return [*pieces, text[start:]] if start < len(text) else pieces
