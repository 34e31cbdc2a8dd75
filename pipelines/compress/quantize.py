"""A Model folder -> the same Model with every matrix on an int8 grid, one scale a row.

    scale = max |row| / 127        kept = round(row / scale) * scale

The symmetric per-channel scheme of Jacob et al. 2018 (section 3), without calibration data. The
weights stay float32 numbers in the plain transformers layout, so torch runs the very values that an
int8 file holds: the exporter finds the same scales again, and its 8 bits lose nothing more.

A matrix that reads a layer norm is rounded with the norm's gain in its columns, because converters
multiply it in (x * gain) W = x (gain W). Rounded without, it would be rounded once more on export:
logits of a trained model then differed by up to 0.07.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

from pipelines.core.config import Json
from pipelines.model.checkpoint import read_weights
from pipelines.model.layout import WEIGHTS

LEVELS = 127  # -127..127: with -128 the grid would not be symmetric
REPORT = "quantization.json"
NOT_COPIED = ("artifact.json", "history.json", WEIGHTS, REPORT)  # they tell of the model as it was
Floats = npt.NDArray[np.float32]
_AFTER_NORM = re.compile(
    r"(.*)encoder\.layer\.(\d+)\."
    r"(?:(intermediate)\.dense|attention\.self\.(?:query|key|value))\.weight"
)


def quantize(source: Path, target: Path) -> Json:
    """Write the quantised copy of the Model folder `source` to `target`.

    Returns:
        What it also writes to `quantization.json`: the scheme, the number of scales and the largest
        error of each matrix, as a share of the matrix's largest weight.

    Raises:
        ArtifactError: the weights are missing or pickled.
    """
    weights = read_weights(source)
    matrices: Json = {}
    for name, weight in weights.items():
        if weight.ndim == 2:
            matrix = weight.float().numpy()
            gain_C = gain(name, weights)
            snapped, scales = snap(matrix, gain_C)
            weights[name] = torch.from_numpy(snapped)
            matrices[name] = {"scales": len(scales), "max_error": _error(matrix, snapped, gain_C)}
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
    save_file(weights, target / WEIGHTS, metadata={"format": "pt"})
    report: Json = {"bits": 8, "scheme": "symmetric, one scale a row", "matrices": matrices}
    (target / REPORT).write_text(json.dumps(report, indent=1, sort_keys=True), encoding="utf-8")
    return report


def snap(matrix: Floats, gain_C: Floats) -> tuple[Floats, Floats]:
    """The nearest values (R, C) whose products with the gain (C,) lie on each row's int8 grid.

    Also the rows' scales (R,). A column whose gain is 0 stays as it is.
    """
    folded = matrix * gain_C
    largest_R = np.abs(folded).max(axis=1)
    scales_R = np.where(largest_R > 0, largest_R / np.float32(LEVELS), np.float32(1))
    levels = np.clip(np.rint(folded / scales_R[:, None]), -LEVELS, LEVELS)
    snapped = np.divide(levels * scales_R[:, None], gain_C, out=matrix.copy(), where=gain_C != 0)
    return snapped, scales_R


def gain(name: str, weights: Mapping[str, torch.Tensor]) -> Floats:
    """The gain (C,) of the layer norm that a BERT matrix reads; ones if it reads none directly."""
    found = _AFTER_NORM.fullmatch(name)
    if not found:
        return np.ones(weights[name].shape[1], np.float32)
    encoder, layer, reader = found.groups()
    if reader == "intermediate":
        norm = f"{encoder}encoder.layer.{layer}.attention.output"
    elif int(layer):
        norm = f"{encoder}encoder.layer.{int(layer) - 1}.output"
    else:
        norm = f"{encoder}embeddings"
    return weights[f"{norm}.LayerNorm.weight"].float().numpy()


def _error(matrix: Floats, snapped: Floats, gain_C: Floats) -> float:
    """The largest change of a product with the gain, as a share of the largest product."""
    largest = float(np.abs(matrix * gain_C).max())
    change = float(np.abs((matrix - snapped) * gain_C).max())
    return round(change / largest, 6) if largest else 0.0
