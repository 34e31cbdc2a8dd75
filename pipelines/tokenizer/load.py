"""A Tokenizer, Model or Bundle folder -> its transformers tokenizer, and texts' ids through it."""

from pathlib import Path

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipelines.tokenizer.config import SENTINEL
from pipelines.tokenizer.encode import open_backend, plain_ids


def open_tokenizer(folder: Path | str) -> PreTrainedTokenizerFast:
    """The tokenizer in a folder, set to encode special tokens' text as text.

    Raises:
        ArtifactError: the folder has no fast tokenizer.
    """
    open_backend(folder)  # transformers would take a missing one for a name on a hub
    return AutoTokenizer.from_pretrained(
        str(folder), split_special_tokens=True, local_files_only=True
    )


def encode_texts(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], max_length: int | None = None
) -> list[list[int]]:
    """The ids of each text, without special tokens, the first `max_length` of them.

    No text yields a special token's id but the unknown token's. May be called from several threads.
    """
    return plain_ids(tokenizer.backend_tokenizer, texts, max_length)


def sentinels(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """The ids of `<extra_id_0>`, `<extra_id_1>` and so on, as many as there are: int64 (S,)."""
    vocabulary = tokenizer.get_vocab()
    found: list[int] = []
    while (token := SENTINEL.format(len(found))) in vocabulary:
        found.append(vocabulary[token])
    return np.array(found, dtype=np.int64)
