"""Tokens | Corpus (+ Model) -> Model, on Ray Train: pretraining and fine-tuning, by one loop."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipelines.core.artifact import Artifact, Workspace
from pipelines.core.cluster import remotely
from pipelines.core.config import Json
from pipelines.core.errors import ConfigError, DataError
from pipelines.core.group import distributed
from pipelines.core.lineage import Node, ancestors
from pipelines.core.storage import Store
from pipelines.core.workflow import Outcome, Step
from pipelines.model import warm
from pipelines.model.build import Labels, Vocabulary, build, start
from pipelines.model.checkpoint import read_config
from pipelines.tasks.classify import labelled, select
from pipelines.tasks.config import Classify, MaskedLM
from pipelines.tasks.open import Batching, Rows, open_task
from pipelines.tokenizer.load import open_tokenizer
from pipelines.tokens.shards import Tokens
from pipelines.train.config import TrainConfig
from pipelines.train.loop import fit
from pipelines.train.publish import publish
from pipelines.train.team import Team


def make(config: TrainConfig, step: Step) -> Outcome:
    """Learn the task, in as many processes as the placement says and the batch has parts.

    Raises:
        ConfigError: settings and inputs do not fit together.
        DataError: rows without a label, or a loss that is not finite.
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
    facts = distributed(
        learn,
        settings,
        name=step.name,
        workers=min(step.placement.workers, config.optimise.shards),
        out=step.out,
        report=step.report,
    )
    return Outcome(**facts)


def check(config: TrainConfig, inputs: Mapping[str, Artifact], storage: Store) -> None:
    """Refuse settings that cannot work, before any process starts.

    Args:
        config: the settings.
        inputs: what they refer to.
        storage: where the ancestors of a start Model are looked for.

    Raises:
        ConfigError: the data is not what the task reads, was encoded by another tokenizer, or has
            rows longer than the model has positions.
    """
    data, source = inputs["data"], inputs.get("tokenizer") or inputs["start"]
    wanted = "Tokens" if isinstance(config.task, MaskedLM) else "Corpus"
    if data.kind != wanted:
        raise ConfigError(
            f"train.data is a {data.kind} at {data.uri}; task {config.task.kind} "
            f"learns from a {wanted}"
        )
    if isinstance(config.task, Classify):
        length = config.task.max_length
    else:
        _check_vocabulary(data, source, storage)
        length = Tokens(data.local()).length
    positions = _positions(config, inputs)
    if length > positions:
        raise ConfigError(
            f"rows of {length} tokens do not fit the model's {positions} positions; shorten them "
            "(tokens.length or task.max_length) or raise model.max_length"
        )


def _check_vocabulary(tokens: Artifact, source: Artifact, storage: Store) -> None:
    """Refuse Tokens made with another tokenizer than that of `source` (a Tokenizer or Model)."""
    made_with, known = Tokens(tokens.local()).vocab_size, len(open_tokenizer(source.local()))
    record = tokens.manifest.inputs.get("tokenizer")
    own = source.digest if source.kind == "Tokenizer" else _tokenizer(ancestors(source, storage))
    other = record and own and record.digest != own
    if made_with != known or other:
        raise ConfigError(
            f"train.data at {tokens.uri} was encoded by another tokenizer (of {made_with} entries) "
            f"than that at {source.uri} (of {known}); give the one the Tokens were made with"
        )


def _tokenizer(model: Node) -> str | None:
    """Digest of the Tokenizer a Model was made with, as far back as the manifests tell."""
    inputs = {node.role: node for node in model.made_from}
    if "tokenizer" in inputs:
        return inputs["tokenizer"].digest
    before = inputs.get("start") or inputs.get("model")  # of a train or a compress step
    return _tokenizer(before) if before else None


def _warm(config: TrainConfig, data: Artifact, out: Workspace) -> None:
    """Work the first token embeddings out, in a Ray worker."""
    assert config.model is not None
    warm.write(Tokens(data.local()), config.model.width, config.optimise.seed, out)


def learn(settings: Json) -> Json:
    """One process's work; process 0 writes the Model and returns its figures."""
    config: TrainConfig = settings["config"]
    inputs: dict[str, Artifact] = settings["inputs"]
    source = (inputs.get("tokenizer") or inputs["start"]).local()
    model = _model(config, inputs, source, settings["labels"])
    if config.warm_start:
        with torch.no_grad():
            table = model.get_input_embeddings().weight
            table.copy_(torch.from_numpy(warm.read(settings["out"])))
    optimise = config.optimise
    rows = Rows(inputs["data"].local(), source, settings["labels"], config.split, config.max_rows)
    order = Batching(optimise.seed, optimise.batch_rows, optimise.shards)
    task, max_length = open_task(config.task, rows, order)
    fitted = fit(model, task, optimise, settings["out"])
    if Team().rank:
        return {}
    facts = publish(
        settings["out"], fitted, model, source, config.task.model_dump(mode="json"), max_length
    )
    facts["counts"]["rows"] = task.num_rows
    return facts


def _labels(config: TrainConfig, data: Artifact) -> list[str]:
    if isinstance(config.task, MaskedLM):
        return []
    table = select(data.local(), config.split, config.max_rows)
    names = sorted(set(labelled(table, data.uri)))
    if len(names) < 2:
        raise DataError(
            f"{data.uri}: its {table.num_rows} rows all have the label {names[0]!r}; expected two "
            "or more: take more rows or another corpus"
        )
    return names


def _positions(config: TrainConfig, inputs: Mapping[str, Artifact]) -> int:
    if config.model is not None:
        return config.model.max_length
    return int(read_config(inputs["start"].local()).max_position_embeddings)


def _model(config: TrainConfig, inputs: dict[str, Artifact], source: Path, names: list[str]) -> Any:
    labels = None
    if isinstance(config.task, Classify):
        labels = Labels(names, config.task.dropout)
    if config.model is None:
        return start(inputs["start"].local(), labels, config.optimise.seed)
    tokenizer = open_tokenizer(source)
    vocabulary = Vocabulary(len(tokenizer), tokenizer.pad_token_id)
    return build(config.model, vocabulary, labels, config.optimise.seed)
