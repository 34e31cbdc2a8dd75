"""Weights shared out among processes: the same bits as one process, from anyone's checkpoint."""

import contextlib
import hashlib
import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import distributed, multiprocessing
from transformers import AutoModelForPreTraining

from pipelines.core.artifact import Workspace
from pipelines.core.errors import ArtifactError, StorageError
from pipelines.core.storage import Store
from pipelines.model.build import Vocabulary, build
from pipelines.model.checkpoint import save_model
from pipelines.model.config import ModelConfig
from pipelines.tasks.batches import Batches
from pipelines.tasks.config import MaskedLM
from pipelines.tasks.open import Rows, open_task
from pipelines.tasks.protocol import Batch
from pipelines.tokenizer.load import open_tokenizer
from pipelines.train import state
from pipelines.train.config import Optimise
from pipelines.train.loop import batches_of, fit
from pipelines.train.sharded import Sharded, blocks
from pipelines.train.team import Team

# Dropout is on, so that another order of random numbers would show.
SHAPE = ModelConfig(layers=2, width=16, heads=2, feedforward=32, max_length=32, dropout=0.1)
FREE = Optimise(
    steps=8,
    batch_rows=8,
    learning_rate=1e-2,
    clip=100,  # no gradient's norm comes near it
    checkpoint_steps=4,
    seed=3,
    parallel="shard",
)
CLIPPED = FREE.model_copy(update={"clip": 0.1})


class KilledError(Exception):
    """Stands for SIGKILL: raised where a test wants the processes to stop."""


class Stopping:
    """Batches that end the process when that of step `at` is asked for."""

    def __init__(self, batches: Batches, at: int) -> None:
        self._batches, self._at = batches, at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def part(self, step: int, part: int) -> Batch:
        if step == self._at:
            raise KilledError
        return self._batches.part(step, part)


def opened(
    tokenizer: Path, tokens: Path, optimise: Optimise, shape: ModelConfig = SHAPE
) -> tuple[Any, Batches]:
    known = open_tokenizer(tokenizer)
    model = build(shape, Vocabulary(len(known), known.pad_token_id), None, optimise.seed)
    task, _ = open_task(MaskedLM(), Rows(tokens, tokenizer), optimise.seed)
    return model, batches_of(task, optimise)


def digest(model: torch.nn.Module) -> str:
    found = hashlib.sha256()
    for name, parameter in model.named_parameters():
        found.update(name.encode() + parameter.detach().numpy().tobytes())
    return found.hexdigest()


def workspace(folder: Path) -> Workspace:
    """That of the try which took it over last."""
    store = Store.at(str(folder))
    return Workspace(store, store.read(".epoch").decode())


def learn(
    folder: Path,
    tokenizer: Path,
    tokens: Path,
    optimise: Optimise,
    stop: int | None = None,
    shape: ModelConfig = SHAPE,
) -> str:
    """Learn on from what is in `folder`; the weights' digest and the history."""
    torch.set_num_threads(1)  # as in every training process
    model, batches = opened(tokenizer, tokens, optimise, shape)
    batches = batches if stop is None else Stopping(batches, stop)
    fitted = fit(model, batches, optimise, workspace(folder))
    return f"{digest(model)} {json.dumps(fitted.history)}"


