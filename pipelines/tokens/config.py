"""Settings of the tokens stage."""

from typing import ClassVar, Literal

from pydantic import Field

from pipelines.core.config import Input, StageConfig

Packing = Literal["document", "concat", "best-fit"]


class TokensConfig(StageConfig):
    """Corpus + Tokenizer -> Tokens: encoded and packed into rows, memory-mapped shards."""

    stage: ClassVar[str] = "tokens"
    version: ClassVar[int] = 2
    makes: ClassVar[str] = "Tokens"

    corpus: str = Input("Corpus", description="text to encode")
    tokenizer: str = Input("Tokenizer", description="how it is encoded")
    length: int = Field(
        default=128,
        ge=8,
        description="most tokens a row; packing=document keeps three free for [CLS] A [SEP] B "
        "[SEP], the others fill it, a document's end token among them",
    )
    packing: Packing = Field(
        default="document",
        description="document: rows of whole sentences of one document, for masked-lm; concat: "
        "documents end to end, cut at `length`; best-fit: documents cut only where longer than a "
        "row and fitted together, so that least of them is cut (both for causal training; no row's "
        "attention crosses documents, their boundaries are kept)",
    )
    split: str = Field(default="train", description="the corpus split encoded; empty means all")
    megatron: bool = Field(
        default=False,
        description="write each shard a second time as Megatron's .bin and .idx, which doubles "
        "the bytes",
    )
