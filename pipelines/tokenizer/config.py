"""Settings of the tokenizer stage."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipelines.core.config import Input, StageConfig


class TokenizerConfig(StageConfig):
    """Corpus -> Tokenizer: a vocabulary learnt from the corpus, in the transformers layout."""

    stage: ClassVar[str] = "tokenizer"
    makes: ClassVar[str] = "Tokenizer"

    corpus: str = Input("Corpus", description="text the vocabulary is learnt from")
    kind: Literal["wordpiece", "bpe"] = Field(
        default="wordpiece", description="WordPiece (BERT) or byte-level BPE (GPT-2)"
    )
    vocab_size: int = Field(default=8192, ge=300, description="entries, special tokens among them")
    lowercase: bool = Field(default=True, description="WordPiece only: fold case before splitting")
    min_frequency: int = Field(default=2, ge=1, description="fewest occurrences of a merged pair")
    sample_chars: int = Field(
        default=20_000_000, ge=1, description="characters of training text read, in corpus order"
    )
    max_length: int = Field(default=512, ge=8, description="model_max_length saved with it")

    @model_validator(mode="after")
    def _case_is_wordpieces(self) -> Self:
        if self.kind == "bpe" and "lowercase" in self.model_fields_set:
            raise ValueError(
                "lowercase is a setting of wordpiece; bpe keeps every byte: leave it out"
            )
        return self
