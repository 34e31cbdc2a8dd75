"""Checkpoints of others: found, checked and hashed, from a folder or the hub's cache."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest

from pipelines.core.errors import ArtifactError
from pipelines.model.build import start
from pipelines.model.pretrained import open_pretrained

COMMIT = "c0ffee" + "0" * 34


@pytest.fixture
def folder(make_model, tokenizer_folder, tmp_path: Path) -> Path:
    """A plain transformers folder."""
    found = tmp_path / "plain"
    make_model("qwen3").save_pretrained(found)
    shutil.copytree(tokenizer_folder, found, dirs_exist_ok=True)
    return found


@pytest.fixture
def cache(folder, tmp_path, monkeypatch) -> Path:
    """A hub cache that holds the folder as `someone/small`."""
    cache = tmp_path / "hub"
    repository = cache / "models--someone--small"
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache


def test_a_folder_is_told_by_the_files_that_are_loaded(folder):
    found = open_pretrained(str(folder))
    assert (found.folder, found.architecture, found.family) == (folder, "qwen3", "decoder")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(found.digests)
    for name, digest in found.digests.items():
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "README.md").write_text("not loaded")
    assert open_pretrained(str(folder)).digests == found.digests
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert open_pretrained(str(folder)).digests != found.digests


def test_a_model_of_the_hub_comes_from_its_cache(cache):
    for name in ("hf://someone/small", f"hf://someone/small@{COMMIT}"):
        found = open_pretrained(name)
        assert found.folder == cache / "models--someone--small" / "snapshots" / COMMIT
        assert start(found.folder, None, seed=0).config.model_type == "qwen3"


@pytest.mark.parametrize("name", ["hf://someone/other", "hf://someone/small@other", "hf://a/b/c"])
def test_what_the_hub_does_not_give_is_one_clear_error(cache, name):
    with pytest.raises(ArtifactError, match=rf"{name}: not in this machine's cache.*local folder"):
        open_pretrained(name)


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors", "config.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        open_pretrained(str(folder))


def test_no_folder_is_one_clear_error(tmp_path):
    with pytest.raises(ArtifactError, match=r"/none: no such folder; give a transformers folder"):
        open_pretrained(str(tmp_path / "none"))


def test_another_architecture_is_one_clear_error(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(ArtifactError, match=r"model_type='mamba', expected one of bert"):
        open_pretrained(str(folder))


def test_the_shared_decoder_is_found(shared_data):
    found = open_pretrained(str(shared_data / "models" / "stories260K-hf"))
    assert found.family == "decoder"


def test_finding_loads_no_torch(folder):
    code = (
        "import sys; from pipelines.model.pretrained import open_pretrained\n"
        f"open_pretrained({str(folder)!r}); print({{'torch', 'transformers'}} & {{*sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
