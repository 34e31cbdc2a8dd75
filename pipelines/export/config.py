"""Settings of the export stage."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipelines.core.config import Config, Input, StageConfig


class LiteRT(Config):
    """TensorFlow Lite (`.tflite`), run by LiteRT on phones and servers."""

    kind: Literal["tflite"] = "tflite"
    int8: bool = Field(default=True, description="matrices in 8 bits, a scale a row: 1/4 the size")
    compute: Literal["float32", "int8"] = Field(
        default="float32",
        description="arithmetic; int8 is faster only where the CPU has 8-bit dot products "
        "(VNNI, ARM), and inexact",
    )
    lengths: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        default=(32, 64, 128),
        description="token counts with a signature each, below the most the model reads, which "
        "always has one: a short text runs in less time, the file grows by each",
    )
    tolerance: float = Field(
        default=0.25, gt=0, description="largest logit difference from torch on the probe texts"
    )

    @model_validator(mode="after")
    def _int8_computes_int8(self) -> "LiteRT":
        if self.compute == "int8" and not self.int8:
            raise ValueError("compute=int8 needs int8=true: its matrices are in 8 bits")
        return self


class Onnx(Config):
    """ONNX, run by ONNX Runtime; batch and length are dynamic."""

    kind: Literal["onnx"] = "onnx"
    opset: int = Field(default=20, ge=18, description="operator set")
    tolerance: float = Field(
        default=1e-4, gt=0, description="largest logit difference from torch on the probe texts"
    )


class ExportConfig(StageConfig):
    """Model -> Bundle: one deployable file with its tokenizer, proven equal or refused."""

    stage: ClassVar[str] = "export"
    makes: ClassVar[str] = "Bundle"
    version: ClassVar[int] = 2

    model: str = Input("Model", description="the model to export")
    format: Annotated[LiteRT | Onnx, Field(discriminator="kind")] = Field(description="to what")
    probe: str = Input("Corpus", description="real texts the proof runs on")
    probe_rows: int = Field(default=64, ge=1, description="how many, the first by hash")
