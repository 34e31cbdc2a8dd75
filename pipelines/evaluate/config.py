"""Settings of the evaluate stage."""

from typing import ClassVar

from pydantic import Field, model_validator

from pipelines.core.config import Config, Input, StageConfig


class TfidfLinear(Config):
    """The floor: TF-IDF of word 1-2-grams and a linear SVM, learnt on the same labelled rows."""

    split: str = Field(default="train", description="the corpus split learnt from")
    max_rows: int | None = Field(default=None, ge=1, description="as in the train step it faces")


class EvaluateConfig(StageConfig):
    """Model | Bundle + Corpus | Tokens -> Report.

    A classifier on labelled text: accuracy, precision, recall, F1, intervals, confusion. A language
    model on held-out Tokens: loss with its interval, perplexity, and a decoder's bits per byte.
    """

    stage: ClassVar[str] = "evaluate"
    makes: ClassVar[str] = "Report"
    version: ClassVar[int] = 3

    model: str | None = Input("Model", "Bundle", default=None, description="what is judged")
    baseline: TfidfLinear | None = Field(default=None, description="judged in a model's place")
    data: str = Input(
        "Corpus",
        "Tokens",
        description="what it is judged on: labelled text, or for a language model Tokens of a "
        "split that it did not learn from",
    )
    split: str = Field(default="test", description="the corpus split judged on; not of Tokens")
    max_rows: int | None = Field(
        default=None,
        ge=1,
        description="rows used: the first by hash, of Tokens the first in order by seed 0",
    )
    resamples: int = Field(default=1000, ge=1, description="bootstrap resamples a 95 % interval")
    seed: int = Field(default=0, ge=0, description="of the bootstrap")

    @model_validator(mode="after")
    def _one_subject(self) -> "EvaluateConfig":
        if (self.model is None) == (self.baseline is None):
            raise ValueError("set either model or baseline")
        return self
