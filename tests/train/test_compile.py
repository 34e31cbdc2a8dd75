"""Compiled code: made for the largest batch of each kind, and none made later, whatever comes."""

import stat
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.core.artifact import Workspace
from pipelines.core.storage import Store
from pipelines.model.build import Vocabulary, build
from pipelines.model.config import ModelConfig
from pipelines.tasks.config import MaskedLM
from pipelines.tasks.open import Rows, open_task
from pipelines.tasks.protocol import Batch
from pipelines.tokenizer.load import open_tokenizer
from pipelines.train import compile as compiling
from pipelines.train.config import Optimise
from pipelines.train.loop import Fitted, batches_of, fit
from tests.tasks.by_step import ByStep

SHAPE = ModelConfig(layers=1, width=16, heads=2, feedforward=32, max_length=32)


def batch_of(rows: int, length: int, *, padded: bool = False) -> Batch:
    tensors = {"input_ids": torch.ones(rows, length)}
    if padded:
        tensors["attention_mask"] = torch.ones(rows, length)
    return Batch(tensors, {}, tuple(range(rows)), rows * length)


class Made(ByStep):
    """A task of given batches, whose sum is that of the ids."""

    objectives: Mapping[str, float] = {"loss": 1.0}

    def __init__(self, *steps: list[Batch]) -> None:
        self._steps = steps

    def parts(self, step: int) -> list[Batch]:
        return self._steps[step]

    def sums(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": (batch.tensors["input_ids"] * model).sum()}


def test_examples_are_the_largest_of_each_kind_among_the_first_steps() -> None:
    large, small = batch_of(2, 16), batch_of(2, 8)
    masked, empty = batch_of(2, 8, padded=True), batch_of(0, 0)
    unseen = batch_of(9, 99)
    task = Made([small, large], [masked, empty], [unseen])
    found, varied = compiling.examples(task, 2)
    assert [id(batch) for batch in found] == [id(masked), id(large)]
    assert varied
    assert compiling.examples(Made([small, small]), 1)[1] is False


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """`made` for each graph that is compiled and `run` for each time one is run."""
    seen: list[str] = []

    def backend(graph: Any, _: Any) -> Any:
        seen.append("made")

        def run(*arguments: Any) -> Any:
            seen.append("run")
            return graph.forward(*arguments)

        return run

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(compiling.FOLDER, str(tmp_path))
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    return seen


@pytest.mark.parametrize(("varied", "runs"), [(False, ["run"]), (True, ["run", "run", "run"])])
def test_what_no_code_was_made_for_runs_eagerly_and_never_makes_any(
    counted: list[str], varied: bool, runs: list[str]
) -> None:
    weight = torch.tensor(2.0)
    run = lambda sums, batch: sums(weight, batch)  # noqa: E731
    call = compiling.compiled(Made().sums, [batch_of(4, 16)], varied, run)
    assert counted == ["made", "run"]
    counted.clear()
    assert call(weight, batch_of(4, 16))["loss"] == 128
    assert call(weight, batch_of(3, 8))["loss"] == 48
    assert call(weight, batch_of(4, 24))["loss"] == 192
    assert call(weight.double(), batch_of(4, 16))["loss"] == 128  # another type: eagerly
    assert counted == runs


def test_compiled_code_is_kept_where_nobody_else_may_write(
    counted: list[str], tmp_path: Path
) -> None:
    weight = torch.tensor(2.0)
    run = lambda sums, batch: sums(weight, batch)  # noqa: E731
    compiling.compiled(Made().sums, [batch_of(4, 16)], False, run)
    folder = compiling.cache()
    assert folder.is_relative_to(tmp_path)
    assert torch.__version__ in folder.name
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


class KilledError(Exception):
    """Stands for SIGKILL."""


def learnt(
    folders: tuple[Path, Path], work: Path, dropout: float, stop: int | None = None, **settings: Any
) -> tuple[bytes, Fitted]:
    """Weights and history of 6 steps from what lies in `work`, unless killed at step `stop`."""
    tokens, tokenizer = folders
    optimise = Optimise(steps=6, batch_rows=8, learning_rate=1e-2, checkpoint_steps=2, **settings)
    shape = SHAPE.model_copy(update={"dropout": dropout})
    model = build(shape, Vocabulary.of(open_tokenizer(tokenizer)), None, 0)
    task, _ = open_task(MaskedLM(), Rows(tokens, tokenizer), 0)
    batches = batches_of(task, optimise)
    asked, made = [], batches.part

    def until(step: int, part: int) -> Batch:
        asked.append((step, part))
        # The first time, examples are looked for.
        if step == stop and asked.count((step, part)) == 2:
            raise KilledError
        return made(step, part)

    batches.part = until  # type: ignore[method-assign]
    fitted = fit(model, batches, optimise, Workspace.take(Store.at(str(work))))
    weights = [weight.detach().numpy().tobytes() for _, weight in model.named_parameters()]
    return b"".join(weights), fitted


@pytest.mark.slow
def test_compiled_training_is_the_eager_one_to_rounding(
    tokenizer_folder: Path, tokens_folder: Path, tmp_path: Path
) -> None:
    folders = (tokens_folder, tokenizer_folder)
    _, eager = learnt(folders, tmp_path / "eager", 0.0)
    _, fast = learnt(folders, tmp_path / "fast", 0.0, compile="on")
    assert (eager.measured["compiled"], fast.measured["compiled"]) == (0.0, 1.0)
    for one, other in zip(eager.history, fast.history, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)


@pytest.mark.slow
def test_compiled_training_goes_on_after_a_kill_with_the_same_bits(
    tokenizer_folder: Path, tokens_folder: Path, tmp_path: Path
) -> None:
    folders = (tokens_folder, tokenizer_folder)
    whole, fitted = learnt(folders, tmp_path / "whole", 0.1, compile="on")
    with pytest.raises(KilledError):
        learnt(folders, tmp_path / "killed", 0.1, stop=3, compile="on")
    weights, again = learnt(folders, tmp_path / "killed", 0.1, compile="on")
    assert weights == whole
    assert again.history == fitted.history
