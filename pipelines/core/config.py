"""Settings: strict, frozen pydantic models; text in (YAML, `a.b=value`), checked configs out.

A config says *what* a step is; where it runs (`Placement`) is kept apart and never enters identity.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from pipelines.core.errors import ConfigError

Json = dict[str, Any]


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


def identity(config: Config) -> Json:
    """The JSON of `config` that bears identity: no input references and no raw locations."""
    kept: Json = {}
    for name, info, value in _fields(config):
        if _mark(info, "input") is not None or _mark(info, "identity") is False:
            continue
        kept[name] = _plain(value)
    return kept


def parse(schema: type[ConfigT], data: Mapping[str, Any], where: str) -> ConfigT:
    """`data` checked against `schema`.

    Raises:
        ConfigError: names the key, the nearest valid one and `where` it was read.
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
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(data or {}, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, found {type(data).__name__}")
    return data or {}


def line_of(path: Path, key: str) -> str:
    """`path:line` of the first line that sets `key`, or `path` alone."""
    leaf = re.compile(rf"^\s*{re.escape(key.rsplit('.', maxsplit=1)[-1])}\s*:")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if leaf.match(line):
            return f"{path}:{number}"
    return str(path)


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
    """Set the dotted `key` of nested mappings in place."""
    *parents, leaf = key.split(".")
    for parent in parents:
        inner = data.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{key}: {parent} is a single value, so it has no {leaf}")
        data = inner
    data[leaf] = value


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


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return identity(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _explain(schema: type[Config], problem: Json, where: str) -> str:
    path = [str(part) for part in problem["loc"]]
    dotted = ".".join(path)
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown setting {dotted}; {nearest(path[-1], _siblings(schema, path))}"
    if problem["type"] == "missing":
        return f"{where}: {dotted} is required and not set"
    return f"{where}: {dotted}={problem['input']!r}: {problem['msg']}"


def _siblings(schema: type[Config], path: list[str]) -> list[str]:
    """Names valid beside the last part of `path`, searching into nested configs and unions."""
    models: list[type[Config]] = [schema]
    for part in path[:-1]:
        inner = [m for model in models for m in _models(model.model_fields.get(part))]
        models = inner or models
    return [name for model in models for name in model.model_fields]


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
