"""Declares the types of [kms.NAME]: one for each provider, with its keys, defaults and limits.

Each has `provider` (its name in the file and in `status`), `extra` (what to install), `key_form` and `key_text` (what
the `key` of a [kek.NAME] looks like there), and `secret_files`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pg_envelope.broker.settings.wants import MOUNT, NAME, NAME_FORM, want, want_encrypted, want_file, want_timeout

VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*\Z")
HOST = re.compile(r"[A-Za-z0-9.-]+\Z|[0-9A-Fa-f:]+\Z")


@dataclass(frozen=True)
class AppRole:
    """auth = { method = "approle", ... }"""

    role_id_file: Path
    secret_id_file: Path
    mount: str = "approle"

    @property
    def secret_files(self) -> tuple[Path, ...]:
        return self.role_id_file, self.secret_id_file


@dataclass(frozen=True)
class TokenFile:
    """auth = { method = "token", ... }"""

    token_file: Path

    @property
    def secret_files(self) -> tuple[Path, ...]:
        return (self.token_file,)


@dataclass(frozen=True)
class VaultSettings:
    """provider = "vault": HashiCorp Vault or OpenBao. An empty ca_file means the public CAs."""

    provider: ClassVar[str] = "vault"
    extra: ClassVar[str] = "vault"
    key_form: ClassVar[re.Pattern[str]] = NAME
    key_text: ClassVar[str] = NAME_FORM

    address: str
    auth: AppRole | TokenFile
    ca_file: str = ""
    namespace: str = ""
    timeout_ms: int = 2000
    transit_mount: str = "transit"
    kv_mount: str = "kv"
    kv_path: str = "pg_envelope"

    def __post_init__(self) -> None:
        want_encrypted(self.address)
        want_timeout(self.timeout_ms)
        want_file(self.ca_file, "ca_file")
        for value in (self.transit_mount, self.kv_mount, self.kv_path):
            want(bool(MOUNT.match(value)), "kms transit_mount, kv_mount and kv_path are paths without '/' at the ends")

    @property
    def secret_files(self) -> tuple[Path, ...]:
        return self.auth.secret_files


@dataclass(frozen=True)
class KeyringSettings:
    """provider = "keyring": a keyring file of the broker's own."""

    provider: ClassVar[str] = "keyring"
    extra: ClassVar[str] = ""
    key_form: ClassVar[re.Pattern[str]] = NAME
    key_text: ClassVar[str] = NAME_FORM

    keyring_file: Path
    passphrase_file: Path
    timeout_ms: int = 10_000

    def __post_init__(self) -> None:
        want_timeout(self.timeout_ms)

    @property
    def secret_files(self) -> tuple[Path, ...]:
        return self.keyring_file, self.passphrase_file


@dataclass(frozen=True)
class SecretsSettings:
    """provider = "secrets": KEKs made from two secrets in the broker's environment.

    `base_secret` is the name of a variable; `purpose_secret` begins the name of one for each KEK and version.
    """

    provider: ClassVar[str] = "secrets"
    extra: ClassVar[str] = ""
    key_form: ClassVar[re.Pattern[str]] = NAME
    key_text: ClassVar[str] = NAME_FORM

    base_secret: str
    purpose_secret: str = "PG_ENVELOPE_SECRET"  # noqa: S105  # a variable's name
    timeout_ms: int = 2000

    def __post_init__(self) -> None:
        for name in (self.base_secret, self.purpose_secret):
            want(
                bool(VARIABLE.match(name)),
                "kms base_secret and purpose_secret are names of variables: capital letters, digits and '_'",
            )
        want_timeout(self.timeout_ms)

    @property
    def secret_files(self) -> tuple[Path, ...]:
        return ()


