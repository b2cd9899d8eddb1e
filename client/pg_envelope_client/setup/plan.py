"""Decides what init sets up, from options, an earlier init's configuration, and defaults, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pg_envelope_client.problems import usage
from pg_envelope_client.setup import names
from pg_envelope_client.setup.broker_config import DEFAULT_SOCKET, ConfigFile
from pg_envelope_client.setup.policy import Places

KEY_PREFIX = "pg-envelope-"


@dataclass(frozen=True)
class BrokerAsked:
    """The options for [broker] as given; None where an option was left out."""

    socket: str | None = None
    allowed_users: list[str] | None = None
    environment: str | None = None


@dataclass(frozen=True)
class Asked:
    """The options as given; None where an option was left out."""

    out: Path
    kek: str
    policy_name: str
    broker: BrokerAsked
    address: str | None = None
    ca_file: Path | None = None
    namespace: str | None = None
    transit_mount: str | None = None
    kv_mount: str | None = None
    kv_path: str | None = None
    approle_mount: str | None = None
    allow_shred: bool = False
    service: bool = False


@dataclass(frozen=True)
class BrokerPart:
    """[broker]"""

    socket: str
    allowed_users: list[str]
    environment: str


@dataclass(frozen=True)
class VaultPlan:
    """One setup in Vault or OpenBao. `ca_file` is empty when the KMS has a certificate of a public CA."""

    kek: str
    key: str
    address: str
    ca_file: str
    namespace: str
    places: Places
    approle_mount: str
    policy_name: str
    other_keys: frozenset[str]
    allow_shred: bool = False


@dataclass(frozen=True)
class KeyringPlan:
    """A keyring on this machine."""

    kek: str
    key: str
    keyring_file: str
    passphrase_file: str


def broker_part(asked: Asked, file: ConfigFile) -> BrokerPart:
    socket = file.choose("broker", "socket", asked.broker.socket, DEFAULT_SOCKET)
    if not Path(socket).is_absolute():
        raise usage("--socket must be an absolute path")
    users = file.choose("broker", "allowed_users", asked.broker.allowed_users or None, ["postgres"])
    environment = file.choose("broker", "environment", asked.broker.environment, "default")
    return BrokerPart(socket, users, names.environment(environment))


def vault_plan(asked: Asked, file: ConfigFile) -> VaultPlan:
    """Returns the checked plan.

    Raises Problem, before anything is changed, where options and configuration disagree.
    """
    kek = names.kek(asked.kek)
    address = file.choose("kms.main", "address", asked.address and names.address(asked.address), "")
    if not address:
        raise usage("--address is missing", hint="For example: --address https://vault.example:8200")
    ca_copy = str(asked.out / "ca.pem")
    return VaultPlan(
        kek=kek,
        key=names.key(_kek_entry(file, kek, "main", KEY_PREFIX + kek)),
        address=address,
        ca_file=file.choose("kms.main", "ca_file", ca_copy if asked.ca_file else None, ""),
        namespace=names.namespace(file.choose("kms.main", "namespace", asked.namespace, "")),
        places=_places(asked, file),
        approle_mount=_path(file, "kms.main.auth", "mount", asked.approle_mount, "approle"),
        policy_name=names.policy(asked.policy_name),
        other_keys=frozenset(map(names.key, file.keys_of("main"))),
        allow_shred=asked.allow_shred,
    )


def keyring_plan(asked: Asked, file: ConfigFile, keyring: Path, passphrase: Path) -> KeyringPlan:
    """Returns the checked plan of a keyring, as `vault_plan` does."""
    kek = names.kek(asked.kek)
    return KeyringPlan(
        kek=kek,
        key=_kek_entry(file, kek, "keyring", kek),
        keyring_file=file.choose("kms.keyring", "keyring_file", str(keyring), ""),
        passphrase_file=file.choose("kms.keyring", "passphrase_file", str(passphrase), ""),
    )


def _places(asked: Asked, file: ConfigFile) -> Places:
    return Places(
        transit_mount=_path(file, "kms.main", "transit_mount", asked.transit_mount, "transit"),
        kv_mount=_path(file, "kms.main", "kv_mount", asked.kv_mount, "kv"),
        kv_path=_path(file, "kms.main", "kv_path", asked.kv_path, "pg_envelope"),
    )


def _path(file: ConfigFile, table: str, name: str, asked: str | None, default: str) -> str:
    return names.path(file.choose(table, name, asked and asked.strip("/"), default), name)


def _kek_entry(file: ConfigFile, kek: str, kms: str, key: str) -> str:
    """Returns the KEK's name in the KMS. A KEK that the file places elsewhere is refused."""
    file.choose(f"kek.{kek}", "kms", kms, kms)
    return file.choose(f"kek.{kek}", "key", key, key)


def fill_broker(file: ConfigFile, part: BrokerPart) -> None:
    file.fill("broker", {"socket": part.socket, "allowed_users": part.allowed_users, "environment": part.environment})


def fill_vault(file: ConfigFile, plan: VaultPlan, out: Path) -> None:
    """Writes [kms.main] and [kek.NAME], as the broker reads them."""
    places = plan.places
    connection = {"provider": "vault", "address": plan.address, "ca_file": plan.ca_file, "namespace": plan.namespace}
    login = {
        "method": "approle",
        "mount": plan.approle_mount,
        "role_id_file": str(out / "role_id"),
        "secret_id_file": str(out / "secret_id"),
    }
    file.fill("kms.main", connection)
    file.fill("kms.main.auth", login, inline=True)
    file.fill(
        "kms.main",
        {"transit_mount": places.transit_mount, "kv_mount": places.kv_mount, "kv_path": places.kv_path},
    )
    file.fill(f"kek.{plan.kek}", {"kms": "main", "key": plan.key})


def fill_keyring(file: ConfigFile, plan: KeyringPlan) -> None:
    """Writes [kms.keyring] and [kek.NAME], as the broker reads them."""
    files = {"keyring_file": plan.keyring_file, "passphrase_file": plan.passphrase_file}
    file.fill("kms.keyring", {"provider": "keyring", **files})
    file.fill(f"kek.{plan.kek}", {"kms": "keyring", "key": plan.key})
