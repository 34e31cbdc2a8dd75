"""The loop: the same bits for one process and two, after a kill, and a stop before a bad step."""

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from pipelines.core.artifact import Workspace
from pipelines.core.errors import DataError
from pipelines.core.storage import Store
from pipelines.model.build import Labels, Vocabulary, build
from pipelines.model.config import ModelConfig
from pipelines.tasks.batches import Batches
from pipelines.tasks.config import MaskedLM
from pipelines.tasks.masked_lm import MaskedLMTask, Special
from pipelines.tasks.protocol import Batch
from pipelines.tokenizer.load import open_tokenizer
from pipelines.tokens.shards import Tokens
from pipelines.train import learner
from pipelines.train.config import Optimise
from pipelines.train.loop import Fitted, batches_of, fit
from pipelines.train.team import Gradients
from tests.tasks.by_step import ByStep
from tests.train.one_weight import Weight

# Dropout is on, so that a wrong generator state after a resume would show.
SHAPE = ModelConfig(layers=1, width=16, heads=2, feedforward=32, max_length=32, dropout=0.1)
OPTIMISE = Optimise(steps=12, batch_rows=8, learning_rate=1e-2, checkpoint_steps=4, seed=3)


class KilledError(Exception):
    """Stands for SIGKILL: raised where a test wants the process to stop."""


def masked_lm(tokenizer: Path, tokens: Path, optimise: Optimise = OPTIMISE) -> tuple[Any, Batches]:
    opened = open_tokenizer(tokenizer)
    model = build(SHAPE, Vocabulary(len(opened), opened.pad_token_id), None, optimise.seed)
    task = MaskedLMTask(Tokens(tokens), Special.of(opened), MaskedLM(), seed=optimise.seed)
    return model, batches_of(task, optimise)


def workspace(folder: Path) -> Workspace:
    return Workspace.take(Store.at(str(folder)))


def digest(model: torch.nn.Module) -> str:
    found = hashlib.sha256()
    for _, parameter in model.named_parameters():
        found.update(parameter.detach().numpy().tobytes())
    return found.hexdigest()


class Stopping:
    """Batches that end the process when step `at` asks for its own."""

    def __init__(self, batches: Batches, at: int) -> None:
        self._batches, self._at = batches, at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def part(self, step: int, part: int) -> Batch:
        if step == self._at:
            raise KilledError
        return self._batches.part(step, part)


@pytest.fixture
def undisturbed(tokenizer_folder: Path, tokens_folder: Path, tmp_path: Path) -> tuple[str, Fitted]:
    """Digest of the weights, and history, of a run that nothing stopped."""
    model, batches = masked_lm(tokenizer_folder, tokens_folder)
    fitted = fit(model, batches, OPTIMISE, workspace(tmp_path / "undisturbed"))
    return digest(model), fitted


class Stale(Workspace):
    """A file system that does not show the newest checkpoint in a listing yet."""

    def names(self, prefix: str = "") -> list[str]:
        names = super().names(prefix)
        newest = max(names, default="").rpartition("/")[0]
        return [name for name in names if not name.startswith(newest)]


def one_of_two(rank: int, folder: Path, tokenizer: Path, tokens: Path) -> None:
    """One process of two: both learn undisturbed, then from kill to kill together and alone."""
    torch.set_num_threads(1)

    def learn(name: str, stop: int = -1) -> None:
        """Learn in folder `name`, up to step `stop` if it comes; process 1's view of it is old."""
        model, batches = masked_lm(tokenizer, tokens)
        view = Stale if rank else Workspace
        work = view(Store.at(str(folder / name)), (folder / name / ".epoch").read_text())
        with contextlib.suppress(KilledError):
            fitted = fit(model, Stopping(batches, stop), OPTIMISE, work)
            (folder / f"{name}-{rank}.txt").write_text(f"{digest(model)} {fitted.history}")

    def together(number: int, name: str, stop: int = -1) -> None:
        address = f"file://{folder}/rendezvous-{number}"
        distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
        learn(name, stop)
        distributed.destroy_process_group()

    together(1, "calm")
    together(2, "killed", stop=5)
    if not rank:
        learn("killed", stop=9)
    together(3, "killed")


