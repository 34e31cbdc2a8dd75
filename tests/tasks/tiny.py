"""Tokens of given documents, and tiny models of every family with dropout off."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from pipelines.tokens import pack, shards
from pipelines.tokens.encode import Encoded
from pipelines.tokens.shards import Tokens

# Ids below 10 are special.
VOCABULARY = 64
PAD, CLS, SEP, MASK, END = 0, 2, 3, 4, 5

Documents = Sequence[Sequence[int]]
MakeTokens = Callable[..., Tokens]

_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "pad_token_id": PAD,
    # Wide enough that a wrong mask shows in the loss.
    "initializer_range": 0.3,
}
_SEQ2SEQ = {"vocab_size": VOCABULARY, "d_model": 16, "pad_token_id": PAD, "eos_token_id": SEP}


def write_tokens(
    folder: Path, documents: Documents, packing: str = "concat", length: int = 16
) -> Tokens:
    """Rows of packing `concat` or `best-fit`; each document gets its end token."""
    ids = [np.array([*document, END], np.uint16) for document in documents]
    starts = np.cumsum([0, *map(len, ids)])
    flat = pack.Flat(np.concatenate(ids), starts, np.arange(len(ids)))
    encoded = {"concat": pack.concat, "best-fit": pack.best_fit}[packing](flat, length)
    return _written(folder, encoded, packing, length, END)


def write_rows(
    folder: Path, rows: Sequence[tuple[int, Sequence[Sequence[int]]]], length: int = 32
) -> Tokens:
    """Rows of packing `document`: each its document's number and its sentences."""
    tokens: list[int] = []
    records, starts = [], []
    for document, sentences in rows:
        records.append((len(tokens), len(starts), document))
        starts += np.cumsum([0, *map(len, sentences[:-1])]).tolist()
        tokens += [one for sentence in sentences for one in sentence]
    records.append((len(tokens), len(starts), -1))
    encoded = Encoded(np.array(tokens, np.uint32), np.array(records), np.array(starts, np.uint32))
    return _written(folder, encoded, "document", length, None)


def _written(folder: Path, encoded: Encoded, packing: str, length: int, end: int | None) -> Tokens:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in shards.files(0, encoded, VOCABULARY).items():
        (folder / name).write_bytes(data)
    facts = {"length": length, "vocab_size": VOCABULARY, "tokenizer": "0" * 64}
    index = shards.index([encoded.counts], packing=packing, end=end, **facts)
    (folder / shards.INDEX).write_bytes(index)
    return Tokens(folder)


def model(kind: str, attention: str = "sdpa") -> Any:
    """A tiny random model in evaluation mode."""
    torch.manual_seed(0)
    llama = _SHAPE | {"num_key_value_heads": 1}
    made: dict[str, Callable[[], Any]] = {
        "bert": lambda: transformers.BertForPreTraining(transformers.BertConfig(**_SHAPE)),
        "modernbert": lambda: transformers.ModernBertForMaskedLM(
            transformers.ModernBertConfig(
                **_SHAPE | {"num_hidden_layers": 2},
                local_attention=6,
                global_attn_every_n_layers=2,
                cls_token_id=CLS,
                sep_token_id=SEP,
                bos_token_id=CLS,
                eos_token_id=SEP,
            )
        ),
        "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**llama)),
        "qwen3": lambda: transformers.Qwen3ForCausalLM(
            transformers.Qwen3Config(**llama, head_dim=8)
        ),
        "t5": lambda: transformers.T5ForConditionalGeneration(
            transformers.T5Config(
                **_SEQ2SEQ, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=PAD
            )
        ),
        "bart": lambda: transformers.BartForConditionalGeneration(
            transformers.BartConfig(
                **_SEQ2SEQ,
                encoder_layers=1,
                decoder_layers=1,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=32,
                decoder_ffn_dim=32,
                max_position_embeddings=64,
                decoder_start_token_id=SEP,
                init_std=0.3,
                forced_eos_token_id=None,
            )
        ),
    }
    found = made[kind]().eval()
    found.set_attn_implementation(attention)
    return found


@contextmanager
def embedded(found: Any) -> Iterator[list[torch.Tensor]]:
    """The token embeddings (B, T, D) of the forward passes inside, which keep their gradients."""
    seen: list[torch.Tensor] = []

    def keep(module: Any, given: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        seen.append(output)

    hook = found.get_input_embeddings().register_forward_hook(keep)
    yield seen
    hook.remove()
