"""Provider for AWS KMS: FORMAT.md section 2.1. Only the aws* modules know boto3 and botocore.

KMS has no batches, so a request is one DEK. A DEK is in the clear here only when it is unwrapped: KMS itself makes it
(GenerateDataKeyWithoutPlaintext) and moves it to the newest key material (ReEncrypt).
"""

from __future__ import annotations

import threading
import time
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import NoCredentialsError

from pg_envelope import derivation, errors
from pg_envelope.broker.kms.providers import base
from pg_envelope.broker.kms.providers.aws_errors import AwsWrongState, translated
from pg_envelope.broker.settings.kms import AwsSettings as Settings

PREFIX = "aws"
CONNECTIONS = 16
PAUSE = 0.1
STARTED = "Do not ask again: see the KEK's version in a while. Then rewrap."
USABLE = {"Enabled", "Updating"}
PASSING = {"Creating", "Unavailable"}
FIT = {"KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT"}

Json = dict[str, Any]


class Aws(base.OneByOne):
    """One region and account. The client is made at its first use, because finding credentials may ask the network."""

    batch = 1
    stores = frozenset({"catalog"})
    store = None

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._client: Any = None
        self._known: dict[str, base.Description] = {}

    def describe(self, key: str) -> base.Description:
        found = self._metadata(key)
        if any(found.get(name) != value for name, value in FIT.items()):
            raise errors.KekUnknown(
                "the KMS key is not fit to be a KEK",
                detail="It must be a symmetric key for encryption: only that is bound to an encryption context.",
                hint="Make another one: aws kms create-key",
            )
        self._known[key] = base.Description(1 + self._rotations(key), tuple(_warnings(found)))
        return self._known[key]

    def generate(self, key: str, context: str) -> str:
        answer = self._ask(
            key,
            "generate_data_key_without_plaintext",
            KeyId=key,
            NumberOfBytes=derivation.DEK_BYTES,
            EncryptionContext=encryption_context(context),
        )
        return self._composed(key, answer)

    def rotate(self, key: str) -> int:
        before = self.describe(key).version
        self._ask(key, "rotate_key_on_demand", KeyId=key)
        end = time.monotonic() + self._settings.timeout_ms / 1000
        while (version := self.describe(key).version) == before:
            if time.monotonic() > end:
                raise errors.KmsUnavailable(detail="the rotation has begun, and is not over yet", hint=STARTED)
            time.sleep(PAUSE)
        return version

    def token_seconds(self) -> float | None:
        return None

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None

    def _wrap(self, key: str, item: base.Plain) -> str:
        context = encryption_context(item.context)
        return self._composed(key, self._ask(key, "encrypt", KeyId=key, Plaintext=item.dek, EncryptionContext=context))

    def _unwrap(self, key: str, item: base.Item) -> bytes:
        _, blob = base.parse(PREFIX, item.wrapped)
        context = encryption_context(item.context)
        answer = self._ask(key, "decrypt", KeyId=key, CiphertextBlob=blob, EncryptionContext=context)
        return base.a_dek(bytes(answer.get("Plaintext", b"")))

    def _rewrap(self, key: str, item: base.Item) -> str:
        _, blob = base.parse(PREFIX, item.wrapped)
        context = encryption_context(item.context)
        answer = self._ask(
            key,
            "re_encrypt",
            SourceKeyId=key,
            DestinationKeyId=key,
            CiphertextBlob=blob,
            SourceEncryptionContext=context,
            DestinationEncryptionContext=context,
        )
        if _key_id(str(answer.get("SourceKeyId"))) != _key_id(key):
            raise errors.UnwrapFailed()
        return self._composed(key, answer)

    def _composed(self, key: str, answer: Json) -> str:
        known = self._known.get(key) or self.describe(key)
        return base.compose(PREFIX, known.version, bytes(answer["CiphertextBlob"]))

    def _metadata(self, key: str) -> Json:
        with translated():
            found: Json = self._kms().describe_key(KeyId=key)["KeyMetadata"]
        state = str(found.get("KeyState"))
        if state in PASSING:
            raise errors.KmsUnavailable(detail=f"the KMS key is in the state {state}")
        if state not in USABLE:
            raise errors.KmsDenied(detail=f"the KMS key is in the state {state}", hint=_remedy(state))
        return found

    def _rotations(self, key: str) -> int:
        """Returns how often the key's material was replaced, by schedule or on demand."""
        with translated():
            try:
                pages = self._kms().get_paginator("list_key_rotations").paginate(KeyId=key)
                return sum(len(page["Rotations"]) for page in pages)
            except self._kms().exceptions.UnsupportedOperationException:
                return 0

    def _ask(self, key: str, operation: str, **parameters: Any) -> Json:
        try:
            with translated():
                answer: Json = getattr(self._kms(), operation)(**parameters)
                return answer
        except AwsWrongState:
            self._metadata(key)
            raise

    def _kms(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _new_client(self._settings)
            return self._client


def encryption_context(context: str) -> dict[str, str]:
    """Returns the members of the context by name: key policies can ask for them, and CloudTrail shows them."""
    name, _, rest = context.partition("/")
    version, environment, database, dek = rest.split(" ")
    return {name: version, "environment": environment, "database": database, "dek": dek}


def _new_client(settings: Settings) -> Any:
    seconds = settings.timeout_ms / 1000
    config = Config(
        connect_timeout=seconds,
        read_timeout=seconds,
        max_pool_connections=CONNECTIONS,
        # boto3 must not repeat requests: the broker does, and knows the caller's deadline.
        retries={"mode": "standard", "total_max_attempts": 1},
        ignore_configured_endpoint_urls=True,
    )
    session = boto3.Session(profile_name=settings.profile or None, region_name=settings.region)
    # A client that is made without credentials never looks for any again.
    if session.get_credentials() is None:
        raise NoCredentialsError
    return session.client("kms", endpoint_url=settings.endpoint or None, verify=settings.ca_file or True, config=config)


def _key_id(key: str) -> str:
    return key.rpartition("/")[2]


def _remedy(state: str) -> str | None:
    if state.startswith("Pending") and state.endswith("Deletion"):
        return "Cancel its deletion while there is time: without the key, what it wrapped is lost for ever."
    return "Enable the key." if state == "Disabled" else None


def _warnings(found: Json) -> list[str]:
    if found.get("ExpirationModel") == "KEY_MATERIAL_EXPIRES":
        return ["the KMS key's material is imported, and expires"]
    return []
