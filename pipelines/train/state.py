"""Weights, optimizer state and where a run stands to a checkpoint and back.

A checkpoint is a folder of the step's workspace whose manifest, written last, has the SHA-256 of
its files. What is torn or altered does not verify and is passed over for the one before. Order,
masks and dropout follow from the batch's number alone, so no generator has a state to keep.
"""

import contextlib
import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from typing import Self

import torch
from safetensors.torch import load, save

from pipelines.core.artifact import Workspace
from pipelines.core.config import Json
from pipelines.core.errors import ArtifactError, StorageError
from pipelines.train.optimizers import Optimizer
from pipelines.train.spikes import Watch

log = logging.getLogger(__name__)

FOLDER = ".checkpoints"
TENSORS, FACTS, MANIFEST = "state.safetensors", "state.json", "manifest.json"
KEPT = 2
WEIGHT = "weight"
_DAMAGED = (ArtifactError, ValueError, KeyError, TypeError, AttributeError)
_REMEDY = f"it was made by other code or settings: remove {FOLDER} in the step's work folder"


@dataclass(frozen=True)
class Checkpoint:
    """A run that has taken `batch` batches and stands behind `step` optimizer steps.

    After a roll-back `batch` is the larger: the batches between are left out. `handed` has the
    batch and step of each time that weights were handed to validation.
    """

    batch: int = 0
    step: int = 0
    tokens: int = 0
    history: list[Json] = field(default_factory=list)
    watch: Watch = field(default_factory=Watch)
    handed: tuple[tuple[int, int], ...] = ()
    optimizer: str = "adamw"
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)


class Writer:
    """Runs one job at a time in a thread; its error comes up at the next job, or at the end.

    It is a context manager: a block that ends well waits for the last job.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "writer")
        self._job: Future[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether the job before has ended."""
        return self._job is None or self._job.done()

    def submit(self, job: Callable[[], None]) -> None:
        """Begin `job` once the one before has ended; raises that one's error."""
        self.wait()
        self._job = self._pool.submit(job)

    def wait(self) -> None:
        """Until nothing is being written; raises what the job raised."""
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def __enter__(self) -> Self:
        """The thread starts with the first job."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let the job end; an error of the block's own is the one that is told."""
        try:
            if kind is None:
                self.wait()
        finally:
            self._pool.shutdown(wait=True)


def capture(model: torch.nn.Module, optimizer: Optimizer) -> dict[str, torch.Tensor]:
    """Every tensor that the next step depends on, copied to the CPU."""
    return {name: copied(tensor) for name, tensor in tensors_of(model, optimizer).items()}


def tensors_of(model: torch.nn.Module, optimizer: Optimizer) -> dict[str, torch.Tensor]:
    """Every tensor that the next step depends on, as `<entry>/<parameter>`."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    tensors: dict[str, torch.Tensor] = {
        f"{WEIGHT}/{name}": parameter for parameter, name in names.items()
    }
    for parameter, entries in optimizer.state.items():
        for entry, tensor in entries.items():
            tensors[f"{entry}/{names[parameter]}"] = tensor
    return tensors


def copied(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the CPU, which a later step does not change."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def restore(model: torch.nn.Module, optimizer: Optimizer, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's tensors into a model and its optimizer.

    Raises:
        ArtifactError: the checkpoint is of another model.
    """
    entries: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for key, tensor in checkpoint.tensors.items():
        entry, _, name = key.partition("/")
        entries[name][entry] = tensor
    parameters = dict(model.named_parameters())
    if unknown := sorted(entries.keys() - parameters.keys()):
        raise ArtifactError(
            f"checkpoint of step {checkpoint.step}: the model has no {unknown[0]}; {_REMEDY}"
        )
    for name, parameter in parameters.items():
        weight = entries[name].pop(WEIGHT, None)
        if weight is None or weight.shape != parameter.shape:
            raise ArtifactError(
                f"checkpoint of step {checkpoint.step}: {name} is missing or of another shape; "
                f"{_REMEDY}"
            )
        with torch.no_grad():
            parameter.copy_(weight)
        optimizer.state[parameter] = {
            entry: tensor.to(parameter.device, copy=True) for entry, tensor in entries[name].items()
        }


def write(out: Workspace, checkpoint: Checkpoint, written: Mapping[str, str] | None = None) -> None:
    """Commit a checkpoint; drop all but the newest `KEPT` and those they would go back to.

    Args:
        out: the step's workspace.
        checkpoint: what to write.
        written: files that are in its folder already, with their hex SHA-256; None empties it.

    Raises:
        StorageError: the disk is full; what was written of it is removed.
    """
    files = {TENSORS: save(checkpoint.tensors), FACTS: json.dumps(_facts(checkpoint)).encode()}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = {"files": hashes | dict(written or {}), "anchor": checkpoint.watch.anchor}
    folder = folder_of(checkpoint.batch)
    if written is None:
        out.delete(folder)  # a torn one of an earlier try, if any
    with whole_or_none(out, checkpoint):
        for name, data in files.items():
            out.write(f"{folder}/{name}", data)
        out.write(f"{folder}/{MANIFEST}", json.dumps(manifest).encode())
    _prune(out, folder)


