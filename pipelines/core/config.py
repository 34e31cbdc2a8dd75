"""Settings: strict, frozen pydantic models; text in (YAML, `a.b=value`), checked configs out.

A config says *what* a step is; where it runs (`Placement`) is kept apart and never enters identity.
"""

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from pipelines.core.errors import ConfigError

Json = dict[str, Any]
COMMAND_LINE = "command line"


class Config(BaseModel):
    """A frozen group of settings; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StageConfig(Config):
    """The settings of one stage; everything in it except raw locations is its identity.

    A subclass names its folder in `stage`, the artifact kind it makes in `makes`, and raises
    `version` by one when the same settings and inputs would now give other bytes.
    """

    stage: ClassVar[str]
    makes: ClassVar[str]
    version: ClassVar[int] = 1

    def raw_digests(self) -> dict[str, str]:
        """Content digests of the raw files the stage reads, by a name free of location."""
        return {}

    def estimate(self) -> str:
        """How much work a run is, as far as the settings alone tell."""
        return ""


class Placement(Config):
    """Where and how widely a run executes; never part of identity."""

    storage: str = Field(default="runs", description="root of all artifacts: a path or s3:// URI")
    address: str | None = Field(default=None, description="Ray address; None starts a local Ray")
    workers: int = Field(default=2, ge=1, description="training processes of a train step")
    worker_cpus: int = Field(
        default=1, ge=1, description="CPUs of each, and threads; with several, sums round otherwise"
    )
    cpus: int | None = Field(
        default=None, ge=1, description="CPUs of the local Ray; None takes those of this machine"
    )


ConfigT = TypeVar("ConfigT", bound=Config)


def Input(*kinds: str, description: str, default: Any = ...) -> Any:  # noqa: N802 (reads as Field)
    """A field that holds an input artifact: `@step` of the same workflow, or a URI."""
    return Field(default=default, description=description, json_schema_extra={"input": list(kinds)})


def Location(*, description: str, default: Any = ...) -> Any:  # noqa: N802 (reads as Field)
    """A field that says where raw data lies; its content, not its place, is identity."""
    return Field(default=default, description=description, json_schema_extra={"identity": False})


def inputs(config: Config) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Input fields that are set: dotted field -> (reference, accepted artifact kinds)."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for name, info, value in _fields(config):
        kinds = _mark(info, "input")
        if kinds is not None and value is not None:
            found[name] = (str(value), tuple(kinds))
        elif isinstance(value, Config):
            found |= {f"{name}.{inner}": ref for inner, ref in inputs(value).items()}
    return found


def given(config: Config) -> Json:
    """The JSON of what was set in `config`, of which `parse` makes the same config again."""
    return {
        name: _plain(value, given)
        for name, _, value in _fields(config)
        if name in config.model_fields_set or name == "kind"
    }


def identity(config: Config) -> Json:
    """The JSON of `config` that bears identity: no input references and no raw locations."""
    kept: Json = {}
    for name, info, value in _fields(config):
        if _mark(info, "input") is not None or _mark(info, "identity") is False:
            continue
        kept[name] = _plain(value, identity)
    return kept


def parse(
    schema: type[ConfigT], data: Mapping[str, Any], where: str | Callable[[str], str]
) -> ConfigT:
    """`data` checked against `schema`.

    Args:
        schema: the settings' class.
        data: their values.
        where: the place they were read from, or a function that tells it of a dotted key.

    Raises:
        ConfigError: names the key, the nearest valid one and where it was read.
    """
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        lines = [_explain(schema, dict(problem), where) for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def read_yaml(path: Path) -> Json:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, not YAML (with line and column), or not a mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file; give an existing YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a readable YAML file: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(data or {}, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, found {type(data).__name__}")
    if odd := [key for key in data or {} if not isinstance(key, str)]:
        raise ConfigError(f"{path}: the key {odd[0]!r} is no name; put it in quotes if it is one")
    return data or {}


def origin(file: Path | None, assigned: Collection[str], prefix: str = "") -> Callable[[str], str]:
    """Where each dotted key was set: the command line or a line of the file.

    Args:
        file: the YAML file, if there is one.
        assigned: the keys set on the command line.
        prefix: what stands before a key in the file and on the command line.
    """

    def where(key: str) -> str:
        full = f"{prefix}{key}"
        if file is None or any(f"{full}.".startswith(f"{other}.") for other in assigned):
            return COMMAND_LINE
        return line_of(file, full)

    return where


def line_of(path: Path, key: str) -> str:
    """`path:line` of the dotted `key` in a YAML file, or of as much of it as is there."""
    node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    place = str(path)
    for part in key.split("."):
        match node:
            case yaml.MappingNode(value=pairs):
                found = [(name, value) for name, value in pairs if name.value == part]
            case yaml.SequenceNode(value=items) if part.isdigit():
                found = [(item, item) for item in items[int(part) : int(part) + 1]]
            case _:
                found = []
        if not found:
            break
        name, node = found[0]
        place = f"{path}:{name.start_mark.line + 1}"
    return place


def assignment(text: str) -> tuple[str, Any]:
    """`a.b=value` as a dotted key and its YAML value.

    Raises:
        ConfigError: there is no `=` in it, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{text!r}: expected key=value, for example pretrain.steps=200")
    try:
        return key, yaml.safe_load(value) if value else ""
    except yaml.YAMLError:
        return key, value


