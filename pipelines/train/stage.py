"""Tokens | Corpus (+ Model) -> Model, on Ray Train: pretraining and fine-tuning, by one loop."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipelines.core.artifact import Artifact, Workspace
from pipelines.core.cluster import remotely
from pipelines.core.config import Json
from pipelines.core.errors import DataError, StorageError
from pipelines.core.group import distributed
from pipelines.core.storage import Store
from pipelines.core.workflow import Outcome, Step
from pipelines.model import warm
from pipelines.model.build import Labels, Vocabulary, build, start
from pipelines.tasks.batches import Batches
from pipelines.tasks.classify import labelled, select
from pipelines.tasks.config import Classify
from pipelines.tasks.open import Rows, open_task
from pipelines.tokenizer.load import open_tokenizer
from pipelines.tokens.shards import Tokens
from pipelines.train import validate
from pipelines.train.check import VALIDATION, beginning, check
from pipelines.train.config import TrainConfig
from pipelines.train.loop import batches_of, fit
from pipelines.train.publish import publish
from pipelines.train.team import Team

log = logging.getLogger(__name__)

JUDGED_S = 10.0  # that a judge is waited for; it may be in the midst of a failed run's weights
JUDGE_SEED = 0  # of masks and order; one for all runs, so that their validation losses compare


def make(config: TrainConfig, step: Step) -> Outcome:
    """Learn the task, in as many processes as the placement says and the batch has parts.

    Raises:
        ConfigError: settings and inputs do not fit together.
        DataError: rows without a label, too few rows, or a loss that is not finite.
    """
    check(config, step.inputs, Store.at(step.placement.storage))
    if config.warm_start:
        # Before the group starts: its processes would wait for one, and give it up after 300 s.
        remotely(_warm, config, step.inputs["data"], step.out)
    settings = {
        "config": config,
        "inputs": dict(step.inputs),
        "out": step.out,
        "labels": _labels(config, step.inputs["data"]),
    }
    with _judged(settings):
        facts = distributed(
            learn,
            settings,
            name=step.name,
            workers=step.placement.workers,
            parts=config.optimise.shards,
            cpus=step.placement.worker_cpus,
            out=step.out,
            report=step.report,
        )
    return Outcome(**facts)


def learn(settings: Json) -> Json:
    """One process's work; process 0 writes the Model and returns its figures."""
    config: TrainConfig = settings["config"]
    inputs: dict[str, Artifact] = settings["inputs"]
    out: Workspace = settings["out"]
    team = Team()
    # A node may have to download them first, while another has them.
    source = team.done(partial(beginning, config, inputs))
    data = team.done(inputs["data"].local)
    model = _model(config, source, settings["labels"])
    if config.warm_start:
        with torch.no_grad():
            table = model.get_input_embeddings().weight
            table.copy_(torch.from_numpy(warm.read(out)))
    optimise, judging = config.optimise, None
    rows = Rows(data, source, settings["labels"], config.split, config.max_rows)
    task, max_length = open_task(config.task, rows, optimise.seed)
    batches = batches_of(task, optimise)
    if config.validation:
        score = validate.remembered(partial(validate.score_of, out))
        judging = validate.Judging(config.validation.every, config.validation.patience, score)
    fitted = fit(model, batches, optimise, out, judging)
    if team.rank:
        return {}
    facts = publish(out, fitted, model, source, config.task.model_dump(mode="json"), max_length)
    facts["counts"]["rows"] = batches.num_rows
    return facts


@contextlib.contextmanager
def _judged(settings: Json) -> Iterator[None]:
    """Have a Ray task judge the weights that the block's processes hand in, if they do."""
    out: Workspace = settings["out"]
    if settings["config"].validation is None:
        yield
        return
    validate.begin(out)

    def follow() -> None:
        try:
            # Training may hold every CPU, and waits for scores.
            remotely(judge, settings, cpus=0)
        except Exception as error:  # noqa: BLE001 (told to the processes that wait for a score)
            log.warning("validation failed: %s", error)
            validate.end(out, str(error))

    thread = threading.Thread(target=follow, name="validation", daemon=True)
    thread.start()
    try:
        yield
        validate.end(out)
    except BaseException:
        with contextlib.suppress(StorageError):  # it is the first error that is to be told
            validate.end(out, "the training that it judged has ended with an error")
        raise
    finally:
        thread.join(JUDGED_S)


def judge(settings: Json) -> None:
    """Judge what is handed in, until the run ends; in a process of its own."""
    torch.set_num_threads(1)
    config: TrainConfig = settings["config"]
    inputs: dict[str, Artifact] = settings["inputs"]
    held = config.validation
    assert held is not None
    source = beginning(config, inputs)
    model = _model(config, source, settings["labels"])
    rows = Rows(inputs[VALIDATION].local(), source, settings["labels"], held.split)
    size = config.optimise.batch_rows
    task, _ = open_task(config.task, rows, JUDGE_SEED)
    batches = Batches(task, seed=JUDGE_SEED, batch_rows=size, parts=1)

    def judged(weights: dict[str, torch.Tensor]) -> validate.Score:
        validate.put(model, weights)
        return validate.judge(model, batches, held.rows)

    validate.keep_judging(settings["out"], judged)


def _warm(config: TrainConfig, data: Artifact, out: Workspace) -> None:
    """Work the first token embeddings out, in a Ray worker."""
    assert config.model is not None
    warm.write(Tokens(data.local()), config.model.width, config.optimise.seed, out)


def _labels(config: TrainConfig, data: Artifact) -> list[str]:
    if not isinstance(config.task, Classify):
        return []
    table = select(data.local(), config.split, config.max_rows)
    names = sorted(set(labelled(table, data.uri)))
    if len(names) < 2:
        raise DataError(
            f"{data.uri}: its {table.num_rows} rows all have the label {names[0]!r}; expected two "
            "or more: take more rows or another corpus"
        )
    return names


def _model(config: TrainConfig, source: Path, names: list[str]) -> Any:
    labels = Labels(names, config.task.dropout) if isinstance(config.task, Classify) else None
    if config.model is None:
        return start(source, labels, config.optimise.seed)
    vocabulary = Vocabulary.of(open_tokenizer(source))
    return build(config.model, vocabulary, labels, config.optimise.seed)
