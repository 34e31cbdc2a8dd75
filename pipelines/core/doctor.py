"""A machine and a cluster -> what is wrong with them, each with the command that fixes it."""

import contextlib
import importlib.metadata
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from pipelines.core import cluster
from pipelines.core.errors import RaylineError
from pipelines.core.storage import Store

SERVE_PORT = 8000
FREE_DISK = 5 * 2**30  # bytes; the demo writes about 100 MB, Ray's session logs and spills more
SHARED_MEMORY = 256 * 2**20  # bytes; below it Ray's object store falls back to disk


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, whether it is right, what was found, what fixes it."""

    what: str
    ok: bool
    found: str
    fix: str = ""


def examine(storage: str, address: str | None) -> list[Finding]:
    """All checks, in the order in which to fix them."""
    found = [
        *_python(),
        *_versions(),
        *_token(),
        *_port(SERVE_PORT),
        *_memory(),
        *_storage(storage),
    ]
    return found + list(_cluster(storage, address))


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", sys.version_info >= (3, 11), version, "python3.11 -m venv .venv")


def _versions() -> Iterator[Finding]:
    for text in importlib.metadata.requires("rayline") or []:
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(wanted.name, False, "not installed", f"pip install '{text}'")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            found = f"{version}, expected {wanted.specifier}"
            yield Finding(wanted.name, False, found, "make install")
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # it is listed above then
        ray = importlib.metadata.version("ray")
        yield Finding("versions", True, f"ray {ray} and the rest as far as not listed above")


def _token() -> Iterator[Finding]:
    if os.environ.get("RAY_AUTH_MODE") == "disabled":
        fix = "export RAY_AUTH_MODE=token, unless the cluster is on loopback alone"
        yield Finding("auth token", False, "RAY_AUTH_MODE=disabled: anyone may submit jobs", fix)
        return
    if "RAY_AUTH_TOKEN" in os.environ:
        yield Finding("auth token", True, "RAY_AUTH_TOKEN is set")
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
    if not path.exists():
        yield Finding("auth token", True, f"none yet; Ray writes {path} when it first starts")
        return
    mode = path.stat().st_mode & 0o777
    found = f"{path} has mode {mode:o}"
    yield Finding("auth token", not mode & 0o077, found, f"chmod 600 {path}")


def _port(port: int) -> Iterator[Finding]:
    with socket.socket() as probe:
        busy = probe.connect_ex(("127.0.0.1", port)) == 0
    fix = f"rayline serve ... port={port + 1}"
    yield Finding(f"port {port}", not busy, "in use" if busy else "free for serving", fix)


def _memory() -> Iterator[Finding]:
    shared = Path("/dev/shm")
    if shared.exists():
        free = shutil.disk_usage(shared).free
        fix = "docker run --shm-size=2g ..., or mount a larger /dev/shm"
        yield Finding("/dev/shm", free >= SHARED_MEMORY, f"{free / 2**20:,.0f} MiB free", fix)


def _storage(storage: str) -> Iterator[Finding]:
    store = Store.at(storage)
    try:
        name = f".doctor/{uuid.uuid4().hex}"
        store.write(name, b"here")
        store.delete(name)
        yield Finding("storage", True, f"{store.uri} is writable here")
    except (RaylineError, OSError) as error:
        yield Finding("storage", False, f"{store.uri}: {error}", "give --storage another root")
        return
    if store.is_local:
        free = shutil.disk_usage(store.uri).free
        fix = "free some space, or give --storage another disk"
        yield Finding("disk", free >= FREE_DISK, f"{free / 2**30:,.0f} GiB free", fix)


def _cluster(storage: str, address: str | None) -> Iterator[Finding]:
    address = address or os.environ.get("RAY_ADDRESS")
    if address is None:
        yield Finding("cluster", True, "no --address given: a local Ray starts by itself")
        return
    try:
        cluster.prepare()
        cluster.connect(address)
        for node, problem in cluster.storage_by_node(storage).items():
            fix = "mount a shared folder at the same path on every node, or use s3://"
            yield Finding(f"storage on {node}", not problem, problem or "visible", fix)
    except RaylineError as error:
        fix = "ray get-auth-token --generate; export RAY_AUTH_MODE=token; ray start --head"
        yield Finding("cluster", False, str(error), fix)
    finally:
        cluster.disconnect()
