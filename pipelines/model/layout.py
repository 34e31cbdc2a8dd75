"""Which files a model's folder has, and what its `config.json` says, without loading torch.

A Model of ours and a plain transformers folder are alike but for `rayline.json`. Nothing here runs
code of the folder, and what would have some run (pickles, `auto_map`) is refused.
"""

import json
from pathlib import Path

from pipelines.core.config import Json
from pipelines.core.errors import ArtifactError
from pipelines.model.config import FAMILIES

CONFIG = "config.json"
TASK = "rayline.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def config_facts(folder: Path) -> Json:
    """What `config.json` says of a model of a known architecture.

    Raises:
        ArtifactError: it is missing, broken, of another architecture, or has code run (`auto_map`).
    """
    path = folder / CONFIG
    try:
        facts: Json = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}; give a model's folder") from error
    if "auto_map" in facts:
        raise ArtifactError(
            f"{path}: auto_map={facts['auto_map']} asks to run code that came with the model; "
            "expected a class of transformers' own; remove the entry if nothing needs it"
        )
    if facts.get("model_type") not in FAMILIES:
        raise ArtifactError(
            f"{path}: model_type={facts.get('model_type')!r}, expected one of {', '.join(FAMILIES)}"
        )
    return facts


def weight_files(folder: Path) -> list[str]:
    """Names of the safetensors files that hold the weights: one, or those an index names.

    Raises:
        ArtifactError: there are only pickled weights (beside a Model's own, none are allowed), or
            the index is broken or points outside the folder.
    """
    path = folder / INDEX
    pickled = sorted(file.name for file in folder.glob("*") if file.suffix in _PICKLED)
    ours, safe = (folder / TASK).exists(), path.exists() or (folder / WEIGHTS).exists()
    if pickled and (ours or not safe):
        raise ArtifactError(
            f"{folder}: {pickled[0]} is a pickle, which can run code when it is read; expected "
            f"{WEIGHTS} alone: convert the weights to safetensors and remove it"
        )
    if (folder / WEIGHTS).exists() or not path.exists():  # as transformers prefers it
        return [WEIGHTS]
    try:
        names = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: not a readable index of weights: {error!r}") from error
    if strange := [name for name in names if Path(name).name != name]:
        raise ArtifactError(f"{path}: names {strange[0]!r}, expected files beside it")
    return names
