from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field, model_validator

from pipelines.core.config import (
    Config,
    Input,
    Location,
    StageConfig,
    assignment,
    identity,
    inputs,
    line_of,
    nearest,
    parse,
    put,
    read_yaml,
)
from pipelines.core.errors import ConfigError


class Square(Config):
    kind: Literal["square"] = "square"
    side: int = 1


class Circle(Config):
    kind: Literal["circle"] = "circle"
    radius: int = Field(default=1, ge=1)


Shape = Annotated[Square | Circle, Field(discriminator="kind")]


class Paint(Config):
    colour: str = "red"
    base: str | None = Input("Model", default=None, description="what is painted")


class DrawConfig(StageConfig):
    stage: ClassVar[str] = "draw"
    makes: ClassVar[str] = "Report"

    data: str = Input("Corpus", "Tokens", description="what is drawn")
    paths: tuple[str, ...] = Location(default=(), description="raw files")
    shape: Shape = Square()
    more: tuple[Shape, ...] = ()
    paint: Paint | None = None

    @model_validator(mode="after")
    def _painted(self):
        if self.paint and self.more:
            raise ValueError("set either paint or more")
        return self


def refusal(data, where="draw.yaml:7"):
    with pytest.raises(ConfigError) as caught:
        parse(DrawConfig, {"data": "@x"} | data, where)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"shap": {}}, "draw.yaml:7: unknown setting shap; did you mean shape?"),
        (
            {"shape": {"kind": "square", "sied": 2}},
            "draw.yaml:7: unknown setting shape.sied; did you mean side?",
        ),
        (
            {"more": [{"kind": "square"}, {"kind": "circle", "raduis": 2}]},
            "draw.yaml:7: unknown setting more.1.raduis; did you mean radius?",
        ),
        (
            {"paint": {"color": "blue"}},
            "draw.yaml:7: unknown setting paint.color; did you mean colour?",
        ),
        (
            {"shape": {"kind": "square", "radius": 2}},
            "draw.yaml:7: unknown setting shape.radius; valid: kind, side",
        ),
    ],
)
def test_an_unknown_setting_is_named_with_its_nearest_valid_neighbour(data, message):
    assert refusal(data) == message


def test_a_bad_value_is_shown_with_what_was_expected():
    assert refusal({"shape": {"kind": "circle", "radius": 0}}) == (
        "draw.yaml:7: shape.radius=0: Input should be greater than or equal to 1"
    )


def test_a_missing_setting_is_named():
    with pytest.raises(ConfigError, match=r"^here: data is required and not set$"):
        parse(DrawConfig, {}, "here")


def test_settings_that_contradict_each_other_are_explained_without_a_dump():
    message = refusal({"paint": {}, "more": [{"kind": "square"}]})
    assert message == "draw.yaml:7: set either paint or more"


def test_every_problem_is_reported_at_once():
    assert len(refusal({"shap": 1, "paintt": 2}).splitlines()) == 2


def test_a_union_of_another_kind_lists_the_kinds():
    assert "'square', 'circle'" in refusal({"shape": {"kind": "star"}})


def test_identity_leaves_out_inputs_and_raw_locations_at_every_depth():
    config = DrawConfig(data="@docs", paths=("/mnt/a.txt",), paint=Paint(base="@model"))
    assert identity(config) == {
        "shape": {"kind": "square", "side": 1},
        "more": [],
        "paint": {"colour": "red"},
    }


def test_inputs_are_found_inside_nested_groups_with_the_kinds_they_accept():
    config = DrawConfig(data="@docs", paint=Paint(base="s3://b/m"))
    assert inputs(config) == {
        "data": ("@docs", ("Corpus", "Tokens")),
        "paint.base": ("s3://b/m", ("Model",)),
    }
    assert "paint.base" not in inputs(DrawConfig(data="@docs", paint=Paint()))


YAML = """\
# a comment with radius: 3
draw:
  shape:
    kind: circle
    radius: 3
  more:
    - kind: square
      side: 9
other: {side: 1}
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("draw", 2),
        ("draw.shape.radius", 5),
        ("draw.more.0.side", 8),
        ("other.side", 9),
        ("draw.shape.nosuch", 3),
    ],
)
def test_the_line_of_a_setting_is_the_line_of_that_very_one(tmp_path, key, line):
    path = tmp_path / "draw.yaml"
    path.write_text(YAML)
    assert line_of(path, key) == f"{path}:{line}"


def test_a_key_that_the_file_lacks_has_the_file_as_its_place(tmp_path):
    path = tmp_path / "draw.yaml"
    path.write_text(YAML)
    assert line_of(path, "nosuch.key") == str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", r"not valid YAML(.|\n)*line 1"),
        ("- a\n- b\n", "expected `key: value` lines, found list"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_with_the_reason(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_yaml(path)


def test_a_missing_file_is_a_config_error_and_an_empty_one_is_no_settings(tmp_path):
    with pytest.raises(ConfigError, match="no such config file"):
        read_yaml(tmp_path / "none.yaml")
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    assert read_yaml(empty) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=3", ("a.b", 3)),
        ("a=[x, y]", ("a", ["x", "y"])),
        ("a=null", ("a", None)),
        ("a=", ("a", "")),
        ("a=b=c", ("a", "b=c")),
        ("a=@docs", ("a", "@docs")),  # not YAML: a reference
    ],
)
def test_an_assignment_is_a_dotted_key_and_a_yaml_value(text, expected):
    assert assignment(text) == expected


@pytest.mark.parametrize("text", ["steps", "=3"])
def test_an_assignment_without_a_key_or_value_is_refused(text):
    with pytest.raises(ConfigError, match="expected key=value"):
        assignment(text)


def test_put_reaches_into_mappings_and_lists():
    data = {"a": {"b": 1}, "items": [{"c": 1}, {"c": 2}]}
    put(data, "a.b", 5)
    put(data, "items.1.c", 7)
    put(data, "new.deep", 8)
    assert data == {"a": {"b": 5}, "items": [{"c": 1}, {"c": 7}], "new": {"deep": 8}}


@pytest.mark.parametrize("key", ["a.b.c", "items.2.c", "items.x", "a.b.c.d"])
def test_put_refuses_a_key_that_leads_nowhere(key):
    with pytest.raises(ConfigError, match="^" + key):
        put({"a": {"b": 1}, "items": [{}, {}]}, key, 0)


def test_nearest_lists_everything_when_nothing_is_close():
    assert nearest("zzz", ["train", "eval"]) == "valid: eval, train"
