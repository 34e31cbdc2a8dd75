"""Named model sizes and their shapes; building them is `model/build.py`."""

from typing import Literal

from pydantic import Field, model_validator

from pipelines.core.config import Config


class ModelConfig(Config):
    """The shape of a BERT encoder built from scratch (Devlin et al. 2019, section 3)."""

    architecture: Literal["bert"] = "bert"
    layers: int = Field(ge=1, description="transformer blocks")
    width: int = Field(ge=8, description="hidden size D")
    heads: int = Field(ge=1, description="attention heads H; D must divide by it")
    feedforward: int = Field(ge=8, description="inner width of the MLP")
    max_length: int = Field(default=512, ge=8, description="position embeddings")
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="in pretraining 0 is faster and as good; a classify task brings its own",
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ModelConfig":
        if self.width % self.heads:
            raise ValueError(f"width={self.width} must divide by heads={self.heads}")
        return self


NANO = ModelConfig(layers=2, width=128, heads=2, feedforward=512)
"""1.5 M parameters with 8k entries: seconds on a CPU (BERT-tiny's shape, Turc et al. 2019)."""

MINI = ModelConfig(layers=4, width=256, heads=4, feedforward=1024)
"""BERT-mini's shape, Turc et al. 2019."""