def put(data: Json, key: str, value: Any) -> None:
    """Set the dotted `key` of nested mappings and lists (`sources.0.text`) in place.

    Raises:
        ConfigError: a part of it is a single value, or a list has no such number.
    """
    *parents, leaf = key.split(".")
    inner: Any = data
    for parent in parents:
        if isinstance(inner, dict):
            inner = inner.setdefault(parent, {})
        else:
            inner = inner[_index(inner, parent, key)]
    if isinstance(inner, dict):
        inner[leaf] = value
    else:
        inner[_index(inner, leaf, key)] = value


def _index(items: Any, part: str, key: str) -> int:
    if not isinstance(items, list):
        raise ConfigError(f"{key}: {part} would be set inside a single value, {items!r}")
    if not part.isdigit() or int(part) >= len(items):
        raise ConfigError(f"{key}: expected a number below {len(items)} in place of {part}")
    return int(part)


def nearest(name: str, valid: list[str]) -> str:
    """A hint that names the closest valid name, or lists all of them."""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"valid: {', '.join(sorted(valid))}"


def _fields(config: Config) -> Iterator[tuple[str, FieldInfo, Any]]:
    for name, info in type(config).model_fields.items():
        yield name, info, getattr(config, name)


def _mark(info: FieldInfo, mark: str) -> Any:
    extra = info.json_schema_extra
    return extra.get(mark) if isinstance(extra, dict) else None


def _plain(value: Any, part: Callable[[Config], Json]) -> Any:
    if isinstance(value, Config):
        return part(value)
    if isinstance(value, tuple | list):
        return [_plain(item, part) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item, part) for key, item in value.items()}
    return value


def _explain(schema: type[Config], problem: Json, place: str | Callable[[str], str]) -> str:
    key, beside = _locate(schema, problem["loc"])
    where = place if isinstance(place, str) else place(key)
    if problem["type"] == "extra_forbidden":
        hint = nearest(key.rpartition(".")[2], [name for m in beside for name in m.model_fields])
        return f"{where}: unknown setting {key}; {hint}"
    if problem["type"] == "missing":
        return f"{where}: {key} is required and not set"
    message = problem["msg"].removeprefix("Value error, ")
    if isinstance(problem["input"], dict):  # the group as a whole is wrong, not one value
        return f"{where}: {key}: {message}" if key else f"{where}: {message}"
    return f"{where}: {key}={problem['input']!r:.80}: {message}"


def _locate(schema: type[Config], loc: tuple[str | int, ...]) -> tuple[str, list[type[Config]]]:
    """The dotted key as a user writes it, and the configs that its last part may belong to.

    pydantic puts the `kind` of a union's member into `loc`; a user never writes it there.
    """
    models: list[type[Config]] = [schema]
    shown: list[str] = []
    for part in loc[:-1]:
        if tagged := [m for m in models if _kind(m) == part]:
            models = tagged
            continue
        shown.append(str(part))
        models = [i for m in models for i in _models(m.model_fields.get(str(part)))] or models
    return ".".join([*shown, *map(str, loc[-1:])]), models


def _kind(model: type[Config]) -> Any:
    info = model.model_fields.get("kind")
    return info.default if info else None


def _models(info: FieldInfo | None) -> list[type[Config]]:
    """The Config classes inside a field's annotation."""
    found: list[type[Config]] = []
    pending: list[Any] = [info.annotation] if info else []
    while pending:
        annotation = pending.pop()
        if isinstance(annotation, type) and issubclass(annotation, Config):
            found.append(annotation)
        pending.extend(getattr(annotation, "__args__", ()))
    return found
