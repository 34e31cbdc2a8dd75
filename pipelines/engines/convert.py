"""A Model in memory -> a `.tflite` or `.onnx` file, its bytes a function of the weights alone.

Both take one input, int32 `ids` (B, T) padded with the model's padding id, and give logits (B, L).
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from pipelines.engines.quiet import quiet
from pipelines.engines.torch_engine import TorchEngine

MASKED = -1e4  # finite: transformers' own -3.4e38 destroys the ranges of int8 activations


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


def to_tflite(engine: TorchEngine, lengths: Sequence[int], target: Path) -> None:
    """Write the classifier of `engine` to `target`, a signature `s<length>` for each length."""
    with quiet():
        import litert_torch  # 6 s

        module = IdsToLogits(engine.model, engine.pad_id).eval()
        converter = litert_torch.Converter()
        for length in sorted(lengths):
            sample = {"ids": torch.ones(1, length, dtype=torch.int32)}
            converter = converter.signature(f"s{length}", module, sample_kwargs=sample)
        converter.convert().export(str(target))


def to_int8(source: Path, target: Path, *, compute: bool = False) -> None:
    """Write the float32 `.tflite` at `source` to `target` with its matrices in 8 bits.

    Args:
        source: as `to_tflite` wrote it.
        target: exact if the weights lie on the int8 grid (`compress/quantize.py`).
        compute: also compute in int8, with a scale for each activation row. BERT-base ran 3.5 times
            faster so on a CPU with 8-bit dot products (VNNI); without them, small ones ran 5-16 %
            slower, while 8-bit matrices that are computed in float32 cost no time at all.
    """
    with quiet():
        from ai_edge_quantizer import quantizer, recipe

        chosen = recipe.dynamic_wi8_afp32 if compute else recipe.weight_only_wi8_afp32
        quantiser = quantizer.Quantizer(str(source))
        quantiser.load_quantization_recipe(chosen())
        quantiser.quantize().export_model(str(target), overwrite=True)


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
