"""A tokenizer -> the ids that tasks build rows with."""

from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from pipelines.core.errors import ConfigError


@dataclass(frozen=True)
class Special:
    """The ids a row is built with, and the ordinary ones a random token is drawn from."""

    pad: int
    cls: int
    sep: int
    mask: int
    ordinary: np.ndarray

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerFast) -> "Special":
        """Those of a tokenizer.

        Raises:
            ConfigError: it lacks one of them.
        """
        names = ("pad", "cls", "sep", "mask")
        ids = {name: getattr(tokenizer, f"{name}_token_id") for name in names}
        missing = [name for name in names if ids[name] is None]
        if missing:
            raise ConfigError(
                f"the tokenizer has no {missing[0]}_token; masked-lm and denoise need those of "
                f"{', '.join(names)}: make a tokenizer with the tokenizer stage"
            )
        ordinary = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
        return Special(**ids, ordinary=ordinary)


def pad_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """What rows are filled up with; 0 where a tokenizer names nothing, for no token sees it."""
    return 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)


def end_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """What ends a text: the eos token, or [SEP] where there is none.

    Raises:
        ConfigError: it has neither.
    """
    for found in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        if found is not None:
            return int(found)
    raise ConfigError(
        "the tokenizer has neither an eos token nor a sep token, so nothing ends a text; make one "
        "with the tokenizer stage"
    )
