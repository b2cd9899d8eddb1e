"""The REST calls of Google Cloud KMS that the provider makes, with real AES-GCM; written from the API's reference."""

from __future__ import annotations

import base64
import json
import os
import re
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.integration.broker.providers.fake_http import FakeServer, Refusal

RING = "projects/p1/locations/europe-west3/keyRings/ring"
TOKEN = "ya29.fake-google-token"
STATUS = {400: "FAILED_PRECONDITION", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}


def refusal(status: int, message: str) -> Refusal:
    return Refusal(status, {"error": {"code": status, "message": message, "status": STATUS.get(status, "INTERNAL")}})


class Version:
    def __init__(self) -> None:
        self.key, self.state = AESGCM(os.urandom(32)), "ENABLED"


class FakeGoogle(FakeServer):
    """Crypto keys by name; each with its versions, the primary one by number, and its purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, list[Version]] = {}
        self.primary: dict[str, int] = {}
        self.purpose: dict[str, str] = {}
        self.login_refused = False
        self.slow_generation = 0

    def make(self, name: str, purpose: str = "ENCRYPT_DECRYPT") -> str:
        self.keys[name], self.primary[name], self.purpose[name] = [Version()], 1, purpose
        return name

    def answer(self, method: str, path: str, content: bytes, headers: Any) -> Any:
        if path == "/token":
            return self._log_in()
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            raise refusal(401, "no token")
        if self.refusing is not None:
            raise refusal(self.refusing, f"refused: {content!r}")
        body = json.loads(content) if content else {}
        found = re.fullmatch(rf"/v1/{RING}/cryptoKeys/(\w+)(?:(/cryptoKeyVersions)(?:/(\d+))?)?(?::(\w+))?", path)
        if found is None or found[1] not in self.keys:
            raise refusal(404, "not found")
        name, versions, number, action = found.groups()
        if versions:
            return self._create(name) if method == "POST" else self._version(name, int(number))
        actions = {None: self._describe, "encrypt": self._encrypt, "decrypt": self._decrypt}
        return {**actions, "updatePrimaryVersion": self._set_primary}[action](name, body)

    def _log_in(self) -> Any:
        if self.login_refused:
            raise Refusal(400, {"error": "invalid_grant", "error_description": "account not found"})
        return {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}

    def _version(self, name: str, number: int) -> Any:
        if not 0 < number <= len(self.keys[name]):
            raise refusal(404, "not found")
        state = self.keys[name][number - 1].state
        if state == "PENDING_GENERATION" and self.slow_generation > 0:
            self.slow_generation -= 1
        elif state == "PENDING_GENERATION":
            self.keys[name][number - 1].state = "ENABLED"
        return {"name": f"{RING}/cryptoKeys/{name}/cryptoKeyVersions/{number}", "state": state}

    def _describe(self, name: str, _: Any) -> Any:
        described = {"name": f"{RING}/cryptoKeys/{name}", "purpose": self.purpose[name]}
        return {**described, "primary": self._version(name, self.primary[name])}

    def _create(self, name: str) -> Any:
        self.keys[name].append(Version())
        if self.slow_generation:
            self.keys[name][-1].state = "PENDING_GENERATION"
        return self._version(name, len(self.keys[name]))

    def _set_primary(self, name: str, body: Any) -> Any:
        number = int(body["cryptoKeyVersionId"])
        self._usable(name, number)
        self.primary[name] = number
        return self._describe(name, None)

    def _encrypt(self, name: str, body: Any) -> Any:
        number, nonce = self.primary[name], os.urandom(12)
        aad = base64.b64decode(body["additionalAuthenticatedData"])
        sealed = self._usable(name, number).encrypt(nonce, base64.b64decode(body["plaintext"]), aad)
        blob = base64.b64encode(bytes([number]) + nonce + sealed).decode()
        return {"name": f"{RING}/cryptoKeys/{name}/cryptoKeyVersions/{number}", "ciphertext": blob}

    def _decrypt(self, name: str, body: Any) -> Any:
        blob = base64.b64decode(body.get("ciphertext", ""))
        try:
            key = self._usable(name, blob[0])
            plain = key.decrypt(blob[1:13], blob[13:], base64.b64decode(body["additionalAuthenticatedData"]))
        except (IndexError, ValueError, InvalidTag):
            raise refusal(400, "Decryption failed: the ciphertext is invalid.") from None
        return {"plaintext": base64.b64encode(plain).decode()}

    def _usable(self, name: str, number: int) -> AESGCM:
        version = dict(enumerate(self.keys[name], 1)).get(number)
        if version is None:
            raise refusal(400, "Decryption failed: the ciphertext is invalid.")
        if version.state != "ENABLED":
            raise refusal(400, f"the version is not enabled, current state is: {version.state}.")
        return version.key
