"""A Model in memory -> a `.tflite` or `.onnx` file, its bytes a function of the weights alone.

Both take one input, int32 `ids` (B, T) padded with the model's padding id, and give logits (B, L).
"""

from pathlib import Path
from typing import Any, Literal

import torch

from pipelines.core.storage import scratch
from pipelines.engines.quiet import quiet
from pipelines.engines.torch_engine import TorchEngine

MASKED = -1e4  # finite: transformers' own -3.4e38 destroys the ranges of int8 activations

Precision = Literal["float32", "int8", "int8-dynamic"]
"""Of a `.tflite`: float32; 8-bit matrices computed in float32; 8-bit matrices computed in int8.

The second is exact on weights that lie on the int8 grid, and as fast as float32. The third is 3.5
times faster where the CPU has int8 dot products (VNNI, ARM) and 5-16 % slower where it has not.
"""


class IdsToLogits(torch.nn.Module):
    """A classifier as it is exported: int32 ids (B, T) in, float32 logits (B, L) out.

    The padding mask follows from the ids, because no text can hold the padding id. It is handed on
    with four dimensions, which transformers takes as it is; its own mask code converts badly.
    """

    def __init__(self, model: torch.nn.Module, pad_id: int) -> None:
        super().__init__()
        self.model = model
        self.pad_id = pad_id

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """The logits (B, L)."""
        rows, length = ids.shape
        mask_B11T = (ids == self.pad_id).to(torch.float32)[:, None, None, :] * MASKED
        logits_BL: torch.Tensor = self.model(
            input_ids=ids.long(),
            attention_mask=mask_B11T.expand(rows, 1, length, length),
            token_type_ids=torch.zeros_like(ids).long(),
        ).logits
        return logits_BL


def to_tflite(
    engine: TorchEngine, lengths: tuple[int, ...], precision: Precision, target: Path
) -> None:
    """Write the classifier of `engine` to `target` with a signature `s<length>` for each length."""
    with quiet(), scratch() as folder:
        plain = Path(folder) / "plain.tflite"
        _traced(engine, lengths).export(str(plain))
        if precision == "float32":
            target.write_bytes(plain.read_bytes())
        else:
            _quantised(plain, precision).export_model(str(target), overwrite=True)


def to_onnx(engine: TorchEngine, opset: int, target: Path) -> None:
    """Write the classifier of `engine` to `target`, weights inside, batch and length free."""
    free = torch.export.Dim.DYNAMIC
    with quiet():
        torch.onnx.export(
            IdsToLogits(engine.model, engine.pad_id).eval(),
            (torch.ones(2, 64, dtype=torch.int32),),
            str(target),
            input_names=["ids"],
            output_names=["logits"],
            dynamic_shapes=({0: free, 1: free},),
            opset_version=opset,
            external_data=False,
            dynamo=True,
        )


def _traced(engine: TorchEngine, lengths: tuple[int, ...]) -> Any:
    import litert_torch  # 6 s

    module = IdsToLogits(engine.model, engine.pad_id).eval()
    converter = litert_torch.Converter()
    for length in sorted(lengths):
        sample = {"ids": torch.ones(1, length, dtype=torch.int32)}
        converter = converter.signature(f"s{length}", module, sample_kwargs=sample)
    return converter.convert()


def _quantised(plain: Path, precision: Precision) -> Any:
    from ai_edge_quantizer import quantizer, recipe

    weights_only = precision == "int8"
    quantiser = quantizer.Quantizer(str(plain))
    quantiser.load_quantization_recipe(
        recipe.weight_only_wi8_afp32() if weights_only else recipe.dynamic_wi8_afp32()
    )
    return quantiser.quantize()
