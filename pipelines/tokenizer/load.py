"""A Tokenizer, Model or Bundle folder -> its transformers tokenizer, and texts' ids through it."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

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
