"""Settings of the export stage."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipelines.core.config import Config, Input, StageConfig


class LiteRT(Config):
    """TensorFlow Lite (`.tflite`), run by LiteRT on phones and servers."""

    kind: Literal["tflite"] = "tflite"
    int8: bool = Field(default=True, description="dynamic-range 8-bit weights and activations")
    lengths: tuple[int, ...] = Field(
        default=(32, 64, 128), min_length=1, description="token counts with a signature each"
    )
    tolerance: float = Field(
        default=0.25, gt=0, description="largest logit difference from torch on the probe texts"
    )


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

    model: str = Input("Model", description="the model to export")
    format: Annotated[LiteRT | Onnx, Field(discriminator="kind")] = Field(description="to what")
    probe: str = Input("Corpus", description="real texts the proof runs on")
    probe_rows: int = Field(default=64, ge=1, description="how many, the first by hash")
