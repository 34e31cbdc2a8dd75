"""A model's folder is judged by its files before anything of it is loaded."""

import json
from pathlib import Path

import pytest

from pipelines.core.errors import ArtifactError
from pipelines.model.layout import config_facts, weight_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return tmp_path


def index(folder: Path, names: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def test_a_known_architecture_is_read(folder):
    assert config_facts(folder) == {"model_type": "llama"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_type": "gpt2"}', r"model_type='gpt2', expected one of bert, modernbert, llama"),
        ("{}", r"model_type=None"),
        ('{"model_type": "bert", "auto_map": {"AutoModel": "x.Y"}}', r"auto_map=.*asks to run"),
        ("{", r"config.json: cannot be read"),
        ("[1]", r"config.json: cannot be read"),
    ],
)
def test_other_configs_are_refused(folder, text, message):
    (folder / "config.json").write_text(text)
    with pytest.raises(ArtifactError, match=message):
        config_facts(folder)


def test_one_file_or_those_of_an_index(folder):
    assert weight_files(folder) == ["model.safetensors"]
    index(folder, {"a": "two.safetensors", "b": "one.safetensors", "c": "two.safetensors"})
    assert weight_files(folder) == ["one.safetensors", "two.safetensors"]
    (folder / "model.safetensors").touch()
    assert weight_files(folder) == ["model.safetensors"]


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "a/b.safetensors"])
def test_an_index_that_points_elsewhere_is_refused(folder, name):
    index(folder, {"a": name})
    with pytest.raises(ArtifactError, match=r"expected files beside it"):
        weight_files(folder)


def test_a_broken_index_is_named(folder):
    index(folder, ["a"])
    with pytest.raises(ArtifactError, match=r"model.safetensors.index.json: not a readable"):
        weight_files(folder)


def test_pickled_weights_are_passed_over_where_safe_ones_lie_beside_them(folder):
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(ArtifactError, match=r"pytorch_model.bin is a pickle"):
        weight_files(folder)
    (folder / "model.safetensors").touch()
    assert weight_files(folder) == ["model.safetensors"]
    (folder / "rayline.json").touch()  # in a Model of ours nothing wrote one
    with pytest.raises(ArtifactError, match=r"pytorch_model.bin is a pickle"):
        weight_files(folder)
