"""The Model folder: a transformers model, its task and its tokenizer to files, and back.

Layout: `config.json`, `model.safetensors`, the tokenizer's files, and `rayline.json` with the task.
The bytes follow from the weights alone. Reading runs no code of the folder: pickled weights and
`auto_map` are refused.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from pipelines.core.config import Json
from pipelines.core.errors import ArtifactError
from pipelines.tokenizer.load import open_tokenizer

WEIGHTS = "model.safetensors"
TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
_CLASSES = {kind.__name__: kind for kind in (BertForPreTraining, BertForSequenceClassification)}
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


class Loaded(NamedTuple):
    """A Model folder in memory: the model in evaluation mode, and the task's settings."""

    model: PreTrainedModel
    task: Json
    tokenizer: PreTrainedTokenizerFast


def save_model(
    model: PreTrainedModel,
    tokenizer_folder: Path,
    task: Json,
    max_length: int,
    folder: Path,
) -> None:
    """Write a Model folder that plain `from_pretrained` loads.

    Args:
        model: its parameters are written in their own precision.
        tokenizer_folder: a Tokenizer or Model folder; its tokenizer files are copied.
        task: settings of the task, such as `{"kind": "classify", "max_length": 128}`.
        max_length: most tokens a text, special tokens among them.
        folder: made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()
    }
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    config = model.config
    config.architectures = [type(model).__name__]
    config.dtype = model.dtype
    config.name_or_path = ""
    config.save_pretrained(folder)
    facts = {"task": task, "max_length": max_length}
    (folder / "rayline.json").write_text(json.dumps(facts, indent=1, sort_keys=True))
    for name in TOKENIZER_FILES:
        if (tokenizer_folder / name).exists():
            shutil.copyfile(tokenizer_folder / name, folder / name)


def load_model(folder: Path) -> Loaded:
    """The model, task and tokenizer of a Model folder.

    Raises:
        ArtifactError: a file is missing or broken, weights are pickled, the config wants code run,
            or a parameter is missing.
    """
    config = read_config(folder)
    model = _CLASSES[config.architectures[0]](config)
    if missing := supply(model, read_weights(folder)):
        raise ArtifactError(
            f"{folder}/{WEIGHTS}: {missing[0]} is missing or of another shape than config.json "
            f"says ({len(missing)} in all); make the Model anew"
        )
    return Loaded(model.eval(), read_facts(folder)["task"], open_tokenizer(folder))


def read_facts(folder: Path) -> Json:
    """What `rayline.json` says: `task` (its settings) and `max_length`.

    Raises:
        ArtifactError: the file is missing or not of this layout.
    """
    try:
        facts: Json = json.loads((folder / "rayline.json").read_text())
        return {"task": dict(facts["task"]), "max_length": int(facts["max_length"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{folder}/rayline.json: not readable: {error}; give the folder of a Model"
        ) from error


def read_config(folder: Path) -> BertConfig:
    """The shape in `config.json`.

    Raises:
        ArtifactError: it is missing, of another architecture, or has code run (`auto_map`).
    """
    try:
        facts = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder}/config.json: cannot be read: {error}") from error
    if "auto_map" in facts:
        raise ArtifactError(
            f"{folder}/config.json: auto_map={facts['auto_map']} asks to run code that came with "
            "the model; expected a class of transformers' own; remove the entry if nothing needs it"
        )
    if (facts.get("architectures") or [""])[0] not in _CLASSES:
        raise ArtifactError(
            f"{folder}/config.json: architectures={facts.get('architectures')}, expected one of "
            f"{', '.join(_CLASSES)}"
        )
    return BertConfig(**facts)


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a Model folder by parameter name.

    Raises:
        ArtifactError: there are none, they are pickled, or the file is broken.
    """
    path = folder / WEIGHTS
    pickled = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLED)
    if pickled:
        raise ArtifactError(
            f"{folder}: {pickled[0]} is a pickle, which can run code when it is read; expected "
            f"{WEIGHTS} alone: convert the weights to safetensors and remove it"
        )
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: not a readable safetensors file: {error}") from error


def supply(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> list[str]:
    """Copy `weights` to the parameters of equal name and shape; returns the names left alone."""
    left = []
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            tensor = weights.get(name)
            if tensor is None or tensor.shape != parameter.shape:
                left.append(name)
            else:
                parameter.copy_(tensor)
    return left
