"""Settings of each task; the tasks themselves are one file each beside this one."""

from typing import Annotated, Literal

from pydantic import Field

from pipelines.core.config import Config


class MaskedLM(Config):
    """Masked language modelling with next-sentence prediction (Devlin et al. 2019, section 3.1)."""

    kind: Literal["masked-lm"] = "masked-lm"
    mask_share: float = Field(default=0.15, gt=0, lt=1, description="share of tokens predicted")
    next_sentence: bool = Field(default=True, description="also predict whether B follows A")


class Classify(Config):
    """One label a text, by a linear head on the pooled [CLS] vector."""

    kind: Literal["classify"] = "classify"
    max_length: int = Field(default=128, ge=8, description="tokens kept of a text, specials too")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="while it is learnt")


TaskConfig = Annotated[MaskedLM | Classify, Field(discriminator="kind")]
