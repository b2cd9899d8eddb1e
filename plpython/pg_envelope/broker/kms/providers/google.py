"""Provider for Google Cloud KMS: FORMAT.md section 2.1. Only the google* modules know google-cloud-kms and google-auth.

KMS neither makes DEKs nor moves them between versions. So the broker draws a DEK and seals it with `encrypt`, and a
rewrap is `decrypt` and `encrypt`. The checksums of the API are left out, because the broker opens each new wrap, and
its fingerprint shows any change.
"""

from __future__ import annotations

import threading
import time
from typing import Any
from urllib.parse import urlsplit

import google.auth
from google.cloud import kms_v1
from google.cloud.kms_v1.services.key_management_service.transports.rest import KeyManagementServiceRestTransport

from pg_envelope import errors
from pg_envelope.broker.kms.providers import base
from pg_envelope.broker.kms.providers.google_errors import GoogleWrongState, translated
from pg_envelope.broker.settings.kms import GoogleSettings as Settings

PREFIX = "google"
SCOPE = "https://www.googleapis.com/auth/cloudkms"
PAUSE = 0.1

State = kms_v1.CryptoKeyVersion.CryptoKeyVersionState
ENCRYPTS = kms_v1.CryptoKey.CryptoKeyPurpose.ENCRYPT_DECRYPT
# A version in one of these states will never open a wrap again.
GONE = {State.DESTROYED, State.IMPORT_FAILED, State.GENERATION_FAILED}


class Google(base.OneByOne):
    """One key ring. The client is made at its first use, because finding credentials may ask the network."""

    batch = 1
    stores = frozenset({"catalog"})
    store = None

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seconds = settings.timeout_ms / 1000
        self._lock = threading.Lock()
        self._client: kms_v1.KeyManagementServiceClient | None = None

    def describe(self, key: str) -> base.Description:
        found = self._ask("get_crypto_key", {"name": self._name(key)})
        if found.purpose != ENCRYPTS:
            raise errors.KekUnknown(
                "the key is not fit to be a KEK",
                detail="Its purpose must be symmetric encryption (ENCRYPT_DECRYPT).",
                hint="Make another one: gcloud kms keys create --purpose=encryption",
            )
        if found.primary.state != State.ENABLED:
            raise errors.KmsDenied(
                detail=f"the key's primary version is in the state {State(found.primary.state).name}",
                hint="Enable it, or restore it while its destruction is only scheduled.",
            )
        return base.Description(_version(found.primary.name))

    def rotate(self, key: str) -> int:
        made = self._ask("create_crypto_key_version", {"parent": self._name(key), "crypto_key_version": {}})
        version = _version(self._generated(made).name)
        self._ask(
            "update_crypto_key_primary_version",
            {"name": self._name(key), "crypto_key_version_id": str(version)},
        )
        return version

    def token_seconds(self) -> float | None:
        return None

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.transport.close()  # type: ignore[no-untyped-call]
            self._client = None

    def _wrap(self, key: str, item: base.Plain) -> str:
        answer = self._ask(
            "encrypt",
            {
                "name": self._name(key),
                "plaintext": item.dek,
                "additional_authenticated_data": item.context.encode(),
            },
        )
        return base.compose(PREFIX, _version(answer.name), answer.ciphertext)

    def _unwrap(self, key: str, item: base.Item) -> bytes:
        version, content = base.parse(PREFIX, item.wrapped)
        request = {
            "name": self._name(key),
            "ciphertext": content,
            "additional_authenticated_data": item.context.encode(),
        }
        try:
            return base.a_dek(self._ask("decrypt", request).plaintext)
        except GoogleWrongState:
            raise self._reason(key, version) from None

    def _reason(self, key: str, version: int) -> errors.EnvelopeError:
        """Tells why KMS refused a request as such: the state of the version, or a wrap that does not open."""
        try:
            found = self._ask("get_crypto_key_version", {"name": f"{self._name(key)}/cryptoKeyVersions/{version}"})
        except errors.KekUnknown:
            return errors.UnwrapFailed()
        if found.state == State.ENABLED:
            return errors.UnwrapFailed()
        if found.state in GONE:
            return errors.KeyDestroyed("the version of the KEK that wrapped this key was destroyed")
        return errors.KmsDenied(detail=f"version {version} of the key is in the state {State(found.state).name}")

    def _generated(self, version: Any) -> Any:
        """Waits until the version can be used, because an HSM takes its time to make one."""
        end = time.monotonic() + self._seconds
        while version.state == State.PENDING_GENERATION:
            if time.monotonic() > end:
                raise errors.KmsUnavailable(detail="the new version is not ready yet; make it the primary one later")
            time.sleep(PAUSE)
            version = self._ask("get_crypto_key_version", {"name": version.name})
        return version

    def _name(self, key: str) -> str:
        return f"{self._settings.key_ring}/cryptoKeys/{key}"

    def _ask(self, operation: str, request: dict[str, Any]) -> Any:
        with translated():
            return getattr(self._kms(), operation)(request=request, retry=None, timeout=self._seconds)

    def _kms(self) -> kms_v1.KeyManagementServiceClient:
        with self._lock:
            if self._client is None:
                self._client = _new_client(self._settings.endpoint)
            return self._client


def _new_client(endpoint: str) -> kms_v1.KeyManagementServiceClient:
    credentials, _ = google.auth.default(scopes=[SCOPE])
    place = urlsplit(endpoint)
    transport = KeyManagementServiceRestTransport(host=place.netloc, url_scheme=place.scheme, credentials=credentials)
    return kms_v1.KeyManagementServiceClient(transport=transport)


def _version(name: str) -> int:
    number = name.rpartition("/cryptoKeyVersions/")[2]
    if not number.isdecimal():
        raise errors.KmsUnavailable(detail="the answer does not match the request")
    return int(number)
