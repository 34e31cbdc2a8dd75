"""A shape of a model built from scratch: by its numbers, or by a name of `model/sizes.py`."""

from typing import Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pipelines.core.config import Config, nearest
from pipelines.model.sizes import SIZES

Architecture = Literal["bert", "modernbert", "llama", "qwen3", "t5", "bart"]
Family = Literal["encoder", "decoder", "encoder-decoder"]

FAMILIES: dict[Architecture, Family] = {
    "bert": "encoder",
    "modernbert": "encoder",
    "llama": "decoder",
    "qwen3": "decoder",
    "t5": "encoder-decoder",
    "bart": "encoder-decoder",
}
# Settings that only some architectures have; set elsewhere, they are an error.
_ONLY: dict[str, tuple[Architecture, ...]] = {
    "kv_heads": ("llama", "qwen3"),
    "head_width": ("qwen3", "t5"),
    "tied": ("llama", "qwen3"),
}
_ROTARY: tuple[Architecture, ...] = ("modernbert", "llama", "qwen3")


class ModelConfig(Config):
    """A transformer's shape; a string is a named size, such as `bert-mini` or `llama-7b`.

    An encoder-decoder has `layers` in each of its halves.
    """

    architecture: Architecture = Field(
        default="bert",
        description="bert and modernbert are encoders, llama and qwen3 decoders, t5 and bart "
        "encoder-decoders",
    )
    layers: int = Field(ge=1, description="transformer blocks")
    width: int = Field(ge=8, description="hidden size D")
    heads: int = Field(ge=1, description="attention heads H; D must divide by it")
    feedforward: int = Field(ge=8, description="inner width of the MLP")
    max_length: int = Field(
        default=512, ge=8, description="most tokens a row; bert and bart learn a position for each"
    )
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="in pretraining 0 is faster and as good; a classify task brings its own; "
        "llama and qwen3 have it in attention alone",
    )
    kv_heads: int | None = Field(
        default=None,
        ge=1,
        description="llama and qwen3: keys' and values' heads, each shared by heads/kv_heads "
        "queries; None has one for each head",
    )
    head_width: int | None = Field(
        default=None, ge=2, description="qwen3 and t5: width of one head; None takes width/heads"
    )
    tied: bool | None = Field(
        default=None,
        description="llama and qwen3: the head shares the embeddings' table; None is true, as "
        "usual below 5 billion parameters; the other architectures always share it",
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        if given not in SIZES:
            raise ValueError(f"no model has this name; {nearest(given, list(SIZES))}")
        return SIZES[given]

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """A name or the shape's own numbers, so that `rayline schema` lists the names."""
        shape = handler.resolve_ref_schema(handler(core))
        return {"title": shape.get("title"), "anyOf": [{"type": "string", "enum": [*SIZES]}, shape]}

    @model_validator(mode="after")
    def _no_idle_setting(self) -> "ModelConfig":
        for name, architectures in _ONLY.items():
            if getattr(self, name) is not None and self.architecture not in architectures:
                raise ValueError(
                    f"{name} has no effect on {self.architecture}; it is a setting of "
                    f"{' and '.join(architectures)}: leave it out"
                )
        return self

    @model_validator(mode="after")
    def _heads_fit(self) -> "ModelConfig":
        if self.head_width is None and self.width % self.heads:
            raise ValueError(f"width={self.width} must divide by heads={self.heads}")
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(f"heads={self.heads} must divide by kv_heads={self.kv_heads}")
        if self.architecture in _ROTARY and self.width_of_head % 2:
            raise ValueError(
                f"heads are {self.width_of_head} wide, and {self.architecture} turns pairs of "
                "their entries; give an even width/heads"
            )
        return self

    @property
    def family(self) -> Family:
        """What it reads and writes: `encoder`, `decoder` or `encoder-decoder`."""
        return FAMILIES[self.architecture]

    @property
    def width_of_head(self) -> int:
        """Entries of one head's query."""
        return self.head_width or self.width // self.heads

    @property
    def shares_table(self) -> bool:
        """Whether the head over the vocabulary is the embeddings' table."""
        return self.tied is not False


NANO = ModelConfig(layers=2, width=128, heads=2, feedforward=512)
"""1.5 M parameters with 8k entries: seconds on a CPU (BERT-tiny's shape, Turc et al. 2019)."""

MINI = ModelConfig(layers=4, width=256, heads=4, feedforward=1024)
"""BERT-mini's shape, Turc et al. 2019."""
