"""Settings of the tokens stage."""

from typing import ClassVar

from pydantic import Field

from pipelines.core.config import Input, StageConfig


class TokensConfig(StageConfig):
    """Corpus + Tokenizer -> Tokens: encoded, packed at sentence ends, memory-mapped shards."""

    stage: ClassVar[str] = "tokens"
    makes: ClassVar[str] = "Tokens"

    corpus: str = Input("Corpus", description="text to encode")
    tokenizer: str = Input("Tokenizer", description="how it is encoded")
    length: int = Field(default=128, ge=8, description="most tokens a row, specials among them")
    split: str = Field(default="train", description="the corpus split encoded; empty means all")
