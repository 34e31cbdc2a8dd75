"""Settings of the infer stage."""

from typing import ClassVar

from pydantic import Field, model_validator

from pipelines.core.config import Input, Location, StageConfig
from pipelines.corpus import sources as raw
from pipelines.corpus.sources import Files


class InferConfig(StageConfig):
    """Model | Bundle + Corpus or files -> Predictions: in input order, each row exactly once."""

    stage: ClassVar[str] = "infer"
    makes: ClassVar[str] = "Predictions"

    model: str = Input("Model", "Bundle", description="what predicts")
    data: str | None = Input("Corpus", default=None, description="a Corpus to predict on")
    files: tuple[str, ...] = Location(default=(), description="or raw JSON lines, Parquet or text")
    text: str = Field(default="text", description="field of the files that holds the text")
    split: str = Field(default="", description="the corpus split predicted on; empty means all")
    shard_rows: int = Field(default=1000, ge=1, description="rows a shard, the unit of resume")

    @model_validator(mode="after")
    def _one_source(self) -> "InferConfig":
        if (self.data is None) == (not self.files):
            raise ValueError("set either data (a Corpus) or files")
        if self.data and self.text != "text":
            raise ValueError(f"text={self.text} has no effect on a Corpus; it is for files")
        if self.files and self.split:
            raise ValueError(f"split={self.split} has no effect on files; it is for a Corpus")
        return self

    def raw_digests(self) -> dict[str, str]:
        """SHA-256 of every raw file, by name."""
        return raw.digests((Files(paths=self.files),)) if self.files else {}
