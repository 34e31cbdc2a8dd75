"""The train stage on Ray: from Tokens and from a Corpus to Models, the same whoever dies."""

import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load
from transformers import AutoModelForSequenceClassification

from pipelines.core.artifact import Artifact, Json, commit
from pipelines.core.errors import DataError, RaylineError
from pipelines.core.storage import Store
from pipelines.core.workflow import Outcome, Step
from pipelines.model import warm
from pipelines.model.config import ModelConfig
from pipelines.tasks.config import Classify, MaskedLM
from pipelines.tokens.shards import Tokens
from pipelines.train import stage, validate
from pipelines.train.config import Optimise, TrainConfig, Validation
from tests.train.conftest import corpus_part, texts

SHAPE = ModelConfig(layers=1, width=16, heads=2, feedforward=32, max_length=32)
OPTIMISE = Optimise(steps=30, batch_rows=8, learning_rate=1e-2, checkpoint_steps=10)
PRETRAIN = TrainConfig(
    data="@tokens", tokenizer="@vocab", model=SHAPE, task=MaskedLM(), optimise=OPTIMISE
)
TUNE = TrainConfig(
    data="@corpus",
    tokenizer="@vocab",
    model=SHAPE,
    task=Classify(max_length=16),
    optimise=OPTIMISE.model_copy(update={"steps": 60}),
    max_rows=100,
)
Committed = Callable[[str, Path], Artifact]


@pytest.fixture
def pretraining(
    committed: Committed, tokenizer_folder: Path, tokens_folder: Path
) -> dict[str, Artifact]:
    return {
        "data": committed("Tokens", tokens_folder),
        "tokenizer": committed("Tokenizer", tokenizer_folder),
    }


@pytest.fixture
def corpus(make_artifact: Callable[..., Artifact]) -> Artifact:
    return make_artifact("Corpus", "corpus", {"data/part-00000.parquet": corpus_part(texts(200))})


def files(step: Step) -> dict[str, bytes]:
    names = [name for name in step.out.names() if not name.startswith(".")]
    return {name: step.out.read(name) for name in names}


def committed_model(step: Step, outcome: Outcome, folder: Path) -> Artifact:
    facts = {"kind": "Model", "stage": "train", "name": "base", "fingerprint": "0" * 64}
    facts |= {"identity": {}, "inputs": {}, "counts": outcome.counts}
    return commit(step.out, Store.at(str(folder)), facts)


@pytest.mark.ray
def test_pretrain_then_fine_tune_gives_a_model_that_tells_the_labels_apart(
    ray_local: None,
    pretraining: dict[str, Artifact],
    corpus: Artifact,
    step_for: Callable[..., Step],
    tmp_path: Path,
) -> None:
    points: list[Json] = []
    pretrain = PRETRAIN.model_copy(update={"warm_start": True})
    step = replace(step_for(pretrain, pretraining, "base"), report=points.append)
    outcome = stage.make(pretrain, step)
    assert step.out.exists(warm.FILE)
    assert outcome.counts["steps"] == 30
    assert points[-1]["step"] == 30
    base = committed_model(step, outcome, tmp_path / "base")

    tune = TUNE.model_copy(update={"tokenizer": None, "model": None, "start": "@base"})
    step = step_for(tune, {"data": corpus, "start": base}, "tuned")
    outcome = stage.make(tune, step)
    assert outcome.counts["rows"] == 100
    assert outcome.metrics["label_accuracy"] > 0.95  # the two kinds share no word
    tuned = committed_model(step, outcome, tmp_path / "tuned")
    model = AutoModelForSequenceClassification.from_pretrained(tuned.local())
    assert model.config.id2label == {0: "bird", 1: "fish"}
    assert len(json.loads(tuned.read("history.json"))) == 60


def test_every_process_starts_from_the_embeddings_that_were_left_for_it(
    pretraining: dict[str, Artifact], step_for: Callable[..., Step]
) -> None:
    once = OPTIMISE.model_copy(update={"steps": 1})
    config = PRETRAIN.model_copy(update={"warm_start": True, "optimise": once})
    step = step_for(config, pretraining)
    vocabulary = Tokens(pretraining["data"].local()).vocab_size
    buffer = io.BytesIO()
    np.save(buffer, np.full((vocabulary, SHAPE.width), 7, np.float32))
    step.out.write(warm.FILE, buffer.getvalue())
    stage.learn({"config": config, "inputs": pretraining, "out": step.out, "labels": []})
    weights = load(step.out.read("model.safetensors"))
    table = weights["bert.embeddings.word_embeddings.weight"]
    assert (table - 7).abs().max() < 0.02  # one step of AdamW at a rate of 0.01


def kill_a_worker(step: Step, killed: list[int]) -> None:
    """SIGKILL one training process as soon as the first checkpoint is there, and note its id."""
    while not any(name.endswith("manifest.json") for name in step.out.names(".checkpoints")):
        time.sleep(0.05)
    for process in psutil.Process().children(recursive=True):
        if "RayTrainWorker" in process.name() or "RayTrainWorker" in " ".join(process.cmdline()):
            os.kill(process.pid, signal.SIGKILL)
            killed.append(process.pid)
            return


