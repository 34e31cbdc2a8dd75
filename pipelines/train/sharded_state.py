"""Tensors that are shared out among processes, to files of a workspace and back.

torch's distributed checkpoint plans who writes and reads which rows, whatever the number of
processes then and now; here is how they lie in files. Each process writes one file of safetensors,
and process 0 an index in JSON: nothing is pickled, so reading runs no code. The index is the last,
and no checkpoint is valid before its own manifest has the SHA-256 of all of them.
"""

import contextlib
import hashlib
import json
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import distributed
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_loader import load as read
from torch.distributed.checkpoint.state_dict_saver import save as write
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from pipelines.core.artifact import Workspace
from pipelines.core.config import Json
from pipelines.core.errors import ArtifactError, RaylineError

INDEX = "index.json"


def save(
    tensors: dict[str, torch.Tensor],
    out: Workspace,
    folder: str,
    group: distributed.ProcessGroup | None,
) -> dict[str, str]:
    """Write every process's share of `tensors` into `folder`, emptied first.

    Args:
        tensors: of this process; a DTensor's rows are its own, other tensors are the same in all.
        out: the step's workspace.
        folder: where to.
        group: the processes; None is this one alone.

    Returns:
        In process 0, the hex SHA-256 of each file; nothing in others.

    Raises:
        RaylineError: a process could not write.
    """
    writer = _Writer(out, folder, distributed.get_rank(group) if group else 0)
    with _plain():
        write(tensors, storage_writer=writer, process_group=group, no_dist=group is None)
    return writer.hashes


def load(
    like: Mapping[str, torch.Tensor],
    out: Workspace,
    folder: str,
    hashes: Mapping[str, str],
    group: distributed.ProcessGroup | None,
) -> dict[str, torch.Tensor]:
    """This process's share of the tensors in `folder`, by `<entry>/<name>`.

    Args:
        like: the model's parameters; an entry that has its parameter's shape is cut as it is.
        out: the step's workspace.
        folder: where from.
        hashes: the hex SHA-256 of its files.
        group: the processes; None is this one alone.

    Raises:
        ArtifactError: a file is missing, cut short or altered.
    """
    reader = _Reader(out, folder, hashes)
    tensors = {}
    for key, facts in reader.read_metadata().state_dict_metadata.items():
        assert isinstance(facts, TensorStorageMetadata)
        parameter = like.get(key.partition("/")[2])
        if parameter is not None and parameter.shape == facts.size:
            tensors[key] = torch.zeros_like(parameter, requires_grad=False)
        else:
            tensors[key] = torch.zeros(facts.size, dtype=facts.properties.dtype)
    with _plain():
        read(tensors, storage_reader=reader, process_group=group, no_dist=group is None)
    return tensors


@contextlib.contextmanager
def _plain() -> Iterator[None]:
    """Let a process's own error out, and no warning that one process is alone."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            yield
    except CheckpointException as error:
        for failure, _ in error.failures.values():
            if isinstance(failure, RaylineError):
                raise failure from None
        raise ArtifactError(f"checkpoint: {error}") from error


class _Writer(StorageWriter):
    """One process's part in writing."""

    def __init__(self, out: Workspace, folder: str, rank: int) -> None:
        self._out, self._folder, self._rank = out, folder, rank
        self.hashes: dict[str, str] = {}

    def reset(self, checkpoint_id: Any = None) -> None:
        """Nothing to do: there is one writer a checkpoint."""

    def set_up_storage_writer(self, is_coordinator: bool, *_: Any, **__: Any) -> None:
        """Nothing to do."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """As it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Remove a torn one of an earlier try, before anyone writes; called in process 0."""
        self._out.delete(self._folder)
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this process's rows; each result has the file and its hash."""
        tensors = {
            item.index.fqn: planner.resolve_data(item).detach().contiguous()  # type: ignore[union-attr]
            for item in plan.items
        }
        name, data = f"shard-{self._rank:05d}.safetensors", to_bytes(tensors)
        self._out.write(f"{self._folder}/{name}", data)
        place = (name, hashlib.sha256(data).hexdigest())
        done: Future[list[WriteResult]] = Future()
        done.set_result([WriteResult(item.index, 0, place) for item in plan.items])
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Write the index of all files; called in process 0, once all others have written."""
        written = [result for part in results for result in part]
        self.hashes = dict(result.storage_data for result in written)
        places = {result.index: result.storage_data[0] for result in written}
        index = {
            key: _described(key, facts, places)
            for key, facts in metadata.state_dict_metadata.items()
            if isinstance(facts, TensorStorageMetadata)
        }
        data = json.dumps(index).encode()
        self._out.write(f"{self._folder}/{INDEX}", data)
        self.hashes[INDEX] = hashlib.sha256(data).hexdigest()

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """There are none: a writer is made for its folder."""
        return checkpoint_id is None


class _Reader(StorageReader):
    """One process's part in reading."""

    def __init__(self, out: Workspace, folder: str, hashes: Mapping[str, str]) -> None:
        self._out, self._folder, self._hashes = out, folder, hashes
        self._places: dict[MetadataIndex, str] = {}

    def reset(self, checkpoint_id: Any = None) -> None:
        """Nothing to do: there is one reader a checkpoint."""

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """The shapes and cuts that the index has."""
        index: Json = json.loads(self._whole(INDEX))
        found = {}
        for key, facts in index.items():
            chunks = [
                ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes))
                for offsets, sizes, _ in facts["chunks"]
            ]
            properties = TensorProperties(dtype=getattr(torch, facts["dtype"]))
            found[key] = TensorStorageMetadata(properties, torch.Size(facts["size"]), chunks)
            for offsets, _, name in facts["chunks"]:
                self._places[MetadataIndex(key, torch.Size(offsets))] = name
        return Metadata(dict(found))

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *_: Any, **__: Any
    ) -> None:
        """Nothing to do."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """As it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """As they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Copy the rows that are asked for into their tensors, a file at a time."""
        wanted = defaultdict(list)
        for item in plan.items:
            wanted[self._places[item.storage_index]].append(item)
        for name, items in wanted.items():
            tensors = from_bytes(self._whole(name))
            for item in items:
                source = tensors[item.storage_index.fqn]
                for axis, (first, length) in enumerate(
                    zip(item.storage_offsets, item.lengths, strict=True)
                ):
                    source = source.narrow(axis, first, length)
                target = planner.resolve_tensor(item).detach()
                target.copy_(source)
                planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """There are none: a reader is made for its folder."""
        return checkpoint_id is None

    def _whole(self, name: str) -> bytes:
        data = self._out.read(f"{self._folder}/{name}")
        if hashlib.sha256(data).hexdigest() != self._hashes.get(name):
            raise ArtifactError(f"{self._folder}/{name} was cut short or altered")
        return data


def _described(key: str, facts: TensorStorageMetadata, places: dict[MetadataIndex, str]) -> Json:
    """A tensor's type, size and cuts: where each begins, its size, and the file that has it."""
    return {
        "dtype": str(facts.properties.dtype).removeprefix("torch."),
        "size": list(facts.size),
        "chunks": [
            [list(chunk.offsets), list(chunk.sizes), places[MetadataIndex(key, chunk.offsets)]]
            for chunk in facts.chunks
        ],
    }
