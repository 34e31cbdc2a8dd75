"""The `.tflite` of a Bundle -> logits by LiteRT, on a server as on a phone.

Shapes in a `.tflite` are fixed, so the file has one signature a length (`s32`, `s64`, ...), all on
the same weights; a text runs at the first length that holds it. One text at a time: on CPUs batches
only lower the rate (30.5 texts/s at batch 1, 25.0 at 32; BERT-base, one core).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipelines.core.errors import ArtifactError
from pipelines.engines.predictor import Floats, Ids, read_bundle
from pipelines.engines.quiet import quiet

FILE = "model.tflite"


class LiteRTEngine:
    """Runs the `.tflite` of a Bundle folder.

    Raises:
        ArtifactError: the file is missing or broken.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.pad_id = read_bundle(folder).pad_id
        try:
            with quiet():  # XNNPACK announces itself at the first call, past Python
                self._interpreter = Interpreter(str(folder / FILE), num_threads=threads)
                self._runners = self._open()
                for length in self._runners:  # plans each signature's memory, so that no text waits
                    self._one([self.pad_id] * length)
        except (ValueError, RuntimeError, OSError) as error:
            raise ArtifactError(
                f"{folder / FILE}: LiteRT cannot open it: {error}; export it anew"
            ) from error

    def logits(self, ids: Ids) -> Floats:
        """Logits (N, L) of N sequences, one after the other."""
        return np.concatenate([self._one(row) for row in ids])

    def _open(self) -> dict[int, Callable[..., dict[str, Floats]]]:
        lengths = sorted(int(name[1:]) for name in self._interpreter.get_signature_list())
        return {length: self._interpreter.get_signature_runner(f"s{length}") for length in lengths}

    def _one(self, row: Sequence[int]) -> Floats:
        length = next((length for length in self._runners if length >= len(row)), None)
        if length is None:
            raise ValueError(f"{len(row)} tokens, the longest signature holds {max(self._runners)}")
        ids_1T = np.full((1, length), self.pad_id, dtype=np.int32)
        ids_1T[0, : len(row)] = row
        (logits_1L,) = self._runners[length](ids=ids_1T).values()
        return logits_1L
