"""A train step's settings and inputs in; what cannot work refused, before any process starts.

Also where a run begins: the folder whose tokenizer, and weights if there are any, it takes up.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

from pipelines.core.artifact import Artifact
from pipelines.core.errors import ConfigError, DataError
from pipelines.core.lineage import Node, ancestors
from pipelines.core.storage import Store
from pipelines.model.architectures import positions
from pipelines.model.checkpoint import read_config
from pipelines.model.config import FAMILIES
from pipelines.model.layout import config_facts
from pipelines.model.pretrained import open_pretrained
from pipelines.tasks.classify import select
from pipelines.tasks.config import Classify, MaskedLM
from pipelines.tokenizer.load import open_tokenizer
from pipelines.tokens.shards import Tokens
from pipelines.train.config import TrainConfig

VALIDATION = "validation.data"


def check(config: TrainConfig, inputs: Mapping[str, Artifact], storage: Store) -> None:
    """Refuse settings and inputs that do not fit together.

    Args:
        config: the settings.
        inputs: what they refer to.
        storage: where the ancestors of a start Model are looked for.

    Raises:
        ConfigError: data that the task does not read, or that was encoded by another tokenizer;
            rows longer than the model has positions; weights of another family; rows to judge on
            that are those learnt from.
        ArtifactError: a checkpoint that cannot be read, or is of another architecture.
        DataError: there are fewer rows than one batch has.
    """
    _check_family(config, inputs)
    for role in ("data", VALIDATION):
        if role in inputs:
            _check_data(config, inputs, role, storage)
    rows = num_rows(config, inputs["data"])
    if rows < config.optimise.batch_rows:
        raise DataError(
            f"train.data at {inputs['data'].uri} has {rows} rows, fewer than one batch of "
            f"optimise.batch_rows={config.optimise.batch_rows}; give more, or smaller batches"
        )
    if VALIDATION in inputs:
        _check_apart(config, inputs)


def beginning(config: TrainConfig, inputs: Mapping[str, Artifact]) -> Path:
    """The folder of the tokenizer, which has the first weights too if they are not drawn."""
    if config.pretrained is not None:
        return _pretrained(config.pretrained)
    return (inputs.get("tokenizer") or inputs["start"]).local()


@functools.cache  # it hashes every file
def _pretrained(source: str) -> Path:
    return open_pretrained(source).folder


def num_rows(config: TrainConfig, data: Artifact) -> int:
    """Rows that are learnt from."""
    if config.task.reads == "Tokens":
        return Tokens(data.local()).num_rows
    return int(select(data.local(), config.split, config.max_rows).num_rows)


def _check_family(config: TrainConfig, inputs: Mapping[str, Artifact]) -> None:
    if config.model is not None:  # checked with the settings
        return
    folder = beginning(config, inputs)
    architecture = config_facts(folder)["model_type"]
    if FAMILIES[architecture] != config.task.family:
        raise ConfigError(
            f"{folder} is a {architecture} of the family {FAMILIES[architecture]}, and "
            f"{config.task.kind} is a task of the family {config.task.family}; start from another "
            "model, or learn another task"
        )
    if isinstance(config.task, MaskedLM) and config.task.pair != "none" and architecture != "bert":
        raise ConfigError(
            f"{folder} is a {architecture}, which has no head for pairs; set task.pair=none"
        )


def _check_data(
    config: TrainConfig, inputs: Mapping[str, Artifact], role: str, storage: Store
) -> None:
    data = inputs[role]
    if data.kind != config.task.reads:
        raise ConfigError(
            f"train.{role} is a {data.kind} at {data.uri}; task {config.task.kind} "
            f"learns from a {config.task.reads}"
        )
    if isinstance(config.task, Classify):
        length = config.task.max_length
    else:
        _check_vocabulary(config, inputs, role, storage)
        length = Tokens(data.local()).length
    if config.model is not None:
        room: int | None = config.model.max_length
    else:
        room = positions(read_config(beginning(config, inputs)))
    if room is not None and length > room:
        raise ConfigError(
            f"rows of {length} tokens do not fit the model's {room} positions; shorten them "
            "(tokens.length or task.max_length) or raise model.max_length"
        )


def _check_vocabulary(
    config: TrainConfig, inputs: Mapping[str, Artifact], role: str, storage: Store
) -> None:
    """Refuse Tokens made with another tokenizer than that of the model."""
    tokens, folder = inputs[role], beginning(config, inputs)
    made_with, known = Tokens(tokens.local()).vocab_size, len(open_tokenizer(folder))
    record = tokens.manifest.inputs.get("tokenizer")
    own = None
    if "tokenizer" in inputs:
        own = inputs["tokenizer"].digest
    elif "start" in inputs:
        own = _tokenizer(ancestors(inputs["start"], storage))
    other = record and own and record.digest != own
    if made_with != known or other:
        raise ConfigError(
            f"train.{role} at {tokens.uri} was encoded by another tokenizer (of {made_with} "
            f"entries) than that at {folder} (of {known}); give the one the Tokens were made with"
        )


def _tokenizer(model: Node) -> str | None:
    """Digest of the Tokenizer a Model was made with, as far back as the manifests tell."""
    inputs = {node.role: node for node in model.made_from}
    if "tokenizer" in inputs:
        return inputs["tokenizer"].digest
    before = inputs.get("start") or inputs.get("model")  # of a train or a compress step
    return _tokenizer(before) if before else None


def _check_apart(config: TrainConfig, inputs: Mapping[str, Artifact]) -> None:
    """Refuse to judge on the rows that are learnt from: the last step would always be the best."""
    assert config.validation is not None
    data, judged = inputs["data"], inputs[VALIDATION]
    same_rows = config.task.reads == "Tokens" or config.validation.split == config.split
    if data.digest == judged.digest and same_rows:
        raise ConfigError(
            f"train.{VALIDATION} at {judged.uri} is what is learnt from; give rows that are not, "
            "such as another split of the corpus"
        )
    if config.task.reads == "Corpus":
        select(judged.local(), config.validation.split)  # raises if it is empty
