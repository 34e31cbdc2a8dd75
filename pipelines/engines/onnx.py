"""The `.onnx` of a Bundle -> logits by ONNX Runtime; batch and length are free."""

from pathlib import Path

import numpy as np

from pipelines.core.errors import ArtifactError
from pipelines.engines.predictor import BATCH, Floats, Ids, padded, read_bundle

FILE = "model.onnx"


class OnnxEngine:
    """Runs the `.onnx` of a Bundle folder.

    Raises:
        ArtifactError: the file is missing or broken.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.pad_id = read_bundle(folder).pad_id
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder / FILE), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors share no other base class
            raise ArtifactError(
                f"{folder / FILE}: ONNX Runtime cannot open it: {error}; export it anew"
            ) from error

    def logits(self, ids: Ids) -> Floats:
        """Logits (N, L) of N sequences, in batches of neighbours padded to the longest."""
        return np.concatenate(
            [self._forward(ids[at : at + BATCH]) for at in range(0, len(ids), BATCH)]
        )

    def _forward(self, ids: Ids) -> Floats:
        ids_BT, _ = padded(ids, self.pad_id)
        (logits_BL,) = self._session.run(None, {"ids": ids_BT.astype(np.int32)})
        return np.asarray(logits_BL)
