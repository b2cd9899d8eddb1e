"""Asks the key broker for field keys, at its door for applications or at its Unix socket."""

from __future__ import annotations

import base64
import os
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from pg_envelope import errors, responses, wire
from pg_envelope.suites import KEY_BYTES
from pg_envelope_client.sealing.locks import ProcessLock

SECONDS = 10.0
CATALOG = "catalog"
HINT = 'For example: Broker("tls://keys.example:9465", certificate_file=..., key_file=..., ca_file=...).'
REFUSED_HINT = "Do the certificate's authority, its time and its name fit [door] of the broker's configuration?"


class Derived(NamedTuple):
    """A field key (32 bytes), how many seconds it may be kept, and the revocation epoch from before it was fetched."""

    key: bytes
    ttl: float
    epoch: int


class BackupDek(NamedTuple):
    """A DEK of store `catalog`, as a request names it; `fingerprint` has 16 bytes."""

    dek_id: int
    kek: str
    wrapped: str
    fingerprint: bytes

    def told(self) -> wire.Dek:
        return {
            "dek_id": self.dek_id,
            "kek": self.kek,
            "store": CATALOG,
            "wrapped": self.wrapped,
            "fingerprint": base64.b64encode(self.fingerprint).decode(),
        }


class SealedForBreakGlass(NamedTuple):
    """A DEK sealed for the break-glass key: FORMAT.md section 6.1."""

    environment: str
    public_key: str
    sealed: str


