"""Which code computes: what the settings say, or what was measured, and then the same for ever."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from pipelines.core.artifact import Workspace
from pipelines.core.errors import ConfigError
from pipelines.core.storage import Store
from pipelines.model.build import Vocabulary, build
from pipelines.model.config import ModelConfig
from pipelines.tasks.batches import Batches
from pipelines.tasks.config import MaskedLM
from pipelines.tasks.open import Rows, open_task
from pipelines.tasks.protocol import Batch, Sums
from pipelines.tokenizer.load import open_tokenizer
from pipelines.train import kernels
from pipelines.train.config import Optimise
from pipelines.train.team import Team

SHAPE = ModelConfig(layers=1, width=16, heads=2, feedforward=32, max_length=32)


@pytest.fixture
def model(tokenizer_folder: Path) -> Any:
    vocabulary = Vocabulary.of(open_tokenizer(tokenizer_folder))
    return build(SHAPE, vocabulary, None, 0)


@pytest.fixture
def batches(tokenizer_folder: Path, tokens_folder: Path) -> Batches:
    task, _ = open_task(MaskedLM(), Rows(tokens_folder, tokenizer_folder), 3)
    return Batches(task, seed=3, batch_rows=8, parts=2)


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return Workspace.take(Store.at(str(tmp_path / "work")))


def prepare(
    model: Any, batches: Batches, work: Workspace, **settings: Any
) -> tuple[Sums, dict[str, float]]:
    optimise = Optimise(steps=settings.pop("steps", 4), **settings)
    found = kernels.prepare(model, batches, optimise, work, Team())
    return found.sums, found.figures


def test_by_default_nothing_is_measured(
    model: Any, batches: Batches, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: Any) -> float:
        raise AssertionError("measured")

    monkeypatch.setattr(kernels, "_seconds", measured)
    found, figures = prepare(model, batches, work)
    assert found == batches.task.sums
    assert model.config._attn_implementation == "sdpa"
    assert (figures["attention_sdpa"], figures["compiled"]) == (1.0, 0.0)
    work.delete(kernels.FILE)
    assert prepare(model, batches, work, attention="eager")[1]["attention_sdpa"] == 0.0


@pytest.mark.parametrize("faster", ["eager", "sdpa"])
def test_auto_takes_the_faster_code_and_a_run_that_goes_on_keeps_it(
    model: Any, batches: Batches, work: Workspace, monkeypatch: pytest.MonkeyPatch, faster: str
) -> None:
    asked = []

    def seconds(run: Any, sums: Any, batch: Batch) -> float:
        asked.append(model.config._attn_implementation)
        return 1.0 if asked[-1] == faster else 2.0

    monkeypatch.setattr(kernels, "_seconds", seconds)
    prepare(model, batches, work, attention="auto")
    assert sorted(asked) == ["eager", "sdpa"]
    assert model.config._attn_implementation == faster
    assert json.loads(work.read(kernels.FILE)) == {
        "attention": faster,
        "compiled": False,
        "bits": 32,
    }
    kernels.set_attention(model, "sdpa")
    prepare(model, batches, work, attention="auto")
    assert len(asked) == 2
    assert model.config._attn_implementation == faster


def test_measuring_leaves_weights_gradients_and_random_numbers_alone(
    model: Any, batches: Batches, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "MEASURE_S", 0.01)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    state = torch.get_rng_state()
    prepare(model, batches, work, attention="auto")
    assert torch.equal(torch.get_rng_state(), state)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name])
        assert weight.grad is None


def test_auto_does_not_compile_a_run_that_is_too_short_to_gain(
    model: Any, batches: Batches, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_seconds", lambda *_: 1.0)  # of a part; a step has two

    def compiled(*_: Any) -> Any:
        raise ZeroDivisionError("tried")

    monkeypatch.setattr(kernels, "compiled", compiled)
    short = int(kernels.PAYS_S / 2) - 1
    found, figures = prepare(model, batches, work, compile="auto", steps=short)
    assert (found, figures["compiled"]) == (batches.task.sums, 0.0)
    work.delete(kernels.FILE)
    with pytest.raises(ConfigError, match="ZeroDivisionError: tried; set optimise"):
        prepare(model, batches, work, compile="on", steps=short)


def test_a_failure_to_compile_goes_on_eagerly_and_says_why_once(
    model: Any,
    batches: Batches,
    work: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def compiled(*_: Any) -> Any:
        raise RuntimeError("no header\nand much more")

    monkeypatch.setattr(kernels, "compiled", compiled)
    monkeypatch.setattr(kernels, "PAYS_S", 0.0)
    monkeypatch.setattr(kernels, "MEASURE_S", 0.01)
    found, figures = prepare(model, batches, work, compile="auto")
    assert (found, figures["compiled"]) == (batches.task.sums, 0.0)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["not compiled, goes on eagerly: RuntimeError: no header"]


@pytest.mark.parametrize(("gain", "used"), [(0.5, 1.0), (1.5, 0.0)])
def test_compiled_code_is_used_only_where_it_is_faster(
    model: Any,
    batches: Batches,
    work: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    gain: float,
    used: float,
) -> None:
    def fast(model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        return batches.task.sums(model, batch)

    monkeypatch.setattr(kernels, "compiled", lambda *_: fast)
    monkeypatch.setattr(kernels, "PAYS_S", 0.0)
    monkeypatch.setattr(kernels, "_seconds", lambda _, sums, __: gain if sums is fast else 1.0)
    found, figures = prepare(model, batches, work, compile="auto")
    assert figures["compiled"] == used
    assert found == (fast if used else batches.task.sums)
    again = prepare(model, batches, work, compile="auto")[1]
    assert again["compiled"] == used


def test_a_run_begun_compiled_stops_where_it_cannot_go_on_so(
    model: Any, batches: Batches, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.write(kernels.FILE, b'{"attention": "sdpa", "compiled": true, "bits": 32}')
    monkeypatch.setattr(kernels, "compiler", lambda: None)
    with pytest.raises(ConfigError, match=re.escape("no C++ compiler found; set CXX")):
        prepare(model, batches, work, compile="auto")


class Second(Team):
    """Process 1 of two, to whom process 0's numbers come in turn."""

    def __init__(self, told: list[int]) -> None:
        super().__init__()
        self.rank, self._told = 1, iter(told)

    def add(self, tensor: torch.Tensor) -> None:
        tensor += next(self._told)


