"""A folder's `tokenizer.json` -> texts' ids that no text can forge, without loading transformers.

A document may hold the literal text `[SEP]` or `<|endoftext|>`. By default the `tokenizers` library
turns that into the real special token, even with `add_special_tokens=False`: a forged boundary
between documents. Everything in Rayline that encodes a text ends in `plain_ids`, where such text is
ordinary text.

Importing transformers imports torch and costs 4 s of CPU a process; tasks that only encode need
neither.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer

from pipelines.core.errors import ArtifactError

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"


def open_backend(folder: Path | str) -> Tokenizer:
    """The `tokenizers` tokenizer of a Tokenizer, Model or Bundle folder.

    Raises:
        ArtifactError: the folder has no tokenizer.json.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise ArtifactError(
            f"{folder}: no {FILE}, so there is no fast tokenizer here; expected the folder of a "
            "Tokenizer, Model or Bundle"
        )
    return _plain(Tokenizer.from_file(str(path)))


def boundaries(folder: Path | str) -> tuple[int, int]:
    """The ids that begin and end a text, [CLS] and [SEP] in BERT, as `tokenizer_config.json` says.

    Raises:
        ArtifactError: the folder does not name them.
    """
    path, backend = Path(folder) / CONFIG, open_backend(folder)
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
        first, last = (backend.token_to_id(names[key]) for key in ("cls_token", "sep_token"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: does not name cls_token and sep_token: {error!r}") from None
    if first is None or last is None:
        raise ArtifactError(f"{path}: its cls_token or sep_token is not in {FILE}")
    return first, last


def end_of_text(folder: Path | str) -> int:
    """The id that ends a document among others: the eos token, or [SEP] where there is none.

    Raises:
        ArtifactError: the folder names neither.
    """
    path, backend = Path(folder) / CONFIG, open_backend(folder)
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
        found = backend.token_to_id(names.get("eos_token") or names["sep_token"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: names neither eos_token nor sep_token: {error!r}") from None
    if found is None:
        raise ArtifactError(f"{path}: its eos_token or sep_token is not in {FILE}")
    return int(found)


def plain_ids(
    backend: Tokenizer, texts: list[str], max_length: int | None = None
) -> list[list[int]]:
    """The ids of each text, without special tokens, the first `max_length` of them.

    No text yields a special token's id but the unknown token's. May be called from several threads.
    """
    encodings = _plain(backend).encode_batch_fast(texts, add_special_tokens=False)
    return [encoding.ids[:max_length] for encoding in encodings]


def _plain(backend: Tokenizer) -> Tokenizer:
    """`backend` with truncation and padding off and special text split like any other.

    A call of the transformers tokenizer around it may have set them otherwise. They are written
    only when wrong, because a write while another thread encodes is an error.
    """
    if not backend.encode_special_tokens:
        backend.encode_special_tokens = True
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    return backend
