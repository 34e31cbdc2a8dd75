"""A model's shape: a name or numbers, checked before anything is built."""

import pytest

from pipelines.core.config import Config, given, identity, parse
from pipelines.core.errors import ConfigError
from pipelines.model.config import FAMILIES, MINI, NANO, ModelConfig
from pipelines.model.sizes import SIZES

SHAPE = {"layers": 2, "width": 32, "heads": 4, "feedforward": 64}


class Settings(Config):
    """As a stage holds a shape."""

    model: ModelConfig | None = None


def read(model: object) -> ModelConfig:
    found = parse(Settings, {"model": model}, "here").model
    assert found is not None
    return found


def test_a_name_is_the_shape_it_stands_for():
    model = read("llama-nano")
    assert model == read(SIZES["llama-nano"])
    assert (model.architecture, model.layers, model.width, model.kv_heads) == ("llama", 5, 64, 4)
    assert read(model) is model


def test_a_name_is_written_out_where_settings_are_shown():
    shown = given(parse(Settings, {"model": "bert-mini"}, "here"))
    assert shown["model"] == SIZES["bert-mini"]
    assert parse(Settings, shown, "here").model == read("bert-mini")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"here: model='lama-7b': .*did you mean llama-7b\?"):
        read("lama-7b")


def test_the_schema_offers_the_names_beside_the_numbers():
    name, shape = Settings.model_json_schema()["$defs"]["ModelConfig"]["anyOf"]
    assert name["enum"] == list(SIZES)
    assert shape["properties"]["kv_heads"]["description"].startswith("llama and qwen3")


def test_the_constants_are_the_named_sizes():
    assert identity(NANO) == identity(read("bert-nano")) == identity(read("bert-tiny"))
    assert identity(MINI) == identity(read("bert-mini"))


@pytest.mark.parametrize("name", SIZES)
def test_every_name_says_its_architecture_and_is_a_shape(name):
    model = read(name)
    assert name.split("-")[0] == model.architecture
    assert model.family == FAMILIES[model.architecture]


def test_each_family_has_a_size_for_seconds_and_decoders_have_one_of_7b():
    assert {read(name).family for name in SIZES if name.endswith("-nano")} == {*FAMILIES.values()}
    assert read("llama-7b").family == "decoder"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"kv_heads": 2}, r"kv_heads has no effect on bert"),
        ({"tied": True}, r"tied has no effect on bert"),
        ({"head_width": 8}, r"head_width has no effect on bert"),
        ({"architecture": "llama", "head_width": 8}, r"head_width has no effect on llama"),
        ({"architecture": "t5", "kv_heads": 2}, r"kv_heads has no effect on t5"),
        ({"architecture": "llama", "kv_heads": 3}, r"heads=4 must divide by kv_heads=3"),
        ({"width": 33}, r"width=33 must divide by heads=4"),
        ({"architecture": "llama", "width": 36}, r"9 wide.*even"),
        ({"architecture": "gpt"}, r"model.architecture='gpt'.*'bert', 'modernbert'"),
        ({"kv_head": 2}, r"unknown setting model.kv_head; did you mean kv_heads\?"),
    ],
)
def test_settings_that_cannot_work_are_refused(more, message):
    with pytest.raises(ConfigError, match=message):
        read(SHAPE | more)


def test_heads_may_be_wider_than_their_share_where_the_architecture_allows_it():
    assert read(SHAPE | {"architecture": "qwen3", "head_width": 16}).width_of_head == 16
    assert read(SHAPE | {"architecture": "qwen3"}).width_of_head == 8
