"""Reads the broker's configuration: its keys, types, defaults and limits, by a strict reader of the TOML file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints
from uuid import UUID

from pg_envelope import errors
from pg_envelope.broker.settings.door import ApplicationSettings, DoorSettings, Fields, check_applications
from pg_envelope.broker.settings.kms import AppRole as AppRole
from pg_envelope.broker.settings.kms import KeyringSettings as KeyringSettings
from pg_envelope.broker.settings.kms import KmsSettings
from pg_envelope.broker.settings.kms import TokenFile as TokenFile
from pg_envelope.broker.settings.kms import VaultSettings as VaultSettings
from pg_envelope.broker.settings.wants import NAME, address, refuse, want
from pg_envelope.broker.system import files
from pg_envelope.fips import CONFIG as FIPS_CONFIG
from pg_envelope.loopback import is_loopback

DAY = 86_400
KV = "kv:"

Users = tuple[str | int, ...]
Names = tuple[str, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class BrokerSettings:
    """[broker]"""

    socket: Path = Path("/run/pg_envelope/broker.sock")
    socket_mode: str = "0660"
    socket_group: str = ""
    allowed_users: Users = ("postgres",)
    environment: str = "default"
    audit_log: str = "-"
    audit_repeats_seconds: float = 60.0
    erasures: Path = Path("/var/lib/pg_envelope/erasures.jsonl")
    reads: str = ""
    reads_anchor: str = ""
    metrics: str = "127.0.0.1:9464"
    break_glass_public_key_file: str = ""
    allow_keys_return: bool = False
    rekey_from: Names = ()
    fips: bool = False
    fips_config: str = FIPS_CONFIG
    max_requests: int = 256
    max_connections: int = 1000
    deadline_ms: int = 5000
    probe_seconds: float = 5.0

    def __post_init__(self) -> None:
        want(
            bool(re.fullmatch(r"0?[0-7]{3}", self.socket_mode)), 'broker.socket_mode must be octal text such as "0660"'
        )
        want(bool(NAME.match(self.environment)), "broker.environment may hold letters, digits, '.', '_' and '-' only")
        want(self.audit_log == "-" or Path(self.audit_log).is_absolute(), 'broker.audit_log must be "-" or absolute')
        keys_backup = self.break_glass_public_key_file
        want(
            not keys_backup or Path(keys_backup).is_absolute(),
            "broker.break_glass_public_key_file must be an absolute path",
        )
        want(not self.reads or Path(self.reads).is_absolute(), "broker.reads must be an absolute path")
        want(
            re.fullmatch(r"(syslog|(syslog:)?/.*|kv:.+)?", self.reads_anchor) is not None,
            'broker.reads_anchor must be an absolute path, "syslog", "syslog:" with the path of its socket,'
            ' or "kv:" with the name of a KMS',
        )
        want(all(NAME.match(name) for name in self.rekey_from), "broker.rekey_from must list names of environments")
        want(Path(self.fips_config).is_absolute(), "broker.fips_config must be an absolute path")
        # HPKE here is with X25519, which is not approved.
        want(not (self.fips and keys_backup), "broker.fips goes without break_glass_public_key_file (X25519)")
        want(self.max_requests > 0, "broker.max_requests must be above 0")
        want(self.max_connections > 0, "broker.max_connections must be above 0")
        want(self.deadline_ms > 0, "broker.deadline_ms must be above 0")
        want(self.probe_seconds > 0, "broker.probe_seconds must be above 0")
        want(self.audit_repeats_seconds >= 0, "broker.audit_repeats_seconds must not be negative")
        want(bool(self.allowed_users), "broker.allowed_users must name at least one user")
        if self.metrics:
            listen_address(self.metrics)

    @property
    def epoch(self) -> Path:
        return self.socket.parent / "epoch"

    @property
    def reads_path(self) -> Path:
        """The ledger of reads. Its usual place is beside the ledger of erasures."""
        return Path(self.reads) if self.reads else self.erasures.with_name("reads.jsonl")

    @property
    def anchor_kind(self) -> str:
        """The kind of the anchor: file, syslog, kv, or none. Its place is told to nobody."""
        kind = self.reads_anchor.partition(":")[0]
        return kind if kind in ("syslog", "kv") else "file" if kind else "none"

    @property
    def anchor_kms(self) -> str:
        """The KMS whose KV is the anchor; empty for another anchor."""
        return self.reads_anchor.removeprefix(KV) if self.reads_anchor.startswith(KV) else ""

    @property
    def mode(self) -> int:
        return int(self.socket_mode, 8)


@dataclass(frozen=True)
class CacheSettings:
    """[cache]; times in seconds."""

    ttl_seconds: float = 300.0
    grace_seconds: float = 3600.0
    session_ttl_seconds: float = 300.0
    max_keys: int = 10_000

    def __post_init__(self) -> None:
        # These are upper bounds: a right that was taken away in the KMS can go unnoticed for so long.
        want(0 < self.ttl_seconds <= DAY, f"cache.ttl_seconds must be above 0 and at most {DAY}, a day")
        want(0 <= self.grace_seconds <= 7 * DAY, f"cache.grace_seconds must be 0 to {7 * DAY}, seven days")
        want(0 < self.session_ttl_seconds <= DAY, f"cache.session_ttl_seconds must be above 0 and at most {DAY}, a day")
        want(self.max_keys > 0, "cache.max_keys must be above 0")


@dataclass(frozen=True)
class Kek:
    """[kek.NAME]: the KMS that holds it, and its name there."""

    kms: str
    key: str


@dataclass(frozen=True)
class Config:
    broker: BrokerSettings = field(default_factory=BrokerSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    kms: Mapping[str, KmsSettings] = field(default_factory=dict)
    kek: Mapping[str, Kek] = field(default_factory=dict)
    door: DoorSettings | None = None
    application: Mapping[str, ApplicationSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_applications(self.door, self.application)
        want(bool(self.kek), "at least one [kek.NAME] is needed")
        anchor = self.broker.anchor_kms
        fit = not anchor or isinstance(self.kms.get(anchor), VaultSettings)
        want(fit, f"broker.reads_anchor names '{anchor}', but there is no [kms.{anchor}] with provider = \"vault\"")
        self._check_fips()
        for name, kek in self.kek.items():
            want(kek.kms in self.kms, f"kek.{name}.kms names '{kek.kms}', but there is no [kms.{kek.kms}]")
            kind = self.kms[kek.kms]
            want(bool(kind.key_form.match(kek.key)), f"kek key of kek.{name}, in {kind.provider}: {kind.key_text}")

    def _check_fips(self) -> None:
        for name, settings in self.kms.items():
            scrypt = isinstance(settings, KeyringSettings)
            want(not (self.broker.fips and scrypt), f"broker.fips goes without provider keyring (scrypt): kms.{name}")


def load(path: Path) -> Config:
    """Returns the checked configuration of a file. Raises NotConfigured, which names the wrong key."""
    try:
        tables = tomllib.loads(files.read_private(path, files.CONFIG).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise errors.NotConfigured(f"{path} is not TOML", detail=str(error)) from None
    return parse(tables)


def parse(tables: dict[str, Any]) -> Config:
    """Returns the checked configuration of TOML tables. Raises NotConfigured."""
    _refuse_unknown(tables, {"broker", "cache", "kms", "kek", "door", "application"}, "")
    return Config(
        broker=_build(BrokerSettings, _table(tables.get("broker", {}), "broker"), "broker"),
        cache=_build(CacheSettings, _table(tables.get("cache", {}), "cache"), "cache"),
        kms={name: _kms(table, f"kms.{name}") for name, table in _named(tables, "kms")},
        kek={name: _build(Kek, table, f"kek.{name}") for name, table in _named(tables, "kek")},
        door=_build(DoorSettings, _table(tables["door"], "door"), "door") if "door" in tables else None,
        application={
            name: _build(ApplicationSettings, table, f"application.{name}")
            for name, table in _named(tables, "application")
        },
    )


def listen_address(text: str) -> tuple[str, int]:
    """Returns (host, port) of "127.0.0.1:9464" or "[::1]:9464".

    Raises NotConfigured unless it is a loopback address.
    """
    host, port = address(text, "broker.metrics", "a loopback address")
    want(is_loopback(host), 'broker.metrics must be a loopback address and a port, such as "127.0.0.1:9464"')
    return host, port


def _named(tables: dict[str, Any], group: str) -> list[tuple[str, dict[str, Any]]]:
    found = _table(tables.get(group, {}), group)
    for name in found:
        want(bool(NAME.match(name)), f"{group}.{name}: a name may hold letters, digits, '.', '_' and '-' only")
    return [(name, _table(table, f"{group}.{name}")) for name, table in found.items()]


def _kms(table: dict[str, Any], where: str) -> KmsSettings:
    kinds: dict[str, type[KmsSettings]] = {kind.provider: kind for kind in get_args(KmsSettings)}
    kind = kinds[_choice(table, where, "provider", kinds)]
    return _build(kind, _without(table, "provider"), where)


def _auth(value: Any, where: str) -> AppRole | TokenFile:
    table = _table(value, where)
    kinds: dict[str, type[AppRole] | type[TokenFile]] = {"approle": AppRole, "token": TokenFile}
    return _build(kinds[_choice(table, where, "method", kinds)], _without(table, "method"), where)


def _choice(table: dict[str, Any], where: str, key: str, known: Iterable[str]) -> str:
    chosen = table.get(key)
    want(isinstance(chosen, str) and chosen in known, f"{where}.{key} must be one of: {', '.join(known)}")
    return str(chosen)


def _without(table: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != key}


def _table(value: Any, where: str) -> dict[str, Any]:
    want(isinstance(value, dict), f"{where} must be a table")
    table: dict[str, Any] = value
    return table


def _refuse_unknown(table: dict[str, Any], known: set[str], where: str) -> None:
    for key in sorted(set(table) - known):
        raise refuse(f"unknown key {where + '.' if where else ''}{key}; known: {', '.join(sorted(known))}")


def _build(kind: type[T], table: dict[str, Any], where: str) -> T:
    known = fields(kind)  # type: ignore[arg-type]
    _refuse_unknown(table, {one.name for one in known}, where)
    for one in known:
        has_default = one.default is not MISSING or one.default_factory is not MISSING
        want(has_default or one.name in table, f"{where}.{one.name} is missing")
    types = get_type_hints(kind)
    return kind(**{key: _convert(types[key], value, f"{where}.{key}") for key, value in table.items()})


def _convert(kind: Any, value: Any, where: str) -> Any:
    return _CONVERTERS[kind](value, where)


def _text(value: Any, where: str) -> str:
    want(isinstance(value, str), f"{where} must be text")
    return str(value)


def _path(value: Any, where: str) -> Path:
    path = Path(_text(value, where))
    want(path.is_absolute(), f"{where} must be an absolute path")
    return path


def _integer(value: Any, where: str) -> int:
    want(type(value) is int, f"{where} must be a whole number")
    return int(value)


def _number(value: Any, where: str) -> float:
    want(type(value) in (int, float) and value == value and abs(value) != float("inf"), f"{where} must be a number")
    return float(value)


def _users(value: Any, where: str) -> Users:
    fit = isinstance(value, list) and all(type(user) in (str, int) for user in value)
    want(fit, f"{where} must be a list of user names or uids")
    return tuple(value)


def _names(value: Any, where: str) -> Names:
    want(isinstance(value, list) and all(isinstance(name, str) for name in value), f"{where} must be a list of names")
    return tuple(value)


def _fields(value: Any, where: str) -> Fields:
    return {name: _uuid(uuid, f"{where}.{name}") for name, uuid in _table(value, where).items()}


def _uuid(value: Any, where: str) -> UUID:
    try:
        return UUID(_text(value, where))
    except ValueError:
        raise refuse(f"{where} must be the uuid of a field, as envelope.columns shows it") from None


def _switch(value: Any, where: str) -> bool:
    want(isinstance(value, bool), f"{where} must be true or false")
    return bool(value)


_CONVERTERS = {
    str: _text,
    Path: _path,
    int: _integer,
    float: _number,
    bool: _switch,
    Users: _users,
    Names: _names,
    Fields: _fields,
    AppRole | TokenFile: _auth,
}
