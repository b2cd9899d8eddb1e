"""KV engines of a real OpenBao, policies, and sources of secrets with tokens of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pg_envelope_client.sealing.vault_secrets import VaultSecrets
from tests.integration.client.fix_kms import Kms

READER = 'path "secret/data/shop/*" { capabilities = ["read"] }\n'
LISTER = READER + 'path "secret/metadata/shop/*" { capabilities = ["list", "read"] }\n'
WRITER = LISTER + 'path "secret/data/shop/*" { capabilities = ["read", "create", "update"] }\n'


class VaultOfTests:
    """The mount `secret` of version 2, and `old` of version 1, in a namespace of its own."""

    def __init__(self, kms: Kms, home: Path) -> None:
        self.kms, self.home = kms, home
        self._numbers = itertools.count(1)
        self._open: list[VaultSecrets] = []
        self.mount("secret", "2")
        self.mount("old", "1")

    def mount(self, name: str, version: str) -> None:
        self.kms.data("POST", f"sys/mounts/{name}", {"type": "kv", "options": {"version": version}})

    def put(self, path: str, **members: object) -> int:
        return int(self.kms.data("POST", f"secret/data/{path}", {"data": members})["version"])

    def members(self, path: str) -> dict[str, Any]:
        return dict(self.kms.data("GET", f"secret/data/{path}")["data"])

    def token_file(self, policy: str | None = None, ttl: str = "1h") -> Path:
        """A file with a token that has this policy only, or with the root token."""
        number, token = next(self._numbers), self.kms.token
        if policy is not None:
            self.kms.data("POST", f"sys/policies/acl/p{number}", {"policy": policy})
            asked = {"policies": [f"p{number}"], "ttl": ttl, "no_default_policy": True}
            lookup = 'path "auth/token/lookup-self" { capabilities = ["read"] }'
            self.kms.data("POST", f"sys/policies/acl/p{number}", {"policy": policy + lookup})
            token = self.kms.call("POST", "auth/token/create", asked).json()["auth"]["client_token"]
        path = self.home / f"token{number}"
        path.touch(0o600)
        path.write_text(token)
        return path

    def source(self, policy: str | None = None, **changes: Any) -> VaultSecrets:
        place = {"ca_file": self.kms.ca_file, "namespace": self.kms.namespace}
        login = {} if {"token_file", "role_id_file"} & set(changes) else {"token_file": self.token_file(policy)}
        made = VaultSecrets(self.kms.address, **{**place, **login, **changes})
        self._open.append(made)
        return made

    def environment(self, policy: str | None = None, **changes: str) -> dict[str, str]:
        """What the command is told by its environment."""
        return {
            "PG_ENVELOPE_VAULT": self.kms.address,
            "PG_ENVELOPE_VAULT_CA_FILE": str(self.kms.ca_file),
            "PG_ENVELOPE_VAULT_NAMESPACE": self.kms.namespace,
            "PG_ENVELOPE_VAULT_TOKEN_FILE": str(self.token_file(policy)),
            **changes,
        }

    def close(self) -> None:
        for one in self._open:
            one.close()


@pytest.fixture
def vault(kms: Kms, tmp_path: Path) -> Iterator[VaultOfTests]:
    made = VaultOfTests(kms, tmp_path)
    yield made
    made.close()
