"""A world for each provider that can run here, shared by the tests of a module."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.integration.broker.conftest import POLICY, free_port, stop, wait_until
from tests.integration.broker.providers import worlds
from tests.integration.broker.providers.worlds import World

PROVIDERS = ("vault", "keyring", "secrets", "aws", "pkcs11", "azure", "google", "kmip")


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patching:
        yield patching


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="pge-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server."""
    port = free_port()
    process = worlds.start_moto(port, tmp_path_factory.mktemp("moto") / "log")
    wait_until(lambda: requests.get(f"http://127.0.0.1:{port}/moto-api/", timeout=5).ok)
    yield port
    stop(process)


@pytest.fixture(scope="module")
def vault_world(folder: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    world = worlds.VaultWorld(folder, request.getfixturevalue("bao"), POLICY)
    yield world
    world.stop()


@pytest.fixture(scope="module")
def keyring_world(folder: Path) -> World:
    return worlds.KeyringWorld(folder)


@pytest.fixture(scope="module")
def secrets_world(patch: pytest.MonkeyPatch) -> World:
    return worlds.SecretsWorld(patch)


@pytest.fixture(scope="module")
def aws_world(patch: pytest.MonkeyPatch, moto: int) -> Iterator[worlds.AwsWorld]:
    world = worlds.AwsWorld(patch, moto)
    yield world
    world.stop()


@pytest.fixture(scope="module")
def pkcs11_world(folder: Path, patch: pytest.MonkeyPatch) -> World:
    if worlds.SOFTHSM is None or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM2 is not installed (Debian: softhsm2)")
    return worlds.Pkcs11World(folder, patch)


@pytest.fixture(scope="module")
def azure_world(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[World]:
    world = worlds.AzureWorld(folder, patch)
    yield world
    world.stop()


@pytest.fixture(scope="module")
def google_world(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[World]:
    world = worlds.GoogleWorld(folder, patch)
    yield world
    world.stop()


@pytest.fixture(scope="module")
def kmip_world(folder: Path) -> Iterator[worlds.KmipWorld]:
    directory = folder / "kmip"
    directory.mkdir()
    world = worlds.KmipWorld(directory, free_port())
    try:
        wait_until(lambda: socket.create_connection(("127.0.0.1", world.direct), 5).close() or True)
        for key in (world.key, world.other):
            world.create(f"{key}-v1")
        yield world
    finally:
        world.stop()


@pytest.fixture(scope="module", params=PROVIDERS)
def world(request: pytest.FixtureRequest) -> World:
    """Each in turn."""
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found
