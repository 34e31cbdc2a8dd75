"""Settings of each task; the tasks themselves are one file each beside this one.

`reads` is the kind of artifact a task learns from, `family` the kind of model.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipelines.core.config import Config

Reads = Literal["Tokens", "Corpus"]
Family = Literal["encoder", "decoder", "encoder-decoder"]
Pair = Literal["none", "next-sentence", "sentence-order"]


class MaskedLM(Config):
    """Masked language modelling, with or without a sentence pair (Devlin et al. 2019, 3.1)."""

    reads: ClassVar[Reads] = "Tokens"
    family: ClassVar[Family] = "encoder"

    kind: Literal["masked-lm"] = "masked-lm"
    mask_share: float = Field(default=0.15, gt=0, lt=1, description="share of tokens predicted")
    pair: Pair = Field(
        default="next-sentence",
        description="next-sentence: also predict whether B follows A (Devlin et al. 2019, section "
        "3.1); sentence-order: whether A and B are in order (Lan et al. 2020, section 3.1); none: "
        "one text a row, for models without such a head, and for packed rows",
    )


class CausalLM(Config):
    """The next token of the same document, from those before it; rows may be packed."""

    reads: ClassVar[Reads] = "Tokens"
    family: ClassVar[Family] = "decoder"

    kind: Literal["causal-lm"] = "causal-lm"


class SpanCorruption(Config):
    """Spans replaced by sentinels, and written out after them (Raffel et al. 2020, 3.1.4)."""

    reads: ClassVar[Reads] = "Tokens"
    family: ClassVar[Family] = "encoder-decoder"

    kind: Literal["span-corruption"] = "span-corruption"
    noise_share: float = Field(default=0.15, gt=0, lt=1, description="share of tokens cut out")
    mean_span: float = Field(default=3.0, ge=1, description="mean tokens of a span")


class Denoise(Config):
    """A text restored from infilled spans and shuffled sentences (Lewis et al. 2020, 2.2)."""

    reads: ClassVar[Reads] = "Tokens"
    family: ClassVar[Family] = "encoder-decoder"

    kind: Literal["denoise"] = "denoise"
    mask_share: float = Field(default=0.3, gt=0, lt=1, description="share of tokens masked")
    mean_span: float = Field(
        default=3.0, gt=0, description="mean tokens of a span (Poisson), replaced by one mask"
    )
    permute_sentences: bool = Field(default=True, description="shuffle a row's sentences")


class Classify(Config):
    """One label a text, by a linear head on the pooled [CLS] vector."""

    reads: ClassVar[Reads] = "Corpus"
    family: ClassVar[Family] = "encoder"

    kind: Literal["classify"] = "classify"
    max_length: int = Field(default=128, ge=8, description="tokens kept of a text, specials too")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="while it is learnt")


TaskConfig = Annotated[
    MaskedLM | CausalLM | SpanCorruption | Denoise | Classify, Field(discriminator="kind")
]
