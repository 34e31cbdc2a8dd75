"""A workflow's name or file, and settings from YAML and the command line -> a Workflow.

A workflow module holds `Settings` (a Config) and `build(settings) -> Workflow`. Keys without a dot
are its settings; `step.field` changes one step.
"""

import importlib
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType

from pipelines.core.config import Config, assignment, nearest, origin, parse, put, read_yaml
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
    changes = read_yaml(file) if file else {}
    assigned = [assignment(text) for text in assignments]
    for key, value in assigned:
        put(changes, key, value)
    where = origin(file, [key for key, _ in assigned])
    own = {key: value for key, value in changes.items() if key in schema.model_fields}
    workflow: Workflow = module.build(parse(schema, own, where))
    if both := sorted(schema.model_fields.keys() & workflow.steps.keys()):
        raise ConfigError(f"{name}: {both[0]} is a setting and a step; give one another name")
    for key in [key for key in changes if key not in own]:
        if key not in workflow.steps:
            hint = nearest(key, [*schema.model_fields, *workflow.steps])
            raise ConfigError(f"{where(key)}: unknown setting or step {key}; {hint}")
        workflow = workflow.override(key, changes[key], where)
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
