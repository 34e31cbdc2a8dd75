"""Weights, optimizer moments and history to a checkpoint and back.

A checkpoint is a folder of the step's workspace whose manifest, written last, has the SHA-256 of
its files. What is torn or altered does not verify and is passed over for the one before. Order,
masks and dropout follow from the step number alone, so there is no other state to keep.
"""

import hashlib
import json
import logging
from dataclasses import dataclass, field

import torch
from safetensors.torch import load, save

from pipelines.core.artifact import Workspace
from pipelines.core.config import Json
from pipelines.core.errors import ArtifactError

log = logging.getLogger(__name__)

FOLDER = ".checkpoints"
TENSORS, FACTS, MANIFEST = "state.safetensors", "state.json", "manifest.json"
KEPT = 2
_MOMENTS = ("exp_avg", "exp_avg_sq")
_UNREADABLE = (ArtifactError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Checkpoint:
    """A run after `step` optimizer steps."""

    step: int = 0
    tokens: int = 0
    history: list[Json] = field(default_factory=list)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)


def capture(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Every tensor that the next step depends on, on the CPU."""
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[f"weight/{name}"] = parameter.detach()
        for moment in _MOMENTS:
            tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment]
    return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}


def restore(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint
) -> None:
    """Put a checkpoint's tensors into a model and its optimizer.

    Raises:
        ArtifactError: the checkpoint is of another model.
    """
    tensors = checkpoint.tensors
    for name, parameter in model.named_parameters():
        weight = tensors.get(f"weight/{name}")
        if weight is None or weight.shape != parameter.shape:
            raise ArtifactError(
                f"checkpoint of step {checkpoint.step}: {name} is missing or of another shape; "
                f"it was made by other code: remove {FOLDER} in the step's work folder"
            )
        with torch.no_grad():
            parameter.copy_(weight)
        optimizer.state[parameter] = {
            "step": torch.tensor(float(checkpoint.step), device=parameter.device),
            **{moment: tensors[f"{moment}/{name}"].to(parameter.device) for moment in _MOMENTS},
        }


def write(out: Workspace, checkpoint: Checkpoint) -> None:
    """Commit a checkpoint and drop all but the newest `KEPT`."""
    facts = {
        "step": checkpoint.step,
        "tokens": checkpoint.tokens,
        "history": checkpoint.history,
    }
    files = {TENSORS: save(checkpoint.tensors), FACTS: json.dumps(facts).encode()}
    folder = _folder(checkpoint.step)
    out.delete(folder)  # a torn one of an earlier try, if any
    for name, data in files.items():
        out.write(f"{folder}/{name}", data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    out.write(f"{folder}/{MANIFEST}", json.dumps(hashes).encode())
    for older in sorted(_folders(out), reverse=True)[KEPT:]:
        out.delete(older)


def newest_verified(out: Workspace) -> Checkpoint:
    """The newest checkpoint that is whole, or the empty one of step 0.

    One that is passed over is named in the log with the reason.
    """
    for folder in sorted(_folders(out), reverse=True):
        try:
            return _read(out, folder)
        except _UNREADABLE as error:
            log.warning("%s: not used: %s; looking for the one before it", folder, error)
    return Checkpoint()


def at(out: Workspace, step: int) -> Checkpoint:
    """The checkpoint of exactly `step`; of step 0, the empty one.

    Raises:
        ArtifactError: it is not there or not whole.
    """
    try:
        return _read(out, _folder(step)) if step else Checkpoint()
    except _UNREADABLE as error:
        raise ArtifactError(
            f"{out.store.uri}/{_folder(step)}: not readable: {error}; process 0 has read it and "
            "resumes there: make sure that every node sees the same files, then run again"
        ) from error


def _read(out: Workspace, folder: str) -> Checkpoint:
    hashes: dict[str, str] = json.loads(out.read(f"{folder}/{MANIFEST}"))
    files = {name: out.read(f"{folder}/{name}") for name in (TENSORS, FACTS)}
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != hashes[name]:
            raise ArtifactError(f"{name} was cut short or altered")
    facts = json.loads(files[FACTS])
    tensors = load(files[TENSORS])
    return Checkpoint(facts["step"], facts["tokens"], facts["history"], tensors)


def _folder(step: int) -> str:
    return f"{FOLDER}/step-{step:08d}"


def _folders(out: Workspace) -> set[str]:
    return {name.rsplit("/", 1)[0] for name in out.names(FOLDER)}
