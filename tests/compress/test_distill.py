"""Distillation: the loss by hand, and a student that learns its teacher's answers."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.compress import distill
from pipelines.compress.config import CompressConfig, Distill
from pipelines.core.artifact import Artifact, Workspace, commit
from pipelines.core.storage import Store
from pipelines.model.checkpoint import load_model
from pipelines.model.config import ModelConfig
from pipelines.tasks.classify import ClassifyTask
from pipelines.train.config import Optimise

STUDENT = ModelConfig(layers=1, width=16, heads=2, feedforward=32, max_length=64)
OPTIMISE = Optimise(steps=120, batch_rows=16, learning_rate=1e-2)
METHOD = Distill(student=STUDENT, temperature=2, soft_share=0.75, optimise=OPTIMISE)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_loss_is_the_softened_divergence_and_the_labels_part() -> None:
    rows = [np.array([1, 2, 3])]
    texts = ClassifyTask(rows, np.array([1]), pad_id=0)
    task = distill.DistillTask(texts, np.array([[2 * math.log(3), 0]], np.float32), METHOD)
    batch = task.batch(np.array([0]), 0)

    def undecided(**given: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.zeros(1, 2))

    sums = task.sums(undecided, batch)
    # At T = 2 the teacher says 3/4 and 1/4, the student 1/2 and 1/2.
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(sums["soft_loss"]) == pytest.approx(expected, abs=1e-6)
    assert float(sums["label_loss"]) == pytest.approx(math.log(2))
    assert task.objectives == {"soft_loss": 0.75 * 4, "label_loss": 0.25}


@pytest.fixture
def settings(tiny_classifier: Artifact, tmp_path: Path) -> dict[str, Any]:
    """Sixty-four words without labels for the tiny classifier to judge."""
    from tests.train.conftest import corpus_part

    work = Workspace.take(Store.at(str(tmp_path / ".corpus")))
    words = [f"{'abcdefgh'[n % 8]}{'abcdefgh'[n // 8]} {n % 10}" for n in range(64)]
    work.write("data/part-00000.parquet", corpus_part([(None, word) for word in words]))
    facts = {"kind": "Corpus", "stage": "corpus", "name": "c", "fingerprint": "0" * 64}
    facts |= {"identity": {}, "inputs": {}}
    corpus = commit(work, Store.at(str(tmp_path / "corpus")), facts)
    return {
        "config": CompressConfig(model="@m", data="@c", method=METHOD),
        "inputs": {"model": tiny_classifier, "data": corpus},
        "out": Workspace.take(Store.at(str(tmp_path / "work"))),
    }


def test_a_student_learns_its_teachers_answers(settings: dict[str, Any]) -> None:
    facts = distill.learn(settings)
    history = json.loads(settings["out"].read("history.json"))
    assert history[0]["agreement"] < 0.7
    assert facts["metrics"]["agreement"] > 0.8
    assert facts["metrics"]["soft_loss"] < history[0]["soft_loss"] / 2
    assert facts["counts"]["rows"] == 64
    student = load_model(Path(settings["out"].store.uri))
    assert student.model.config.hidden_size == 16
    assert student.model.config.id2label == {0: "no", 1: "yes"}


def test_a_restart_uses_the_logits_that_are_there(settings: dict[str, Any]) -> None:
    out = settings["out"]
    short = METHOD.model_copy(update={"optimise": OPTIMISE.model_copy(update={"steps": 4})})
    settings["config"] = settings["config"].model_copy(update={"method": short})
    distill.learn(settings)
    first = out.read("model.safetensors")
    out.delete(".checkpoints")
    (name,) = out.names(".teacher")
    distill.learn(settings)
    assert out.read("model.safetensors") == first
    out.delete(".checkpoints")
    wrong = np.load(Path(out.store.uri) / name) * -1
    np.save(Path(out.store.uri) / name, wrong)
    distill.learn(settings)
    assert out.read("model.safetensors") != first
