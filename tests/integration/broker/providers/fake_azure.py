"""The REST calls of Azure Key Vault that the provider makes, with real RSA; written from the API's reference."""

from __future__ import annotations

import base64
import json
import re
import uuid
from dataclasses import dataclass, field
from typing import Any

from azure.core.credentials import AccessToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.integration.broker.providers.fake_http import FakeServer, Refusal

HOST = "vault1.kms.test"
TOKEN = "fake-azure-token"
STARTED = 1_700_000_000
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


class Credential:
    """What stands for a managed identity."""

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        return AccessToken(TOKEN, 1 << 40)


@dataclass
class Version:
    number: int
    bits: int
    operations: list[str]
    enabled: bool = True
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self.key = rsa.generate_private_key(65537, self.bits)


def refusal(status: int, code: str) -> Refusal:
    return Refusal(status, {"error": {"code": code, "message": f"{code}."}})


class FakeAzure(FakeServer):
    """Keys by name, each with its versions."""

    def __init__(self, certificate: tuple[str, str]) -> None:
        super().__init__(certificate)
        self.keys: dict[str, list[Version]] = {}
        self.public_port = self.port
        self.recovery = "Recoverable"

    def make(self, name: str, bits: int = 2048, operations: tuple[str, ...] = ("wrapKey", "unwrapKey")) -> str:
        self.keys[name] = [Version(1, bits, list(operations))]
        return name

    def answer(self, method: str, path: str, content: bytes, headers: Any) -> Any:
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            resource = f"https://kms.test:{self.public_port}"
            challenge = f'Bearer authorization="https://login.kms.test/tenant", resource="{resource}"'
            raise Refusal(401, {"error": {"code": "Unauthorized"}}, {"WWW-Authenticate": challenge})
        if self.refusing is not None:
            raise refusal(self.refusing, "Refused")
        found = re.fullmatch(r"/keys/([\w-]+)(?:/(\w*))?(?:/(\w+))?", path)
        if found is None or found[1] not in self.keys:
            raise refusal(404, "KeyNotFound")
        name, version, action = found.groups()
        if version == "versions":
            return {"value": [self._listed(name, one) for one in reversed(self.keys[name])], "nextLink": None}
        if version == "rotate" and method == "POST":
            newest = self.keys[name][-1]
            self.keys[name].append(Version(newest.number + 1, newest.bits, newest.operations))
            return self._bundle(name, self.keys[name][-1])
        held = self._version(name, version)
        return self._unwrap(held, json.loads(content)) if action == "unwrapkey" else self._bundle(name, held)

    def _version(self, name: str, wanted: str | None) -> Version:
        found = [one for one in self.keys[name] if not wanted or one.id == wanted]
        if not found:
            raise refusal(404, "KeyNotFound")
        return found[-1]

    def _unwrap(self, version: Version, body: Any) -> Any:
        if not version.enabled:
            raise refusal(403, "Forbidden")
        assert body["alg"] == "RSA-OAEP-256"
        try:
            plain = version.key.decrypt(_bytes(body["value"]), OAEP)
        except ValueError:
            raise refusal(400, "BadParameter") from None
        return {"kid": version.id, "value": _text(plain)}

    def _id(self, name: str, version: Version) -> str:
        return f"https://{HOST}:{self.public_port}/keys/{name}/{version.id}"

    def _attributes(self, version: Version) -> Any:
        found = {"enabled": version.enabled, "created": STARTED + version.number, "updated": STARTED + version.number}
        return {**found, "recoveryLevel": self.recovery}

    def _listed(self, name: str, version: Version) -> Any:
        return {"kid": self._id(name, version), "attributes": self._attributes(version)}

    def _bundle(self, name: str, version: Version) -> Any:
        public = version.key.public_key().public_numbers()
        key = {"kid": self._id(name, version), "kty": "RSA", "key_ops": version.operations}
        key.update(n=_text(public.n.to_bytes(version.bits // 8, "big")), e=_text(public.e.to_bytes(3, "big")))
        return {"key": key, "attributes": self._attributes(version)}


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
