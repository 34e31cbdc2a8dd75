"""The prediction beside what a training then did: tokens, parameters, FLOPs, kept bytes."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.core.artifact import Artifact, Workspace
from pipelines.core.config import Placement
from pipelines.core.predict import Facts, Prediction
from pipelines.core.storage import Store
from pipelines.model.build import Vocabulary, build
from pipelines.model.config import ModelConfig
from pipelines.tasks.config import CausalLM, Classify, MaskedLM, TaskConfig
from pipelines.tasks.open import Rows, open_task
from pipelines.tokenizer.load import open_tokenizer
from pipelines.tokens.config import TokensConfig
from pipelines.tokens.shards import Tokens
from pipelines.train import forecast
from pipelines.train.config import Optimise, TrainConfig
from pipelines.train.loop import batches_of, fit

SHAPE = ModelConfig(layers=2, width=32, heads=2, feedforward=64, max_length=64)


def config_of(task: TaskConfig | None = None, **optimise: Any) -> TrainConfig:
    return TrainConfig(
        data="@tokens",
        tokenizer="@tokenizer",
        model=SHAPE,
        task=task or MaskedLM(),
        optimise=Optimise(**{"steps": 10, "batch_rows": 8} | optimise),
    )


def facts(entries: int, length: int, **counts: int) -> dict[str, Facts]:
    return {
        "tokenizer": Facts("tokenizer", {"vocab_size": entries}, {}, {}),
        "data": Facts("tokens", {"length": length}, counts, {}),
    }


def predicted(config: TrainConfig, sources: dict[str, Facts], workers: int = 2) -> Prediction:
    found = forecast.forecast(config, sources, lambda _: None, workers)
    assert found is not None
    return found


def test_a_prediction_is_what_the_training_then_does(
    tokenizer_folder: Path, tokens_folder: Path, tmp_path: Path
) -> None:
    tokens, entries = Tokens(tokens_folder), len(open_tokenizer(tokenizer_folder))
    counts = {"rows": tokens.num_rows, "tokens": int(tokens.lengths.sum())}
    config = config_of(MaskedLM(pair="none"))
    found = predicted(config, facts(entries, tokens.length, **counts))
    model = build(SHAPE, Vocabulary.of(open_tokenizer(tokenizer_folder)), None, 0)
    task, _ = open_task(config.task, Rows(tokens_folder, tokenizer_folder), 0)
    work = Workspace.take(Store.at(str(tmp_path)))
    fitted = fit(model, batches_of(task, config.optimise), config.optimise, work)
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    # The loop counts [CLS] and [SEP] too, which stand in no Tokens: two of about nine.
    assert found.tokens == pytest.approx(fitted.tokens, rel=0.3)
    done = fitted.measured["flops_per_s"] * fitted.measured["seconds"]
    assert found.flops / found.tokens == pytest.approx(done / fitted.tokens, rel=0.05)
    assert not found.most


def test_more_workers_than_parts_are_not_counted_on() -> None:
    assert predicted(config_of(shards=2), facts(300, 64), workers=8).processes == 2
    assert predicted(config_of(shards=4), facts(300, 64), workers=3).processes == 3


def test_rows_that_are_not_made_yet_are_taken_as_full() -> None:
    found = predicted(config_of(), facts(300, 48))
    assert (found.tokens, found.most) == (10 * 8 * 48, True)
    short = predicted(config_of(), facts(300, 48, rows=100, tokens=2400))
    assert (short.tokens, short.most) == (10 * 8 * 24, False)
    assert short.flops < found.flops / 2  # shorter rows, and fewer tokens seen by each


def test_a_label_needs_no_head_over_the_vocabulary_and_follows_its_start() -> None:
    start = Facts(
        "train",
        config_of().model_dump(mode="json"),
        {},
        {"tokenizer": "@tokenizer", "data": "@tokens"},
    )
    config = TrainConfig(
        data="@docs",
        start="@pretrain",
        task=Classify(max_length=32),
        optimise=Optimise(steps=10, batch_rows=8),
    )
    known = facts(300, 64)
    lookup = {"@tokenizer": known["tokenizer"], "@tokens": known["data"]}.get
    found = forecast.forecast(config, {"start": start}, lookup, 1)
    assert found is not None
    assert found.parameters == predicted(config_of(), known).parameters
    assert (found.tokens, found.most) == (10 * 8 * 32, True)
    assert forecast.forecast(config, {}, lookup, 1) is None  # weights of unknown shape
    start.config["model"] = {"sizes": 3}  # of another version
    assert forecast.forecast(config, {"start": start}, lookup, 1) is None


@pytest.mark.parametrize(
    ("shape", "task"),
    [
        ({"architecture": "bert"}, MaskedLM(pair="none")),
        ({"architecture": "llama", "feedforward": 344}, CausalLM()),
    ],
)
def test_kept_bytes_are_near_those_that_autograd_keeps(
    shape: dict[str, Any], task: TaskConfig
) -> None:
    entries, rows, length = 500, 4, 64
    sizes = {"layers": 4, "width": 128, "heads": 4, "feedforward": 512, "max_length": 64} | shape
    config = ModelConfig(**sizes)
    model = build(config, Vocabulary(entries, 0, 1, 2, 2), None, 0)
    owned = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    alive: list[torch.Tensor] = []
    ids = torch.randint(3, entries, (rows, length))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.base_model(input_ids=ids)
    body = forecast.kept_bytes(config, entries, predicted=0.0)
    assert rows * length * body == pytest.approx(sum(kept.values()), rel=0.25)
    assert forecast.kept_bytes(config, entries, 0.5) == body + 0.5 * 500 * 4 * 3


def test_a_run_is_told_what_it_will_cost_and_then_how_that_came_out(
    make_artifact: Callable[..., Artifact], tmp_path: Path
) -> None:
    told = io.StringIO()
    observer = forecast.Forecaster(Placement(storage=str(tmp_path), workers=1), told)
    tokenizer = make_artifact("Tokenizer", "tokenizer", {"t": b""}, config={"vocab_size": 300})
    tokens = make_artifact(
        "Tokens", "tokens", {"t": b""}, config={"length": 64}, counts={"rows": 10, "tokens": 640}
    )
    sources = {"tokenizer": tokenizer, "data": tokens}
    observer.started("docs", TokensConfig(corpus="@c", tokenizer="@t"), sources)
    observer.started("first", config_of(), sources)
    (line,) = told.getvalue().splitlines()
    assert line.endswith("time not known before a first training in this store")
    assert "first: 31.4 k parameters, 5.12 k tokens" in line
    measured = {"flops_per_s": 1e9, "processes": 1.0, "useful_tokens_per_s": 5120 / 3}
    facts = {"counts": {"parameters": 25_000, "tokens": 5120}, "measured": measured}
    model = make_artifact("Model", "train", {"m": b""}, name="first", **facts)
    observer.finished("first", model, sources)
    assert len(told.getvalue().splitlines()) == 1  # nothing was predicted, so nothing is compared
    observer.started("second", config_of(), sources)
    observer.finished("second", model, sources)
    *_, line, end = told.getvalue().splitlines()
    assert "at 1 GFLOP/s (as first had)" in line
    assert "second: predicted" in end
    assert "took 3 s" in end
