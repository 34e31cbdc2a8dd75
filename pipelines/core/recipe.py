"""A workflow's name or file, and settings from YAML and the command line -> a Workflow.

A workflow module holds `Settings` (a Config) and `build(settings) -> Workflow`. Keys without a dot
are its settings; `step.field` changes one step.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pipelines.core.config import Config, Json, assignment, line_of, nearest, parse, put, read_yaml
from pipelines.core.errors import ConfigError
from pipelines.core.workflow import Workflow

PACKAGE = "workflows"


def load(name: str, assignments: list[str], file: Path | None = None) -> Workflow:
    """The workflow `name` with a YAML file's settings, then `key=value` settings, applied.

    Raises:
        ConfigError: no such workflow, setting or step, or a value that does not fit; says where.
    """
    module = _module(name)
    schema: type[Config] = module.Settings
    changes, origin = _changes(assignments, file)
    own = {key: value for key, value in changes.items() if key in schema.model_fields}
    workflow: Workflow = module.build(parse(schema, own, _where(own, origin)))
    rest = {key: value for key, value in changes.items() if key not in own}
    for key, value in rest.items():
        if key not in workflow.steps:
            hint = nearest(key, [*schema.model_fields, *workflow.steps])
            raise ConfigError(f"{origin[key]}: unknown setting or step {key}; {hint}")
        workflow = workflow.override(key, value, origin[key])
    return workflow


def names() -> list[str]:
    """The workflows that come with the package."""
    package = importlib.import_module(PACKAGE)
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def settings(name: str) -> type[Config]:
    """The settings class of a workflow."""
    found: type[Config] = _module(name).Settings
    return found


def _module(name: str) -> ModuleType:
    if name.endswith(".py"):
        return _from_file(Path(name))
    if name not in names():
        raise ConfigError(
            f"no workflow {name!r}; {nearest(name, names())}; or give the path of a .py file"
        )
    return importlib.import_module(f"{PACKAGE}.{name}")


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"{path}: no such workflow file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "build") or not hasattr(module, "Settings"):
        raise ConfigError(f"{path}: a workflow file needs Settings and build(settings)")
    return module


def _changes(assignments: list[str], file: Path | None) -> tuple[Json, dict[str, str]]:
    """Nested changes, later ones winning, and where each top-level key was last set."""
    changes: Json = {}
    origin: dict[str, str] = {}
    if file is not None:
        changes = read_yaml(file)
        origin = {key: line_of(file, key) for key in changes}
    for text in assignments:
        key, value = assignment(text)
        put(changes, key, value)
        origin[key.partition(".")[0]] = "command line"
    return changes, origin


def _where(own: Mapping[str, Any], origin: Mapping[str, str]) -> str:
    return ", ".join(sorted({origin[key] for key in own})) or "command line"
