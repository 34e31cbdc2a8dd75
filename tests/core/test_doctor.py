"""Doctor: each thing that is wrong is found, and told with what fixes it."""

import importlib.metadata
import socket

import pytest

from pipelines.core import doctor


def found(findings):
    return {finding.what: finding for finding in findings}


def test_a_sound_machine_without_a_cluster_passes_and_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    findings = found(doctor.examine(str(tmp_path), None))
    assert findings["python"].ok
    assert findings["storage"].ok
    assert findings["cluster"].found == "no --address given: a local Ray starts by itself"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_storage_that_cannot_be_written_is_found(tmp_path):
    (tmp_path / "file").write_text("")
    finding = found(doctor.examine(str(tmp_path / "file"), None))["storage"]
    assert not finding.ok
    assert "cannot be written" in finding.found
    assert finding.fix == "give --storage another root"


def test_a_port_in_use_is_found_and_another_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (finding,) = doctor._port(port)
    assert (finding.ok, finding.found) == (False, "in use")
    assert finding.fix == f"rayline serve ... port={port + 1}"


@pytest.mark.parametrize(("mode", "ok"), [(0o600, True), (0o644, False)])
def test_a_token_that_others_can_read_is_found(tmp_path, monkeypatch, mode, ok):
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(mode)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    (finding,) = doctor._token()
    assert finding.ok is ok
    assert "secret" not in finding.found
    assert finding.fix == f"chmod 600 {token}"


def test_a_package_of_another_version_is_found(monkeypatch):
    monkeypatch.setattr(
        "importlib.metadata.requires", lambda name: ["numpy>=999", "no-such-package>=1", "pyarrow"]
    )
    findings = found(doctor._versions())
    assert "expected >=999" in findings["numpy"].found
    assert findings["no-such-package"].fix == "pip install 'no-such-package>=1'"
    assert "pyarrow" not in findings


def test_a_machine_without_ray_is_told_so(monkeypatch):
    version = importlib.metadata.version

    def without_ray(name):
        if name == "ray":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("importlib.metadata.version", without_ray)
    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["ray>=2", "pyarrow"])
    (finding,) = doctor._versions()
    assert (finding.found, finding.fix) == ("not installed", "pip install 'ray>=2'")
