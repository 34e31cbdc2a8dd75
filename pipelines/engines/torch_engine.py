"""A Model folder -> logits by PyTorch: the reference that every exported file is compared with."""

from pathlib import Path

import numpy as np
import torch

from pipelines.core.errors import ArtifactError
from pipelines.engines.predictor import BATCH, Floats, Ids, padded
from pipelines.model.checkpoint import load_model, read_facts


class TorchEngine:
    """Runs the classifier in a Model folder, in the precision of its weights.

    Raises:
        ArtifactError: the folder is broken or holds another kind of model.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self.model, task, _ = load_model(folder)
        if task["kind"] != "classify":
            raise ArtifactError(
                f"{folder}: is a {task['kind']} model, expected a classify one; fine-tune it first"
            )
        names: dict[int, str] = self.model.config.id2label
        self.labels = tuple(names[number] for number in sorted(names))
        self.max_length: int = read_facts(folder)["max_length"]
        self.pad_id: int = self.model.config.pad_token_id

    def logits(self, ids: Ids) -> Floats:
        """Logits (N, L) of N sequences, in batches of neighbours padded to the longest."""
        return np.concatenate(
            [self._forward(ids[at : at + BATCH]) for at in range(0, len(ids), BATCH)]
        )

    def _forward(self, ids: Ids) -> Floats:
        ids_BT, mask_BT = padded(ids, self.pad_id)
        with torch.inference_mode():
            found = self.model(
                input_ids=torch.from_numpy(ids_BT), attention_mask=torch.from_numpy(mask_BT)
            )
        logits: Floats = found.logits.float().numpy()
        return logits
