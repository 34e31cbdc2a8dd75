"""A canary: no special token written out in a text reaches a shard, of any kind and packing."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pipelines.tokenizer.encode import end_of_text, open_backend
from pipelines.tokenizer.fast import Encoder, Library, open_encoder
from pipelines.tokens.encode import Encoded, Numbered, encode
from pipelines.tokens.pack import best_fit, concat, flat

NAMES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<|pad|>", "<|endoftext|>", "<|cls|>")
NAMES += ("<|sep|>", "<|mask|>", "<pad>", "<unk>", "<s>", "</s>", "<mask>")
FORGED = st.lists(
    st.one_of(st.sampled_from([*NAMES, " ", "\n", ". ", "狐"]), st.text(max_size=4)), max_size=12
).map("".join)


def packed(packing: str, texts: Numbered, encoder: Encoder, end: int) -> Encoded:
    match packing:
        case "document":
            return encode(texts, encoder, 16)
        case "concat":
            return concat(flat(texts, encoder, end), 16)
        case _:
            return best_fit(flat(texts, encoder, end), 16)


def specials(backend: Tokenizer) -> set[int]:
    """Ids of all special tokens but the unknown one, which stands for what is not known."""
    ids = {backend.token_to_id(name) for name in NAMES}
    return ids - {None, backend.token_to_id("[UNK]"), backend.token_to_id("<unk>")}


@pytest.mark.parametrize("packing", ["document", "concat", "best-fit"])
@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(FORGED, min_size=1, max_size=4))
def test_the_only_special_tokens_are_those_that_close_documents(
    packing: str, kind: str, texts: list[str], folders: dict[str, Path]
) -> None:
    backend, end = open_backend(folders[kind]), end_of_text(folders[kind])
    for encoder in (open_encoder(folders[kind]), Library(backend)):
        encoded = packed(packing, enumerate(texts), encoder, end)
        found = [token for token in encoded.tokens.tolist() if token in specials(backend)]
        closing = 0 if packing == "document" else encoded.counts["documents"]
        assert found == [end] * closing


def test_the_canary_would_die_of_the_library_as_it_comes(folders: dict[str, Path]) -> None:
    """The control: with its default settings every kind forges."""
    for kind in ("wordpiece", "bpe", "unigram"):
        backend = open_backend(folders[kind])
        backend.encode_special_tokens = False
        text = " ".join(NAMES)
        forged = specials(backend).intersection(backend.encode(text, add_special_tokens=False).ids)
        assert len(forged) >= 3
