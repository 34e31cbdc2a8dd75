"""Fixtures of the core's tests: the fake stages, and a place on disk and on S3."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FAKE = Path(__file__).with_name("fake.py")


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """The module `fake.py`, with its stages importable."""
    spec = importlib.util.spec_from_file_location("fake", FAKE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.install()
    return module


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place to store things: a folder, then a prefix of an object store."""
    if request.param == "local":
        return str(tmp_path / "store")
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