def one_of(rank: int, root: Path, tokenizer: Path, tokens: Path) -> None:
    """One process of two, which does all that the tests look at: starting processes is slow."""
    torch.set_num_threads(1)
    place = f"file://{root}/rendezvous"
    distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=2)
    found = {
        name: learn(root / name, tokenizer, tokens, optimise)
        for name, optimise in (("free", FREE), ("clipped", CLIPPED), ("one-two", FREE))
    }
    with pytest.raises(KilledError):
        learn(root / "two-one", tokenizer, tokens, FREE, stop=6)
    found["again"] = learn(root / "free", tokenizer, tokens, FREE)  # finds itself finished
    model, batches = opened(tokenizer, tokens, FREE)
    fit(model, batches, FREE, workspace(root / "free"))
    if not rank:
        save_model(model, tokenizer, {"kind": "masked-lm"}, 16, root / "model")
    (root / f"{rank}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


def alone(folder: Path, given: tuple[Path, Path], optimise: Optimise, **more: Any) -> str:
    Workspace.take(Store.at(str(folder)))
    return learn(folder, *given, optimise, **more)


@pytest.fixture(scope="module")
def given(tokenizer_folder: Path, tokens_folder: Path) -> tuple[Path, Path]:
    return tokenizer_folder, tokens_folder


@pytest.fixture(scope="module")
def pair(given: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that two processes left."""
    root = tmp_path_factory.mktemp("pair")
    for name in ("free", "clipped", "two-one"):
        Workspace.take(Store.at(str(root / name)))
    with pytest.raises(KilledError):
        alone(root / "one-two", given, FREE, stop=6)
    multiprocessing.spawn(one_of, (root, *given), nprocs=2)
    return root


def learnt(pair: Path, name: str) -> str:
    """What two processes learnt, which must be the same in both."""
    (found,) = {json.loads((pair / f"{rank}.json").read_text())[name] for rank in range(2)}
    return str(found)


@pytest.fixture(scope="module")
def undisturbed(given: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """What one process learns that nothing stops."""
    return alone(tmp_path_factory.mktemp("alone"), given, FREE)


def test_two_processes_with_half_the_weights_each_learn_the_same_bits_as_one(
    pair: Path, undisturbed: str
) -> None:
    assert learnt(pair, "free") == undisturbed


def test_so_they_do_where_every_gradient_is_scaled_down(
    pair: Path, given: tuple[Path, Path], undisturbed: str, tmp_path: Path
) -> None:
    found = alone(tmp_path / "one", given, CLIPPED)
    assert learnt(pair, "clipped") == found
    assert found != undisturbed


def test_sharded_and_replicated_weights_are_the_same_bits(
    given: tuple[Path, Path], undisturbed: str, tmp_path: Path
) -> None:
    whole = FREE.model_copy(update={"parallel": "replicate"})
    assert alone(tmp_path / "whole", given, whole) == undisturbed


def test_one_process_goes_on_from_what_two_saved(
    pair: Path, given: tuple[Path, Path], undisturbed: str
) -> None:
    assert newest(pair / "two-one").name == "00000004"
    assert alone(pair / "two-one", given, FREE) == undisturbed


def test_two_processes_go_on_from_what_one_saved(pair: Path, undisturbed: str) -> None:
    assert learnt(pair, "one-two") == undisturbed


def test_a_run_that_finds_itself_finished_has_the_whole_weights(
    pair: Path, undisturbed: str
) -> None:
    assert learnt(pair, "again") == undisturbed


def test_the_whole_weights_are_exported_as_transformers_reads_them(
    pair: Path, undisturbed: str
) -> None:
    model = AutoModelForPreTraining.from_pretrained(pair / "model")
    assert type(model).__name__ == "BertForPreTraining"
    assert digest(model) == undisturbed.partition(" ")[0]


def newest(folder: Path) -> Path:
    return max((folder / ".checkpoints").iterdir())


def test_each_process_writes_its_share_and_no_pickle(pair: Path) -> None:
    files = {path.name: path.stat().st_size for path in newest(pair / "free").iterdir()}
    shards = [files.pop(f"shard-0000{rank}.safetensors") for rank in range(2)]
    assert sorted(files) == ["index.json", "manifest.json", "state.json", "state.safetensors"]
    assert max(shards) < 0.75 * sum(shards)


@pytest.fixture
def saved(pair: Path, tmp_path: Path) -> Path:
    """A workspace with checkpoints of steps 4 and 8, by two processes."""
    shutil.copytree(pair / "free", tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize(
    "file", ["index.json", "manifest.json", "shard-00000.safetensors", "shard-00001.safetensors"]
)
@pytest.mark.parametrize("harm", ["cut", "flipped", "removed"])
def test_a_harmed_file_falls_back_to_the_checkpoint_before_and_says_so(
    file: str,
    harm: str,
    saved: Path,
    given: tuple[Path, Path],
    undisturbed: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = newest(saved)
    path = place / file
    data = path.read_bytes()
    match harm:
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "flipped":
            middle = len(data) // 2
            path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        case _:
            path.unlink()
    with caplog.at_level(logging.WARNING):
        assert alone(saved, given, FREE) == undisturbed
    assert f"{place.name}: not used" in caplog.text


def test_a_checkpoint_of_another_model_is_refused(saved: Path, given: tuple[Path, Path]) -> None:
    wider = SHAPE.model_copy(update={"feedforward": 64})
    with pytest.raises(ArtifactError, match=r"missing or of another shape"):
        alone(saved, given, FREE, shape=wider)


@pytest.mark.parametrize(
    ("counts", "size", "expected"),
    [
        ((4, 4), 2, [[(0, 1.0)], [(1, 1.0)]]),
        ((1, 0), 2, [[(0, 1.0)], [(0, 0.0)]]),
        ((3, 2, 2), 2, [[(0, 1.0), (2, 1.0)], [(1, 1.0), (0, 0.0)]]),
        ((1, 0, 0, 0), 2, [[(0, 1.0)], [(0, 0.0)]]),
        ((1, 0), 1, [[(0, 1.0)]]),
    ],
)
def test_every_process_takes_as_many_turns(
    counts: tuple[int, ...], size: int, expected: list[list[tuple[int, float]]]
) -> None:
    found = []
    for rank in range(size):
        team = Team()
        sharded = Sharded(torch.nn.Linear(2, 2), team)
        team.rank, team.size = rank, size
        found.append(list(sharded.turns(counts)))
    assert found == expected


def test_the_norm_is_that_of_all_gradients_and_scales_them() -> None:
    layer = torch.nn.Linear(2, 3)
    sharded = Sharded(layer, Team())
    sharded.clear()
    layer.weight.grad = torch.tensor([[1.0, 2.0], [2.0, 0.0], [0.0, 0.0]])
    sharded.add_up()
    assert layer.bias.grad is not None
    assert layer.bias.grad.tolist() == [0, 0, 0]
    assert sharded.clip(1.5) == 3
    assert layer.weight.grad.tolist() == [[0.5, 1.0], [1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("architecture", "count"),
    [("bert", 2), ("modernbert", 2), ("llama", 2), ("qwen3", 2), ("t5", 4), ("bart", 4)],
)
def test_every_architectures_blocks_are_found(architecture: str, count: int) -> None:
    facts = {"layers": 2, "width": 16, "heads": 2, "feedforward": 32, "max_length": 32}
    shape = ModelConfig.model_validate(facts | {"architecture": architecture})
    assert len(blocks(build(shape, Vocabulary(50, 0, 1, 2, 3), None, 0))) == count


def test_muon_is_refused_whose_sums_would_depend_on_the_number_of_workers() -> None:
    with pytest.raises(ValidationError, match="take adamw or replicate"):
        Optimise.model_validate({"steps": 1, "parallel": "shard", "optimizer": {"kind": "muon"}})


def test_a_full_disk_is_told_and_costs_no_checkpoint(
    given: tuple[Path, Path], small_disk: Path
) -> None:
    optimise = FREE.model_copy(update={"checkpoint_steps": 2})
    model, batches = opened(*given, optimise)
    filler = small_disk / "filler"

    out = Workspace.take(Store.at(str(small_disk / "work")))

    class Filling(Stopping):
        def part(self, step: int, part: int) -> Batch:
            if step == 7:
                while not state.newest_verified(out).step:
                    time.sleep(0.01)
                with contextlib.suppress(OSError):
                    filler.write_bytes(b"x" * 2**20)
            return super().part(step, part)

    with pytest.raises(StorageError, match=r"checkpoint of step \d: .*before it is kept: make"):
        fit(model, Filling(batches, -1), optimise, out)
    filler.unlink()
    assert state.newest_verified(workspace(small_disk / "work")).step
    learnt = learn(small_disk / "work", *given, optimise)
    shutil.rmtree(small_disk / "work")
    assert alone(small_disk / "work", given, optimise) == learnt
