"""Settings of the corpus stage: which raw text, and what is done to it."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipelines.core.config import Config, StageConfig
from pipelines.corpus import sources as raw
from pipelines.corpus.rules.measure import RuleSet
from pipelines.corpus.sources import Files, Source
from pipelines.safety.pii import TYPES, PiiType


class NearDuplicates(Config):
    """MinHash LSH proposes pairs; the exact n-gram Jaccard of the texts decides."""

    ngram: int = Field(default=5, ge=1, description="words a shingle")
    bands: int = Field(default=16, ge=1, description="LSH bands")
    rows: int = Field(
        default=6,
        ge=1,
        description="hashes a band; 16 x 6 find a pair of Jaccard .8 with probability .992",
    )
    threshold: float = Field(default=0.8, gt=0, le=1, description="Jaccard at which one is removed")
    alarm: float | None = Field(
        default=0.5,
        gt=0,
        le=1,
        description="share of a source's documents that are near-duplicates at which the step "
        "stops, for templates look so; None never stops it",
    )


class Passages(Config):
    """Exact removal of paragraphs or lines that an earlier document has."""

    unit: Literal["paragraphs", "lines"] = Field(
        default="paragraphs", description="what is compared and dropped"
    )
    min_chars: int = Field(
        default=40, ge=1, description="characters of the shortest one that is dropped"
    )
    min_left: int = Field(
        default=200, ge=1, description="characters below which a document cut so is left out"
    )


def _read_once(files: tuple[Files, ...]) -> tuple[Files, ...]:
    """Files whose texts are compared with, of which no document is made."""
    for place, one in enumerate(files):
        if one.weight != 1 or one.label is not None:
            name = "weight" if one.weight != 1 else "label"
            raise ValueError(
                f"entry {place} has {name}={getattr(one, name)}, and no document is made of these "
                f"files; leave {name} out"
            )
    return files


Texts = Annotated[tuple[Files, ...], AfterValidator(_read_once)]


class Decontaminate(Config):
    """Documents that repeat items of evaluation sets are left out."""

    sets: Texts = Field(
        min_length=1,
        description="evaluation sets; name a question's and a passage's field in an entry each",
    )
    min_share: float = Field(
        default=0.5, gt=0, le=1, description="share of an item's letters and digits, in runs of 50"
    )


class Quality(Config):
    """A linear classifier of n-grams, learnt from examples, scores every text."""

    wanted: Texts = Field(min_length=1, description="texts like those to keep")
    unwanted: Texts = Field(min_length=1, description="texts like those to leave out")
    min_score: float = Field(
        default=0.5, ge=0, le=1, description="score below which one is left out"
    )


class CorpusConfig(StageConfig):
    """Raw files -> Corpus: read, clean, filter, deduplicate, mask, account for every document."""

    stage: ClassVar[str] = "corpus"
    makes: ClassVar[str] = "Corpus"
    version: ClassVar[int] = 3

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
    native_paragraphs: bool = Field(
        default=False, description="drop the paragraphs of a document in none of `languages`"
    )
    quality: Quality | None = Field(default=None, description="None scores nothing")
    decontaminate: Decontaminate | None = Field(
        default=None, description="None looks for no evaluation items"
    )
    exact_duplicates: bool = Field(default=True, description="keep one of equal texts")
    near_duplicates: NearDuplicates | None = Field(
        default=NearDuplicates(), description="None keeps near-duplicates"
    )
    passages: Passages | None = Field(
        default=None, description="paragraphs or lines dropped where an earlier document has them"
    )
    mask: tuple[PiiType, ...] = Field(
        default=TYPES, description="personal data replaced by its type"
    )
    holdout: float = Field(
        default=0.0, ge=0, lt=1, description="share of documents, by hash of the text, put in test"
    )
    shard_docs: int = Field(
        default=5000,
        ge=1,
        description="most raw documents a shard, but that a tenth of a compressed file is one",
    )
    shard_mb: int = Field(
        default=8, ge=1, description="MiB of raw files, unpacked, a shard is closed at"
    )

    @model_validator(mode="after")
    def _words_are_a_rule(self) -> Self:
        gopher = any(name.startswith("gopher") for name in self.rules)
        if not gopher and "min_words" in self.model_fields_set:
            raise ValueError("min_words is a setting of the Gopher sets, and rules names none")
        return self

    @model_validator(mode="after")
    def _native_to_something(self) -> Self:
        if self.native_paragraphs and not self.languages:
            raise ValueError("native_paragraphs needs languages, of which there are none")
        return self

    def raw_digests(self) -> dict[str, str]:
        """SHA-256 of every raw file, by name; behind what it is for, unless that is a source.

        Raises:
            DataError: a path matches nothing.
        """
        roles: dict[str, tuple[Files, ...]] = {}
        if self.quality:
            roles |= {"wanted": self.quality.wanted, "unwanted": self.quality.unwanted}
        if self.decontaminate:
            roles["evaluation"] = self.decontaminate.sets
        found = raw.digests(self.sources)
        for role, files in roles.items():
            found |= {f"{role}: {name}": digest for name, digest in raw.digests(files).items()}
        return found