@contextlib.contextmanager
def whole_or_none(out: Workspace, checkpoint: Checkpoint) -> Iterator[None]:
    """Remove what the block has written of a checkpoint if the disk is full, and say what is kept.

    Raises:
        StorageError: it is.
    """
    try:
        yield
    except StorageError as error:
        with contextlib.suppress(ArtifactError):
            out.delete(folder_of(checkpoint.batch))
        raise StorageError(
            f"checkpoint of step {checkpoint.step}: {error}; the one before it is kept: make room, "
            "and the same command goes on from there"
        ) from error


def _facts(checkpoint: Checkpoint) -> Json:
    """All of it but the tensors."""
    names = [entry.name for entry in fields(checkpoint) if entry.name not in ("tensors", "watch")]
    return {name: getattr(checkpoint, name) for name in names} | {"watch": asdict(checkpoint.watch)}


def _prune(out: Workspace, newest: str) -> None:
    """Drop what nothing goes back to; also what lies behind `newest`, for it was passed over."""
    folders = sorted(_folders(out), reverse=True)
    needed = set([folder for folder in folders if folder <= newest][:KEPT])
    for folder in sorted(needed):
        with contextlib.suppress(*_DAMAGED):
            anchor = json.loads(out.read(f"{folder}/{MANIFEST}"))["anchor"]
            needed |= {folder_of(anchor)} if anchor is not None else set()
    for folder in folders:
        if folder not in needed:
            out.delete(folder)


def newest_verified(out: Workspace) -> Checkpoint:
    """The newest checkpoint that is whole, or the empty one of step 0.

    One that is passed over is named in the log with the reason. So is one whose anchor is not
    whole: a roll-back would fail.

    Raises:
        StorageError: one cannot be reached now, which says nothing about it.
    """
    for folder in sorted(_folders(out), reverse=True):
        try:
            found = _read(out, folder)
            if found.watch.anchor not in (None, found.batch):
                _files(out, folder_of(found.watch.anchor))
            return found
        except StorageError:
            raise
        except _DAMAGED as error:
            log.warning("%s: not used: %s; looking for the one before it", folder, error)
    return Checkpoint()


def at(out: Workspace, batch: int) -> Checkpoint:
    """The checkpoint after exactly `batch` batches.

    Raises:
        ArtifactError: it is not there or not whole.
    """
    try:
        return _read(out, folder_of(batch))
    except _DAMAGED as error:
        raise ArtifactError(
            f"{out.store.uri}/{folder_of(batch)}: not readable: {error}; process 0 has read it and "
            "resumes there: make sure that every node sees the same files, then run again"
        ) from error


def _read(out: Workspace, folder: str) -> Checkpoint:
    files, anchor = _files(out, folder)
    facts = json.loads(files[FACTS])
    watch = facts.pop("watch")
    for window in ("losses", "norms"):
        watch[window] = tuple(watch[window])
    handed = tuple((batch, step) for batch, step in facts.pop("handed"))
    if watch["anchor"] != anchor:
        raise ArtifactError(f"{MANIFEST} was altered")
    return Checkpoint(**facts, watch=Watch(**watch), handed=handed, tensors=load(files[TENSORS]))


def _files(out: Workspace, folder: str) -> tuple[dict[str, bytes], int | None]:
    """The contents of a checkpoint that is whole, and its anchor."""
    manifest: Json = json.loads(out.read(f"{folder}/{MANIFEST}"))
    files = {name: out.read(f"{folder}/{name}") for name in (TENSORS, FACTS)}
    found = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    for name, digest in manifest["files"].items():
        if (found.get(name) or out.store.sha256(f"{folder}/{name}")) != digest:
            raise ArtifactError(f"{name} was cut short or altered")
    if missing := files.keys() - manifest["files"].keys():
        raise ArtifactError(f"{MANIFEST} does not name {min(missing)}")
    return files, manifest["anchor"]


def hashes_of(out: Workspace, folder: str) -> dict[str, str]:
    """The hex SHA-256 of every file of a checkpoint, as its manifest has them."""
    return dict(json.loads(out.read(f"{folder}/{MANIFEST}"))["files"])


def folder_of(batch: int) -> str:
    """Where the checkpoint after `batch` batches lies in the workspace."""
    return f"{FOLDER}/{batch:08d}"


def _folders(out: Workspace) -> set[str]:
    return {name.rsplit("/", 1)[0] for name in out.names(FOLDER)}