@dataclass(frozen=True)
class AwsSettings:
    """provider = "aws": AWS KMS, with the credentials that boto3 finds. An empty endpoint means the region's own."""

    provider: ClassVar[str] = "aws"
    extra: ClassVar[str] = "aws"
    # An alias is not allowed: if it is pointed at another key, every wrap becomes unreadable.
    key_form: ClassVar[re.Pattern[str]] = re.compile(
        r"(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/)?(mrk-)?[0-9a-f-]{32,36}\Z"
    )
    key_text: ClassVar[str] = "a key id or a key's ARN, and no alias"

    region: str
    endpoint: str = ""
    ca_file: str = ""
    profile: str = ""
    timeout_ms: int = 2000

    def __post_init__(self) -> None:
        want(bool(NAME.match(self.region)), f"kms region may hold {NAME_FORM}")
        if self.endpoint:
            want_encrypted(self.endpoint, "endpoint")
        want_file(self.ca_file, "ca_file")
        want_timeout(self.timeout_ms)

    @property
    def secret_files(self) -> tuple[Path, ...]:
        return ()


@dataclass(frozen=True)
class Pkcs11Settings:
    """provider = "pkcs11": a token of an HSM. `module` is the HSM's library, `token` the token's label."""

    provider: ClassVar[str] = "pkcs11"
    extra: ClassVar[str] = "pkcs11"
    key_form: ClassVar[re.Pattern[str]] = NAME
    key_text: ClassVar[str] = NAME_FORM

    module: Path
    token: str
    pin_file: Path
    timeout_ms: int = 5000

    def __post_init__(self) -> None:
        want(0 < len(self.token.encode()) <= 32, "kms token is a token's label: 1 to 32 bytes")
        want_timeout(self.timeout_ms)

    @property
    def secret_files(self) -> tuple[Path, ...]:
        return (self.pin_file,)


@dataclass(frozen=True)
class AzureSettings:
    """provider = "azure": Azure Key Vault or Managed HSM, with the identity that azure-identity finds."""

    provider: ClassVar[str] = "azure"
    extra: ClassVar[str] = "azure"
    key_form: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z0-9-]{1,127}\Z")
    key_text: ClassVar[str] = "letters, digits and '-' only"

    vault_url: str
    ca_file: str = ""
    timeout_ms: int = 3000

    def __post_init__(self) -> None:
        want(self.vault_url.startswith("https://"), "kms vault_url must be an https:// URL")
        want_encrypted(self.vault_url, "vault_url")
        want_file(self.ca_file, "ca_file")
        want_timeout(self.timeout_ms)

    @property
    def secret_files(self) -> tuple[Path, ...]:
        return ()


@dataclass(frozen=True)
class GoogleSettings:
    """provider = "google": Google Cloud KMS, with the application default credentials."""

    provider: ClassVar[str] = "google"
    extra: ClassVar[str] = "google"
    key_form: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z0-9_-]{1,63}\Z")
    key_text: ClassVar[str] = "letters, digits, '_' and '-' only"

    key_ring: str
    endpoint: str = "https://cloudkms.googleapis.com"
    timeout_ms: int = 2000

    def __post_init__(self) -> None:
        form = re.compile(r"projects/[A-Za-z0-9:._-]+/locations/[a-z0-9-]+/keyRings/[A-Za-z0-9_-]{1,63}\Z")
        want(bool(form.match(self.key_ring)), "kms key_ring has the form projects/P/locations/L/keyRings/R")
        want_encrypted(self.endpoint, "endpoint")
        want_timeout(self.timeout_ms)

    @property
    def secret_files(self) -> tuple[Path, ...]:
        return ()


@dataclass(frozen=True)
class KmipSettings:
    """provider = "kmip": a KMIP server. An empty ca_file means the public CAs; the other two are the broker's own."""

    provider: ClassVar[str] = "kmip"
    extra: ClassVar[str] = "kmip"
    key_form: ClassVar[re.Pattern[str]] = NAME
    key_text: ClassVar[str] = NAME_FORM

    host: str
    certificate_file: Path
    key_file: Path
    port: int = 5696
    ca_file: str = ""
    timeout_ms: int = 3000

    def __post_init__(self) -> None:
        want(bool(HOST.match(self.host)), "kms host is a host's name or address, without a port")
        want(0 < self.port < 65536, "kms port must be 1 to 65535")
        want_file(self.ca_file, "ca_file")
        want_timeout(self.timeout_ms)

    @property
    def secret_files(self) -> tuple[Path, ...]:
        return (self.key_file,)


KmsSettings = (
    VaultSettings
    | KeyringSettings
    | SecretsSettings
    | AwsSettings
    | Pkcs11Settings
    | AzureSettings
    | GoogleSettings
    | KmipSettings
)
