"""A broker with more KEKs than one: a second in OpenBao, and one in a keyring that needs no KMS."""

from __future__ import annotations

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


@pytest.fixture
def keks(breakable: Stack) -> Iterator[Stack]:
    """KEKs `default` and `second` in OpenBao, `laptop` in a keyring."""
    policy = breakable.openbao.request("GET", POLICY)["data"]["policy"]
    breakable.openbao.request("PUT", POLICY, {"policy": policy + MORE})
    make_transit_key(breakable, "second")
    directory = breakable.broker.directory / "keyring"
    kms = {"laptop": make_keyring(breakable, directory)}
    kek = {"second": {"kms": "main", "key": "second"}, "laptop": {"kms": "laptop", "key": "laptop"}}
    breakable.broker.configure({"kms": kms, "kek": kek})
    breakable.broker.restart()
    yield breakable
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()