@pytest.mark.ray
def test_a_worker_killed_in_training_changes_no_byte(
    ray_local: None, pretraining: dict[str, Artifact], step_for: Callable[..., Step]
) -> None:
    longer = PRETRAIN.model_copy(
        update={"optimise": OPTIMISE.model_copy(update={"steps": 400, "checkpoint_steps": 20})}
    )
    undisturbed = step_for(longer, pretraining, "undisturbed")
    settings = {"config": longer, "inputs": pretraining, "out": undisturbed.out, "labels": []}
    stage.learn(settings)  # by one process, without Ray
    killed = step_for(longer, pretraining, "killed")
    pids: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(killed, pids), daemon=True)
    killer.start()
    stage.make(longer, killed)
    killer.join(timeout=1)
    assert len(pids) == 1
    assert files(killed) == files(undisturbed)


@pytest.fixture
def judged(
    committed: Committed, tokenizer_folder: Path, make_artifact: Callable[..., Artifact]
) -> tuple[TrainConfig, dict[str, Artifact]]:
    """Settings with validation every 10 of 60 steps on the corpus's test split, and inputs."""
    rows = texts(300)
    parts = {
        "data/part-00000.parquet": corpus_part(rows[:200]),
        "data/part-00001.parquet": corpus_part(rows[200:], "test"),
    }
    corpus = make_artifact("Corpus", "corpus", parts)
    held = Validation(data="@corpus", every=10, patience=1)
    config = TUNE.model_copy(update={"validation": held})
    tokenizer = committed("Tokenizer", tokenizer_folder)
    return config, {"data": corpus, "tokenizer": tokenizer, "validation.data": corpus}


def assert_best_is_published(step: Step, outcome: Outcome) -> None:
    best = int(outcome.metrics["best_step"])
    history = json.loads(step.out.read("history.json"))
    losses = {p["step"]: p["validation_loss"] for p in history if "validation_loss" in p}
    assert best % 10 == 0
    assert outcome.metrics["validation_loss"] == min(losses.values()) == losses[best]
    assert outcome.counts["steps"] == len(history) == max(losses)


def test_weights_are_judged_beside_training_and_the_best_published(
    judged: tuple[TrainConfig, dict[str, Artifact]], step_for: Callable[..., Step]
) -> None:
    config, inputs = judged
    step = step_for(config, inputs)
    settings = {"config": config, "inputs": inputs, "out": step.out, "labels": ["bird", "fish"]}
    judge = threading.Thread(target=stage.judge, args=(settings,), daemon=True)
    judge.start()
    facts = stage.learn(settings)
    validate.end(step.out)
    judge.join(timeout=20)
    assert not judge.is_alive()
    assert_best_is_published(step, Outcome(**facts))
    # The published weights give the loss that they were chosen by.
    batch = f"{int(facts['metrics']['best_step']):08d}"
    handed = load(step.out.read(f".validation/{batch}.safetensors"))
    published = load(step.out.read("model.safetensors"))
    assert all(torch.equal(published[name], weight) for name, weight in handed.items())


@pytest.mark.slow
@pytest.mark.ray
def test_two_processes_and_one_are_judged_alike_in_a_task_beside_them(
    ray_local: None,
    judged: tuple[TrainConfig, dict[str, Artifact]],
    step_for: Callable[..., Step],
) -> None:
    config, inputs = judged
    two = step_for(config, inputs, "two")
    assert_best_is_published(two, stage.make(config, two))
    alone = step_for(config, inputs, "alone")
    alone = replace(alone, placement=alone.placement.model_copy(update={"workers": 1}))
    stage.make(config, alone)
    assert files(alone) == files(two)


@pytest.mark.slow
@pytest.mark.ray
def test_a_judge_that_fails_ends_the_step_with_its_reason(
    ray_local: None,
    judged: tuple[TrainConfig, dict[str, Artifact]],
    make_artifact: Callable[..., Artifact],
    step_for: Callable[..., Step],
) -> None:
    config, inputs = judged
    part = corpus_part([("mammal", "milk fur")] * 3, "test")
    strange = make_artifact("Corpus", "corpus", {"data/part-00000.parquet": part}, name="strange")
    step = step_for(config, inputs | {"validation.data": strange})
    with pytest.raises(RaylineError, match=r"validation: .*label 'mammal' is not one"):
        stage.make(config, step)


def test_one_label_alone_cannot_be_learnt(
    make_artifact: Callable[..., Artifact],
    committed: Committed,
    tokenizer_folder: Path,
    step_for: Callable[..., Step],
) -> None:
    part = corpus_part([("bird", "air flies wing")] * 9)
    inputs = {
        "data": make_artifact("Corpus", "corpus", {"data/part-00000.parquet": part}),
        "tokenizer": committed("Tokenizer", tokenizer_folder),
    }
    with pytest.raises(DataError, match="9 rows all have the label 'bird'"):
        stage.make(TUNE, step_for(TUNE, inputs))
