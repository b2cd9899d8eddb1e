"""A broker with more KEKs than one: a second in OpenBao, and one in a keyring that needs no KMS."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pg_envelope.broker.kms.providers import keyring_file
from stack.processes import private_file
from stack.stack import Stack
from tests.integration.operations.fix_kms_life import POLICY

PASSPHRASE = "correct horse battery"
MORE = """
path "transit/*" { capabilities = ["read", "update"] }
"""


def make_keyring(stack: Stack, directory: Path) -> dict[str, str]:
    """The settings of a keyring with one KEK, `laptop`."""
    directory.mkdir()
    keyring_file.create_keyring(directory / "keyring", PASSPHRASE, 1 << 14)
    keyring_file.add_kek(directory / "keyring", PASSPHRASE, "laptop")
    private_file(directory / "passphrase", PASSPHRASE, stack.broker.account)
    stack.broker.account.own_tree(directory)
    names = {f"{name}_file": str(directory / name) for name in ("keyring", "passphrase")}
    return {"provider": "keyring", **names}


def make_transit_key(stack: Stack, name: str, mount: str = "transit") -> None:
    stack.openbao.request("POST", f"{mount}/keys/{name}", {"type": "aes256-gcm96", "derived": True})


@pytest.fixture(scope="module")
def with_keks(stack: Stack) -> Iterator[None]:
    """The broker has the KEKs of `keks` for a whole module: its start costs more than most tests."""
    broker, bao = stack.broker, stack.openbao
    config, policy = broker.config_file.read_text(), bao.request("GET", POLICY)["data"]["policy"]
    bao.request("PUT", POLICY, {"policy": policy + MORE})
    make_transit_key(stack, "second")
    directory = broker.directory / "keyring"
    kms = {"laptop": make_keyring(stack, directory)}
    kek = {"second": {"kms": "main", "key": "second"}, "laptop": {"kms": "laptop", "key": "laptop"}}
    broker.configure({"kms": kms, "kek": kek})
    broker.restart()
    yield
    bao.request("PUT", POLICY, {"policy": policy})
    private_file(broker.config_file, config, broker.account)
    broker.restart()
    shutil.rmtree(directory)


@pytest.fixture
def keks(with_keks: None, breakable: Stack) -> Stack:
    """KEKs `default` and `second` in OpenBao, `laptop` in a keyring."""
    return breakable