class Broker:
    """One broker; safe to share between threads. It connects when it is first asked, and again after a break.

    `address` is `tls://host:port` of the door, or the path of the Unix socket. At the door the certificate says who
    asks. At the socket, the user of this process must be one of the broker's `allowed_users`.
    """

    def __init__(
        self,
        address: str,
        *,
        certificate_file: str | Path | None = None,
        key_file: str | Path | None = None,
        ca_file: str | Path | None = None,
    ) -> None:
        """Raises BadInput for another form of address, or a file that is missing or not fit."""
        self._address = address
        self._tls: ssl.SSLContext | None = None
        if not address.startswith("/"):
            self._place = _place(address)
            self._tls = _context(certificate_file, key_file, ca_file)
        self._lock = ProcessLock()
        self._connection: socket.socket | None = None
        self._owner = os.getpid()

    def epoch(self) -> int:
        """Returns the revocation epoch. When it has moved, keys that were fetched before must not be used."""
        return int(self._ask("derive", UUID(int=0), keys=[])["epoch"])

    def derive(self, database: UUID, key: Mapping[str, Any], field: UUID, label: str) -> Derived:
        """Returns the field key of a row of the key catalog. Raises NotPermitted, KeyDestroyed, Unavailable, ..."""
        response = self._ask("derive", database, keys=[_request(key, field, label)])
        (answer,) = response["keys"] if len(response["keys"]) == 1 else ({},)
        if "error" in answer:
            raise responses.refusal(answer["error"])
        if answer.get("key_id") != key["key_id"] or not 0 <= response["ttl"] < float("inf"):
            raise responses.not_understood()
        return Derived(_content(answer["key"]), float(response["ttl"]), int(response["epoch"]))

    def generate(self, database: UUID, kek: str, dek_id: int) -> BackupDek:
        """Returns a new DEK that no store and no catalog holds. Only the socket gives one. Raises NotPermitted, ..."""
        made = self._ask("generate", database, kek=kek, store=CATALOG, dek_id=dek_id)
        return BackupDek(dek_id, kek, made["wrapped"], base64.b64decode(made["fingerprint"]))

    def sealed_for_break_glass(self, database: UUID, dek: BackupDek) -> SealedForBreakGlass:
        """Returns a DEK sealed for the break-glass key. Raises NotPermitted when the broker knows no such key."""
        response = self._ask("keys_backup", database, deks=[dek.told()])
        (answer,) = response["deks"] if len(response["deks"]) == 1 else ({},)
        if "error" in answer:
            raise responses.refusal(answer["error"])
        return SealedForBreakGlass(response["environment"], response["public_key"], str(answer["sealed"]))

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _ask(self, operation: str, database: UUID, **members: object) -> wire.Message:
        message = {
            "v": wire.PROTOCOL,
            "op": operation,
            "deadline_ms": int(SECONDS * 1000),
            "who": {"application": "pg_envelope_client", "pid": os.getpid()},
            "database_uuid": str(database),
            **members,
        }
        frame = wire.frame(message)
        with self._lock:
            return responses.read(operation, self._exchanged(frame))

    def _exchanged(self, frame: bytes) -> bytes:
        """Returns the answer's body. A connection that was kept may have ended meanwhile, so it is tried once more."""
        kept = self._kept()
        if kept is not None:
            with suppress(OSError):
                return self._exchange(kept, frame)
            self._drop()
        try:
            self._connection = self._connect()
            return self._exchange(self._connection, frame)
        except OSError as error:
            self._drop()
            raise self._unavailable(error) from None

    def _kept(self) -> socket.socket | None:
        if self._owner != os.getpid():
            # Two processes must not write into one connection. Closing this end tells the broker nothing.
            self._drop()
            self._owner = os.getpid()
        return self._connection

    def _connect(self) -> socket.socket:
        if self._tls is None:
            return _unix(self._address)
        host, port = self._place
        return self._tls.wrap_socket(socket.create_connection((host, port), SECONDS), server_hostname=host)

    def _exchange(self, connection: socket.socket, frame: bytes) -> bytes:
        # A broker that refuses a connection says why, and reads nothing.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(frame)
        try:
            length = wire.body_length(_received(connection, wire.LENGTH_BYTES))
        except errors.BadInput:
            raise responses.not_understood() from None
        return _received(connection, length)

    def _unavailable(self, error: OSError) -> errors.Unavailable:
        """The door closes the connection of a client whose certificate it does not take."""
        if isinstance(error, ssl.SSLError) or (self._tls and isinstance(error, ConnectionResetError)):
            detail = getattr(error, "reason", None)
            return errors.Unavailable("the broker's door refused the connection", detail=detail, hint=REFUSED_HINT)
        return errors.Unavailable(detail=error.strerror or type(error).__name__)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def _unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(SECONDS)
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _received(connection: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        chunk = connection.recv(count - len(found))
        if not chunk:
            raise ConnectionResetError
        found += chunk
    return bytes(found)


def _place(address: str) -> tuple[str, int]:
    parts = urlsplit(address)
    with suppress(ValueError):
        if parts.scheme == "tls" and parts.hostname and parts.port and not parts.path.strip("/"):
            return parts.hostname, parts.port
    raise errors.BadInput("this is no address of a broker", hint=HINT)


def _context(certificate: str | Path | None, key: str | Path | None, ca: str | Path | None) -> ssl.SSLContext:
    if certificate is None or key is None or ca is None:
        raise errors.BadInput("the door needs certificate_file, key_file and ca_file", hint=HINT)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        made.load_cert_chain(certificate, key)
        made.load_verify_locations(ca)
    except OSError as error:
        raise errors.BadInput("a certificate of the client cannot be used", detail=error.strerror, hint=HINT) from None
    return made


def _request(key: Mapping[str, Any], field: UUID, label: str) -> wire.Dek:
    return {
        "dek_id": key["dek_id"],
        "kek": key["kek"],
        "store": key["store"],
        "wrapped": key["wrapped"],
        "fingerprint": _base64(key["fingerprint"]),
        "fields": [
            {"key_id": key["key_id"], "field_uuid": str(field), "salt": _base64(key["salt"]), "label": label},
        ],
    }


def _base64(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


def _content(text: str) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        content = b""
    if len(content) != KEY_BYTES:
        raise responses.not_understood()
    return content
