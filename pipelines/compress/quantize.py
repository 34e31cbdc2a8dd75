"""A Model folder -> the same Model with every matrix on an int8 grid, one scale a row.

    scale = max |row| / 127        kept = round(row / scale) * scale

The symmetric per-channel scheme of Jacob et al. 2018 (section 3), without calibration data. The
weights stay float32 numbers in the plain transformers layout, so torch runs the very values that an
int8 file holds: the exporter finds the same scales again, and its 8 bits lose nothing more.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

from pipelines.core.config import Json
from pipelines.model.checkpoint import WEIGHTS, read_weights

LEVELS = 127  # -127..127: with -128 the grid would not be symmetric
REPORT = "quantization.json"
NOT_COPIED = ("artifact.json", "history.json", WEIGHTS, REPORT)  # they tell of the model as it was
Floats = npt.NDArray[np.float32]


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
            snapped, scales = snap(matrix)
            weights[name] = torch.from_numpy(snapped)
            matrices[name] = {"scales": len(scales), "max_error": _error(matrix, snapped)}
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
    save_file(weights, target / WEIGHTS, metadata={"format": "pt"})
    report: Json = {"bits": 8, "scheme": "symmetric, one scale a row", "matrices": matrices}
    (target / REPORT).write_text(json.dumps(report, indent=1, sort_keys=True), encoding="utf-8")
    return report


def snap(matrix: Floats) -> tuple[Floats, Floats]:
    """The nearest values (R, C) on each row's int8 grid, and the rows' scales (R,)."""
    largest_R = np.abs(matrix).max(axis=1)
    scales_R = np.where(largest_R > 0, largest_R / np.float32(LEVELS), np.float32(1))
    levels = np.clip(np.rint(matrix / scales_R[:, None]), -LEVELS, LEVELS)
    return levels * scales_R[:, None], scales_R


def _error(matrix: Floats, snapped: Floats) -> float:
    largest = float(np.abs(matrix).max())
    return round(float(np.abs(matrix - snapped).max()) / largest, 6) if largest else 0.0
