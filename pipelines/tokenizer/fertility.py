"""How finely a tokenizer cuts each language: tokens a word, characters a token, unknown tokens.

Fertility is tokens a word (Rust et al. 2021, arXiv:2012.15613, section 4.1): 1 is a tokenizer that
knows every word. A word is a run without white space, but a Han character is a word by itself,
because Chinese text has no spaces.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.tokenizer.fast import Encoder
from pipelines.tokenizer.sample import Sampled

HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
WORD = re.compile(rf"[{HAN}]|[^\s{HAN}]+")
TEXTS = 1000  # of each language: the mean of so many moves by a percent from draw to draw


@dataclass
class Fertility:
    """What was counted of one language's texts."""

    texts: int = 0
    characters: int = 0
    words: int = 0
    tokens: int = 0
    unknown: int = 0

    @property
    def facts(self) -> dict[str, float]:
        """The counts that matter and the ratios, for a report."""
        return {
            "texts": self.texts,
            "characters": self.characters,
            "tokens_per_word": self.tokens / max(self.words, 1),
            "characters_per_token": self.characters / max(self.tokens, 1),
            "unknown_share": self.unknown / max(self.tokens, 1),
        }


def fertility(
    encoder: Encoder, unknown: int | None, sample: Sequence[Sampled]
) -> dict[str, Fertility]:
    """The counts of each language, by name, of its first `TEXTS` texts; `all` of them together.

    Args:
        encoder: of the tokenizer as it was saved.
        unknown: the id of its unknown token.
        sample: texts and their languages.
    """
    found: dict[str, Fertility] = {"all": Fertility()}
    for text, language in sample:
        counted = found.setdefault(language, Fertility())
        if counted.texts == TEXTS:
            continue
        ids = encoder.ids([text])[0]
        for one in (counted, found["all"]):
            one.texts += 1
            one.characters += len(text)
            one.words += len(WORD.findall(text))
            one.tokens += len(ids)
            one.unknown += int((ids == unknown).sum()) if unknown is not None else 0
    return dict(sorted(found.items()))
