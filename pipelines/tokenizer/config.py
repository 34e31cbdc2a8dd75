"""Settings of the tokenizer stage."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipelines.core.config import Input, StageConfig

SENTINEL = "<extra_id_{}>"  # T5's own names (Raffel et al. 2020), so that its tokenizers serve too

Kind = Literal["wordpiece", "bpe", "unigram"]


class TokenizerConfig(StageConfig):
    """Corpus -> Tokenizer: a vocabulary learnt from the corpus, in the transformers layout."""

    stage: ClassVar[str] = "tokenizer"
    version: ClassVar[int] = 2
    makes: ClassVar[str] = "Tokenizer"

    corpus: str = Input("Corpus", description="text the vocabulary is learnt from")
    kind: Kind = Field(
        default="wordpiece",
        description="WordPiece (BERT), byte-level BPE (GPT-2) or Unigram (SentencePiece)",
    )
    vocab_size: int = Field(default=8192, ge=300, description="entries, special tokens among them")
    lowercase: bool = Field(default=True, description="WordPiece only: fold case before splitting")
    min_frequency: int = Field(
        default=2, ge=1, description="WordPiece and BPE only: fewest occurrences of a merged pair"
    )
    sample_chars: int = Field(
        default=20_000_000,
        ge=1,
        description="characters of training text read: documents drawn by a hash of their text, so "
        "from all of the corpus",
    )
    max_length: int = Field(default=512, ge=8, description="model_max_length saved with it")
    sentinels: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="entries <extra_id_0> and so on, of vocab_size, that mark cut-out spans; "
        "task span-corruption needs one for each span of a row, about 0.05 a token",
    )

    @model_validator(mode="after")
    def _each_setting_has_an_effect(self) -> Self:
        if self.kind != "wordpiece" and "lowercase" in self.model_fields_set:
            raise ValueError(
                f"lowercase is a setting of wordpiece; {self.kind} keeps case: leave it out"
            )
        if self.kind == "unigram" and "min_frequency" in self.model_fields_set:
            raise ValueError("min_frequency counts pairs, and unigram merges none: leave it out")
        if self.vocab_size - self.sentinels < 300:
            raise ValueError(
                f"sentinels={self.sentinels} leave {self.vocab_size - self.sentinels} of "
                f"vocab_size={self.vocab_size} entries, expected 300 or more; raise vocab_size"
            )
        return self
