"""Provider for Azure Key Vault and Managed HSM: FORMAT.md section 2.1. Only the azure* modules know the Azure SDK.

wrapKey and unwrapKey take no associated data. So DEK | SHA-256(context) is wrapped, and the broker compares the hash
when it has unwrapped. That binds a wrap to its place for the broker only. Key Vault itself would open the wrap for
everybody who may unwrap. Everybody who has an RSA key's public half can wrap a DEK that they know.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from typing import Any

from azure.core.credentials import TokenCredential
from azure.identity import DefaultAzureCredential
from azure.keyvault.keys import KeyClient, KeyOperation, KeyType, KeyVaultKey
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm

from pg_envelope import derivation, errors
from pg_envelope.broker.kms.providers import base
from pg_envelope.broker.kms.providers.azure_errors import BadRequest, translated
from pg_envelope.broker.settings.kms import AzureSettings as Settings

PREFIX = "azure"
VERSION_BYTES = 16
BOUND_BYTES = derivation.DEK_BYTES + hashlib.sha256().digest_size
LEAST_RSA_BYTES = 256
PURGEABLE = "the vault has no purge protection: a deleted key can be lost before its time to recover is over"
NEEDED = {KeyOperation.wrap_key, KeyOperation.unwrap_key}
ALGORITHMS: dict[str, KeyWrapAlgorithm] = {
    KeyType.rsa: KeyWrapAlgorithm.rsa_oaep_256,
    KeyType.rsa_hsm: KeyWrapAlgorithm.rsa_oaep_256,
    KeyType.oct_hsm: KeyWrapAlgorithm.aes_256,
}
# Developers' logins run programs or open browsers. They are not for a daemon.
UNWANTED = {
    f"exclude_{kind}_credential": True
    for kind in (
        "cli",
        "powershell",
        "developer_cli",
        "shared_token_cache",
        "visual_studio_code",
        "interactive_browser",
    )
}

# The SDK writes each request's address and headers at level INFO.
logging.getLogger("azure").setLevel(logging.WARNING)


class Azure(base.OneByOne):
    """One vault. `credential` is for tests. Without it, the identity is that of the machine, pod or environment."""

    batch = 1
    stores = frozenset({"catalog"})
    store = None

    def __init__(self, settings: Settings, credential: TokenCredential | None = None) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._credential = credential
        self._client: KeyClient | None = None
        self._versions: dict[str, CryptographyClient] = {}
        self._newest: dict[str, KeyVaultKey] = {}
        self._numbers: dict[tuple[str, str], int] = {}

    def describe(self, key: str) -> base.Description:
        with translated():
            newest = self._keys().get_key(key)
            _refuse_unfit(newest)
            ids = [str(one.version) for one in self._by_age(key)]
        with self._lock:
            self._numbers.update({(key, version): number for number, version in enumerate(ids, 1)})
            self._newest[key] = newest
        level = newest.properties.recovery_level
        purgeable = None if level is None else "Purgeable" in level
        made = newest.properties.created_on
        return base.Description(
            self._number(key, newest),
            (PURGEABLE,) if purgeable else (),
            purgeable,
            made_at=made.timestamp() if made else None,
        )

    def rotate(self, key: str) -> int:
        with translated():
            self._keys().rotate_key(key)
        return self.describe(key).version

    def token_seconds(self) -> float | None:
        return None

    def close(self) -> None:
        with self._lock:
            for client in (self._client, *self._versions.values()):
                if client is not None:
                    client.close()
            self._client, self._versions = None, {}

    def _wrap(self, key: str, item: base.Plain) -> str:
        if key not in self._newest:
            self.describe(key)
        newest = self._newest[key]
        version = str(newest.properties.version)
        with translated():
            algorithm = ALGORITHMS[newest.key_type]
            sealed = self._crypto(str(newest.id)).wrap_key(algorithm, item.dek + _hash(item.context)).encrypted_key
        return base.compose(PREFIX, self._number(key, newest), bytes.fromhex(version) + sealed)

    def _unwrap(self, key: str, item: base.Item) -> bytes:
        _, content = base.parse(PREFIX, item.wrapped)
        version, sealed = content[:VERSION_BYTES].hex(), content[VERSION_BYTES:]
        if (key, version) not in self._numbers:
            self.describe(key)
        # Nothing is asked, or kept, for a version that a wrap merely claims.
        if (key, version) not in self._numbers:
            raise errors.UnwrapFailed()
        newest = self._newest[key]
        try:
            with translated():
                client = self._crypto(f"{self._settings.vault_url.rstrip('/')}/keys/{key}/{version}")
                content = client.unwrap_key(ALGORITHMS[newest.key_type], sealed).key
        except (BadRequest, errors.KekUnknown):
            raise errors.UnwrapFailed() from None
        if len(content) != BOUND_BYTES or not derivation.same(content[derivation.DEK_BYTES :], _hash(item.context)):
            raise errors.UnwrapFailed()
        return base.a_dek(content[: derivation.DEK_BYTES])

    def _by_age(self, key: str) -> list[Any]:
        """Returns a key's versions, the oldest first. A version's number is its place, because single versions cannot
        be deleted.
        """
        found = self._keys().list_properties_of_key_versions(key)
        return sorted(found, key=lambda one: (one.created_on, one.version))

    def _number(self, key: str, found: KeyVaultKey) -> int:
        number = self._numbers.get((key, str(found.properties.version)))
        if number is None:
            raise errors.KmsUnavailable(detail="the key's newest version is not in the list of its versions yet")
        return number

    def _keys(self) -> KeyClient:
        with self._lock:
            if self._client is None:
                self._client = KeyClient(self._settings.vault_url, self._login(), **self._options())
            return self._client

    def _crypto(self, key_id: str) -> CryptographyClient:
        """Returns the client of one version of a key."""
        with self._lock:
            if key_id not in self._versions:
                self._versions[key_id] = CryptographyClient(key_id, self._login(), **self._options())
            return self._versions[key_id]

    def _login(self) -> TokenCredential:
        if self._credential is None:
            self._credential = DefaultAzureCredential(**UNWANTED)
        return self._credential

    def _options(self) -> dict[str, Any]:
        """Switches off the SDK's own repeats: the broker repeats, and knows the caller's deadline."""
        seconds = self._settings.timeout_ms / 1000
        return {
            "retry_total": 0,
            "connection_timeout": seconds,
            "read_timeout": seconds,
            "connection_verify": self._settings.ca_file or True,
        }


def _refuse_unfit(key: KeyVaultKey) -> None:
    if key.properties.enabled is False:
        raise errors.KmsDenied(detail="the key's newest version is disabled", hint="Enable it, or rotate the key.")
    size = len(getattr(key.key, "n", None) or b"") if key.key_type != KeyType.oct_hsm else LEAST_RSA_BYTES
    if key.key_type not in ALGORITHMS or size < LEAST_RSA_BYTES or not NEEDED.issubset(key.key_operations or ()):
        raise errors.KekUnknown(
            "the key is not fit to be a KEK",
            detail="It must be RSA with 2048 bits or more, or AES-256 in a Managed HSM, and may wrap and unwrap keys.",
            hint="Make another one: az keyvault key create --kty RSA-HSM --size 3072 --ops wrapKey unwrapKey",
        )


def _hash(context: str) -> bytes:
    return hashlib.sha256(context.encode()).digest()
