"""Settings of the compress stage."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipelines.core.config import Config, Input, StageConfig
from pipelines.model.config import ModelConfig
from pipelines.train.config import Optimise


class Quantize(Config):
    """Weights of every matrix in 8 bits, a scale a row (symmetric, no calibration data)."""

    kind: Literal["quantize"] = "quantize"


class Distill(Config):
    """A smaller student learns the teacher's softened outputs (Hinton et al. 2015, section 2)."""

    kind: Literal["distill"] = "distill"
    student: ModelConfig = Field(description="the student's shape")
    temperature: float = Field(default=2.0, gt=0, description="T that softens both outputs")
    soft_share: float = Field(
        default=0.7, ge=0, le=1, description="weight of the teacher's loss beside the labels'"
    )
    optimise: Optimise = Field(description="how the student is learnt")

    @model_validator(mode="after")
    def _student_classifies(self) -> "Distill":
        if self.student.family != "encoder":
            raise ValueError(
                f"student.architecture={self.student.architecture} is of the family "
                f"{self.student.family}; a student classifies texts, which an encoder does"
            )
        return self


class CompressConfig(StageConfig):
    """Model -> Model: a smaller or cheaper one, measured before and after."""

    stage: ClassVar[str] = "compress"
    makes: ClassVar[str] = "Model"
    version: ClassVar[int] = 2

    model: str = Input("Model", description="the model to compress")
    method: Annotated[Quantize | Distill, Field(discriminator="kind")] = Field(description="how")
    data: str = Input("Corpus", description="text learnt from and judged on")
    split: str = Field(default="train", description="the split a student learns from")
    judge_split: str = Field(default="test", description="the split quality is measured on")
    judge_rows: int = Field(default=500, ge=1, description="rows of it used, the first by hash")

    def estimate(self) -> str:
        """Rows that a student learns from."""
        return self.method.optimise.work() if isinstance(self.method, Distill) else ""

    @model_validator(mode="after")
    def _no_idle_setting(self) -> "CompressConfig":
        if "split" in self.model_fields_set and isinstance(self.method, Quantize):
            raise ValueError("split has no effect on quantize, which learns from no text")
        return self