@pytest.fixture(scope="module")
def two_processes(
    tokenizer_folder: Path, tokens_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder with what both left: `calm-0.txt` and so on."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("calm", "killed"):
        workspace(folder / name)
    multiprocessing.spawn(one_of_two, (folder, tokenizer_folder, tokens_folder), nprocs=2)
    return folder


@pytest.mark.parametrize("name", ["calm", "killed"])
def test_two_processes_or_two_then_one_then_two_learn_the_same_bits_as_one(
    name: str, undisturbed: tuple[str, Fitted], two_processes: Path
) -> None:
    """Process 1, whose listing is old, resumes from the checkpoint that process 0 finds."""
    weights, fitted = undisturbed
    for rank in range(2):
        found = (two_processes / f"{name}-{rank}.txt").read_text()
        assert found == f"{weights} {fitted.history}"


@pytest.mark.parametrize("shards", [1, 3, 8])
def test_parts_make_no_difference_but_rounding(
    shards: int, tokenizer_folder: Path, tokens_folder: Path, tmp_path: Path
) -> None:
    def losses(parts: int) -> list[float]:
        optimise = OPTIMISE.model_copy(update={"steps": 5, "shards": parts})
        model, batches = masked_lm(tokenizer_folder, tokens_folder, optimise)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # what is dropped follows from the part
        fitted = fit(model, batches, optimise, workspace(tmp_path / str(parts)))
        return [point["loss"] for point in fitted.history]

    # fp32 has 7 digits, and an early step's rounding is carried on for five steps.
    assert losses(shards) == pytest.approx(losses(2), rel=1e-5)


def test_another_seed_learns_other_weights(
    undisturbed: tuple[str, Fitted], tokenizer_folder: Path, tokens_folder: Path, tmp_path: Path
) -> None:
    optimise = OPTIMISE.model_copy(update={"seed": 4})
    model, batches = masked_lm(tokenizer_folder, tokens_folder, optimise)
    fit(model, batches, optimise, workspace(tmp_path / "other"))
    assert digest(model) != undisturbed[0]


@pytest.mark.parametrize("at", [1, 4, 6, 11])
def test_a_killed_run_goes_on_to_the_same_bits(
    at: int,
    undisturbed: tuple[str, Fitted],
    tokenizer_folder: Path,
    tokens_folder: Path,
    tmp_path: Path,
) -> None:
    model, batches = masked_lm(tokenizer_folder, tokens_folder)
    with pytest.raises(KilledError):
        fit(model, Stopping(batches, at), OPTIMISE, workspace(tmp_path / "killed"))
    model, batches = masked_lm(tokenizer_folder, tokens_folder)
    fitted = fit(model, batches, OPTIMISE, workspace(tmp_path / "killed"))
    assert digest(model) == undisturbed[0]
    assert (fitted.history, fitted.tokens) == (undisturbed[1].history, undisturbed[1].tokens)


def test_neither_bits_nor_figures_depend_on_how_often_a_checkpoint_is_kept(
    undisturbed: tuple[str, Fitted], tokenizer_folder: Path, tokens_folder: Path, tmp_path: Path
) -> None:
    optimise = OPTIMISE.model_copy(update={"checkpoint_steps": 1})
    model, batches = masked_lm(tokenizer_folder, tokens_folder, optimise)
    fitted = fit(model, batches, optimise, workspace(tmp_path / "often"))
    assert (digest(model), fitted.history) == (undisturbed[0], undisturbed[1].history)


@pytest.mark.parametrize(("precision", "bits"), [("fp32", 32), ("bf16", 16)])
def test_the_precision_that_was_used_is_recorded(
    precision: str, bits: int, weight: Weight, tmp_path: Path
) -> None:
    optimise = Optimise.model_validate({"steps": 1, "precision": precision})
    fitted = fit(weight, Line([[1.0], [2.0]]), optimise, workspace(tmp_path / "w"))
    assert fitted.measured["precision_bits"] == bits


def test_a_run_that_finds_itself_finished_claims_no_speed(
    undisturbed: tuple[str, Fitted], tokenizer_folder: Path, tokens_folder: Path, tmp_path: Path
) -> None:
    assert {"tokens_per_s", "mfu", "seconds"} <= undisturbed[1].measured.keys()
    model, batches = masked_lm(tokenizer_folder, tokens_folder)
    fitted = fit(model, batches, OPTIMISE, workspace(tmp_path / "undisturbed"))
    assert digest(model) == undisturbed[0]
    assert not {"tokens_per_s", "mfu", "seconds"} & fitted.measured.keys()


def test_the_comparison_above_would_see_a_lost_dropout_state(
    undisturbed: tuple[str, Fitted],
    tokenizer_folder: Path,
    tokens_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batches = masked_lm(tokenizer_folder, tokens_folder)
    with pytest.raises(KilledError):
        fit(model, Stopping(batches, 6), OPTIMISE, workspace(tmp_path / "killed"))
    monkeypatch.setattr(learner, "_dropout_seed", lambda seed, number, part: 0)
    model, batches = masked_lm(tokenizer_folder, tokens_folder)
    fit(model, batches, OPTIMISE, workspace(tmp_path / "killed"))
    assert digest(model) != undisturbed[0]


def test_the_loss_falls_on_text_that_repeats(
    tokenizer_folder: Path, tokens_folder: Path, tmp_path: Path
) -> None:
    optimise = OPTIMISE.model_copy(update={"steps": 80})
    model, batches = masked_lm(tokenizer_folder, tokens_folder, optimise)
    history = fit(model, batches, optimise, workspace(tmp_path / "long")).history
    first, last = history[0]["masked_loss"], history[-1]["masked_loss"]
    assert last < first - 1  # from ln(vocabulary) = 4.0 towards ln(words of one kind) = 1.8


class Line(ByStep):
    """Rows are numbers x, the figure is x times the one weight: every gradient is known by hand."""

    objectives: Mapping[str, float] = {"product": 2.0}

    def __init__(self, values: list[list[float]]) -> None:
        self._values = values

    def parts(self, step: int) -> list[Batch]:
        return [
            Batch(
                {"input_ids": torch.tensor(part).reshape(-1, 1)},
                {"product": len(part)},
                tuple(range(len(part))),
                1,
            )
            for part in self._values
        ]

    def sums(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        return {"product": (model.weight * batch.tensors["input_ids"]).sum()}


@pytest.fixture
def weight() -> Weight:
    return Weight()


def test_the_loss_is_the_mean_over_the_whole_batch_not_of_its_parts(
    weight: Weight, tmp_path: Path
) -> None:
    optimise = Optimise(steps=1, learning_rate=1e-3, warmup=0, weight_decay=0, clip=100)
    history = fit(weight, Line([[1.0], [2.0, 6.0]]), optimise, workspace(tmp_path / "w")).history
    assert history[0]["product"] == pytest.approx(5 * (1 + 2 + 6) / 3)
    assert history[0]["loss"] == pytest.approx(2 * 15)
    gradient = weight.weight.grad
    assert gradient is not None
    assert float(gradient) == pytest.approx(2 * 3)
    # Adam's first step is the rate in the gradient's direction, whatever its size.
    assert weight.weight.item() == pytest.approx(5 - 1e-3, abs=1e-6)


def test_a_part_without_rows_changes_nothing(weight: Weight, tmp_path: Path) -> None:
    optimise = Optimise(steps=1, warmup=0, weight_decay=0, clip=100)
    history = fit(weight, Line([[4.0], []]), optimise, workspace(tmp_path / "w")).history
    assert history[0]["product"] == 20


def test_gradients_are_scaled_down_to_the_largest_norm(weight: Weight) -> None:
    gradients = Gradients(weight)
    assert weight.weight.grad is not None
    weight.weight.grad.fill_(8)
    assert gradients.clip(2.0) == 8
    assert float(weight.weight.grad) == 2
    assert gradients.clip(2.0) == 2
    assert float(weight.weight.grad) == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_step(
    bad: float, weight: Weight, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"step 1: loss (nan|inf).*rows are \[0, 0, 1\]"):
        fit(weight, Line([[1.0], [2.0, bad]]), Optimise(steps=3), workspace(tmp_path / "w"))
    assert weight.weight.item() == 5


def test_progress_ends_with_the_last_step(weight: Weight, tmp_path: Path) -> None:
    import json

    out = workspace(tmp_path / "w")
    fit(weight, Line([[1.0], [2.0]]), Optimise(steps=3), out)
    points = json.loads(out.read(".progress.json"))
    assert [point["step"] for point in points] == [1, 2, 3]
    assert {"step", "loss", "learning_rate", "tokens", "tokens_per_s", "mfu"} <= points[-1].keys()


def test_a_classifier_head_is_named_by_its_labels() -> None:
    model = build(SHAPE, Vocabulary(50, 0), Labels(["bird", "fish"]), 0)
    assert model.config.id2label == {0: "bird", 1: "fish"}
