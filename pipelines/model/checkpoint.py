"""The Model folder: a transformers model, its task and its tokenizer to files, and back.

Layout: `config.json`, `model.safetensors`, the tokenizer's files, `rayline.json` with the task, and
`generation_config.json` if the model writes text. The bytes follow from the weights alone. Reading
runs no code of the folder: pickled weights and `auto_map` are refused, the attention kernel that a
config asks for is not fetched.
Weights in several files (`model.safetensors.index.json`) are read, and never written.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from pipelines.core.config import Json
from pipelines.core.errors import ArtifactError
from pipelines.model.architectures import CLASSES, CONFIGS
from pipelines.model.layout import (
    CONFIG,
    TASK,
    TOKENIZER_FILES,
    WEIGHTS,
    config_facts,
    weight_files,
)
from pipelines.tokenizer.load import open_tokenizer

# Scaled-dot-product attention was slightly faster than eager here at 128 tokens (AVX2, one thread);
# the exporters read the same weights whichever is used.
ATTENTION = "sdpa"


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
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in _tensors(model)}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    config = model.config
    config.architectures = [type(model).__name__]
    config.dtype = model.dtype
    config.name_or_path = ""
    config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    facts = {"task": task, "max_length": max_length}
    (folder / TASK).write_text(json.dumps(facts, indent=1, sort_keys=True))
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
    if (config.architectures or [""])[0] not in CLASSES:
        raise ArtifactError(
            f"{folder}/{CONFIG}: architectures={config.architectures}, expected one of "
            f"{', '.join(CLASSES)}"
        )
    model = CLASSES[config.architectures[0]](config)
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
        facts: Json = json.loads((folder / TASK).read_text())
        return {"task": dict(facts["task"]), "max_length": int(facts["max_length"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{folder}/{TASK}: not readable: {error}; give the folder of a Model"
        ) from error


def read_config(folder: Path) -> PreTrainedConfig:
    """The shape in `config.json`, and our own choice of attention kernel.

    Raises:
        ArtifactError: it is missing, broken, of another architecture, or has code run (`auto_map`).
    """
    facts = config_facts(folder)
    kind = facts["model_type"]
    try:
        config = CONFIGS[kind](**facts)
    except (ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        problem = " ".join(str(error).split())
        raise ArtifactError(f"{folder}/{CONFIG}: not the config of a {kind}: {problem}") from error
    config._attn_implementation = ATTENTION
    return config


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a Model or plain transformers folder by parameter name.

    Raises:
        ArtifactError: there are none, they are pickled, or a file is broken or missing.
    """
    weights: dict[str, torch.Tensor] = {}
    for name in weight_files(folder):
        try:
            weights |= load_file(folder / name)
        except (OSError, SafetensorError) as error:
            raise ArtifactError(
                f"{folder / name}: not a readable safetensors file: {error}"
            ) from error
    return weights


def supply(model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> list[str]:
    """Copy `weights` to the tensors of equal name and shape; returns the names left alone.

    A checkpoint of the model without its heads, whose names lack their first part, serves too. Two
    tensors that the class shares but the checkpoint tells apart, as T5 1.1's table and head, are
    told apart in the model from then on.
    """
    with torch.no_grad():
        _part(model, weights)
        left = []
        for name, own in _tensors(model):
            tensor = _find(model, name, weights)
            if tensor is None or tensor.shape != own.shape:
                left.append(name)
            else:
                own.copy_(tensor)
    return left


def _tensors(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters, shared ones once, and the buffers that belong to a checkpoint."""
    yield from model.named_parameters()
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    yield from ((name, at) for name, at in model.state_dict().items() if name not in parameters)


def _part(model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Give each tensor its own place where the class shares two that differ in `weights`."""
    for name, shared_with in list(model.all_tied_weights_keys.items()):
        one, other = weights.get(name), weights.get(shared_with)
        if one is not None and other is not None and not torch.equal(one, other):
            place, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(place), leaf, torch.nn.Parameter(one.float().clone()))
            del model.all_tied_weights_keys[name]


def _find(
    model: PreTrainedModel, name: str, weights: Mapping[str, torch.Tensor]
) -> torch.Tensor | None:
    """The tensor of a parameter, under its own name or another one that checkpoints have for it.

    Another is that of a parameter it is shared with, one without the first part, or one that ends
    in gamma or beta, as BERT's norms did before 2019.
    """
    shared = [tied for tied, source in model.all_tied_weights_keys.items() if source == name]
    for full in (name, *shared):
        for known in (full, full.removeprefix(f"{model.base_model_prefix}.")):
            old = known.replace("LayerNorm.weight", "LayerNorm.gamma")
            for spelt in (known, old.replace("LayerNorm.bias", "LayerNorm.beta")):
                if (tensor := weights.get(spelt)) is not None:
                    return tensor
    return None
