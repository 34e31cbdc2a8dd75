"""A Tokenizer folder -> a fast tokenizer; texts -> token ids that no text can forge.

A document may hold the literal text `[SEP]` or `<|endoftext|>`. By default the `tokenizers` library
turns that into the real special token, even with `add_special_tokens=False`: a forged boundary
between documents. Everything in Rayline that encodes a text does it through `encode_texts`, where
such text is ordinary text.
"""

from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipelines.core.errors import ArtifactError


def open_tokenizer(folder: Path | str) -> PreTrainedTokenizerFast:
    """The tokenizer in a Tokenizer, Model or Bundle folder, set to encode special text as text.

    Raises:
        ArtifactError: the folder has no fast tokenizer.
    """
    if not (Path(folder) / "tokenizer.json").is_file():
        raise ArtifactError(
            f"{folder}: no tokenizer.json, so there is no fast tokenizer here; expected the folder "
            "of a Tokenizer, Model or Bundle"
        )
    tokenizer = AutoTokenizer.from_pretrained(
        str(folder), split_special_tokens=True, local_files_only=True
    )
    _plain(tokenizer.backend_tokenizer)
    return tokenizer


def encode_texts(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], max_length: int | None = None
) -> list[list[int]]:
    """The ids of each text, without special tokens, the first `max_length` of them.

    No text yields a special token's id but the unknown token's. May be called from several threads.
    """
    encodings = _plain(tokenizer.backend_tokenizer).encode_batch_fast(
        texts, add_special_tokens=False
    )
    return [encoding.ids[:max_length] for encoding in encodings]


def _plain(backend: Tokenizer) -> Tokenizer:
    """`backend` with truncation and padding off and special text split like any other.

    Calling the transformers tokenizer may have set them otherwise. They are written only when
    wrong, because a write while another thread encodes is an error.
    """
    if not backend.encode_special_tokens:
        backend.encode_special_tokens = True
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    return backend
