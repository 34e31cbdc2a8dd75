"""Settings of the corpus stage: which raw text, and what is done to it."""

from typing import ClassVar, Self

from pydantic import Field, model_validator

from pipelines.core.config import Config, StageConfig
from pipelines.corpus import sources as raw
from pipelines.corpus.rules.sets import RuleSet
from pipelines.corpus.sources import Source
from pipelines.safety.pii import PiiType


class NearDuplicates(Config):
    """MinHash LSH proposes pairs; the exact n-gram Jaccard of the texts decides."""

    ngram: int = Field(default=5, ge=1, description="words a shingle")
    bands: int = Field(default=14, ge=1, description="LSH bands")
    rows: int = Field(default=8, ge=1, description="hashes a band")
    threshold: float = Field(default=0.8, gt=0, le=1, description="Jaccard at which one is removed")


class CorpusConfig(StageConfig):
    """Raw files -> Corpus: read, clean, filter, deduplicate, mask, account for every document."""

    stage: ClassVar[str] = "corpus"
    makes: ClassVar[str] = "Corpus"

    sources: tuple[Source, ...] = Field(min_length=1, description="where the raw text comes from")
    rules: tuple[RuleSet, ...] = Field(
        default=("gopher@paper",),
        description="quality rule sets, in order; c4 and refinedweb also drop lines; empty: none",
    )
    min_words: int = Field(
        default=50, ge=1, description="fewest words a document in the Gopher sets, whose own is 50"
    )
    languages: tuple[str, ...] = Field(
        default=("en",), description="ISO 639-1 codes kept; empty keeps all"
    )
    min_language_score: float = Field(
        default=0.65, ge=0, le=1, description="confidence below which the language is unknown"
    )
    exact_duplicates: bool = Field(default=True, description="keep one of equal texts")
    near_duplicates: NearDuplicates | None = Field(
        default=NearDuplicates(), description="None keeps near-duplicates"
    )
    mask: tuple[PiiType, ...] = Field(
        default=("email", "phone", "ip", "card"), description="personal data replaced by its type"
    )
    holdout: float = Field(
        default=0.0, ge=0, lt=1, description="share of documents, by hash of the text, put in test"
    )
    shard_docs: int = Field(default=5000, ge=1, description="raw documents a shard")

    @model_validator(mode="after")
    def _words_are_a_rule(self) -> Self:
        gopher = any(name.startswith("gopher") for name in self.rules)
        if not gopher and "min_words" in self.model_fields_set:
            raise ValueError("min_words is a setting of the Gopher sets, and rules names none")
        return self

    def raw_digests(self) -> dict[str, str]:
        """SHA-256 of every raw file, by name.

        Raises:
            DataError: a path matches nothing.
        """
        return raw.digests(self.sources)