def test_other_processes_follow_the_first_and_write_nothing(
    model: Any, batches: Batches, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimise = Optimise(steps=4, attention="auto", compile="auto")
    eager = kernels.ATTENTION.index("eager")
    kernels.prepare(model, batches, optimise, work, Second([32, eager, 0]))
    assert model.config._attn_implementation == "eager"
    assert not work.exists(kernels.FILE)


def test_a_model_without_torchs_attention_keeps_its_own(
    model: Any, batches: Batches, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(model), "_supports_sdpa", False)
    assert prepare(model, batches, work)[1]["attention_sdpa"] == 0.0
    assert model.config._attn_implementation == "eager"


def test_a_run_goes_on_in_the_precision_that_it_began_with(
    model: Any,
    batches: Batches,
    work: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert prepare(model, batches, work)[1]["precision_bits"] == 16
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert prepare(model, batches, work)[1]["precision_bits"] == 16
    assert "this run began in 16 bits and goes on in them" in caplog.text
    assert kernels.prepare(model, batches, Optimise(steps=4), work, Team()).dtype is torch.bfloat16


def test_compiling_weights_that_lie_apart_is_refused() -> None:
    with pytest.raises(ValidationError, match="compile has no effect on parallel=shard"):
        Optimise(steps=1, compile="auto", parallel="shard")
