"""A path or `hf://org/name` in; a checked local folder of a pretrained model, and its digests, out.

Light: no torch, so that `plan` can tell whether a checkpoint has changed.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pipelines.core.errors import ArtifactError
from pipelines.model.config import FAMILIES, Architecture, Family
from pipelines.model.layout import CONFIG, INDEX, TOKENIZER_FILES, config_facts, weight_files

HUB = "hf://"
_WANTED = (CONFIG, INDEX, "*.safetensors", *TOKENIZER_FILES)


@dataclass(frozen=True)
class Pretrained:
    """A plain transformers folder that `build.start` can begin from.

    `digests` are the SHA-256 of the files that decide what is loaded, by name.
    """

    folder: Path
    architecture: Architecture
    digests: dict[str, str]

    @property
    def family(self) -> Family:
        """What the model reads and writes."""
        return FAMILIES[self.architecture]


def open_pretrained(source: str) -> Pretrained:
    """The checkpoint at a local path, or at `hf://org/name[@revision]` of the Hugging Face hub.

    Files of the hub come from its cache on this machine, or are fetched into it.

    Raises:
        ArtifactError: it cannot be reached, is of another architecture, has no safetensors weights
            or no fast tokenizer, or wants code run.
    """
    folder = _fetched(source.removeprefix(HUB)) if source.startswith(HUB) else Path(source)
    if not folder.is_dir():
        raise ArtifactError(
            f"{source}: no such folder; give a transformers folder or {HUB}org/name"
        )
    facts, weights = config_facts(folder), weight_files(folder)
    for name in ("tokenizer.json", *weights):
        if not (folder / name).is_file():
            raise ArtifactError(
                f"{source}: has no {name}; expected {CONFIG}, tokenizer.json and safetensors "
                "weights, as save_pretrained writes them"
            )
    used = [CONFIG, INDEX, *weights, *TOKENIZER_FILES]
    digests = {name: _sha256(folder / name) for name in used if (folder / name).is_file()}
    return Pretrained(folder, facts["model_type"], digests)


def _fetched(name: str) -> Path:
    import huggingface_hub  # noqa: PLC0415  # half a second that a local path need not pay

    repository, _, revision = name.partition("@")
    try:
        found = huggingface_hub.snapshot_download(
            repository, revision=revision or None, allow_patterns=list(_WANTED)
        )
    except (OSError, ValueError) as error:  # no connection, offline, no such name, not a name
        raise ArtifactError(
            f"{HUB}{name}: not in this machine's cache and cannot be fetched: {error}; check the "
            "name and the connection, or give a local folder"
        ) from error
    return Path(found)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
