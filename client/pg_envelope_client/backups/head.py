"""Reads and writes the head of a sealed backup: FORMAT.md section 12."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidTag

from pg_envelope import derivation
from pg_envelope.aeads import AESGCM
from pg_envelope_client.problems import Problem, usage
from pg_envelope_client.sealing.broker import BackupDek
from pg_envelope_client.sealing.file_header import read_whole
from pg_envelope_client.sealing.files import Chunks

MAGIC = b"pgenvb1\n"
LENGTH_BYTES = 4
MOST_TEXT = 1 << 20
VERSION = 1
# Of the field key that is the file key. Each backup has a field uuid and a salt of its own.
KEY_ID = 1
# Ids of the catalog count from 1 and never come this far. So no backup's DEK can be taken for one of the catalog.
FIRST_DEK_ID, LAST_DEK_ID = 1 << 62, (1 << 63) - 1
# Chunks have nonces that begin with zeros.
ABOUT_NONCE = b"\xff" * 12
DUMP, BASE = "dump", "base"
KINDS = (DUMP, BASE)
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}\Z")


class AboutCluster(NamedTuple):
    """What is needed for a restore, and sealed: names of the database, of the first superuser and of all roles."""

    database: str
    superuser: str
    roles: tuple[str, ...]


class Escrow(NamedTuple):
    """The DEK sealed for the break-glass key, with the environment that this is bound to."""

    environment: str
    public_key: str
    sealed: str


@dataclass(frozen=True)
class BackupHead:
    """The head of a backup. Nothing in it is authentic before the first chunk has opened."""

    label: str
    kind: str
    made: str
    database: UUID
    dek: BackupDek
    field: UUID
    salt: bytes
    escrow: Escrow | None
    about: bytes

    def key_row(self) -> dict[str, Any]:
        """Returns the row by which a broker derives the file key."""
        dek = self.dek
        return {
            "dek_id": dek.dek_id,
            "kek": dek.kek,
            "store": "catalog",
            "wrapped": dek.wrapped,
            "fingerprint": dek.fingerprint.hex(),
            "key_id": KEY_ID,
            "salt": self.salt.hex(),
        }

    def file_key(self, dek: bytes) -> bytes:
        """Returns the file key (32 bytes) of the DEK."""
        return derivation.field_key(dek, self.salt, self.field, KEY_ID)

    def written(self) -> bytes:
        text = json.dumps(self._told(), separators=(",", ":")).encode()
        return MAGIC + len(text).to_bytes(LENGTH_BYTES, "big") + text

    def _told(self) -> dict[str, Any]:
        return {
            "pg_envelope_backup": VERSION,
            "label": self.label,
            "kind": self.kind,
            "made": self.made,
            "database_uuid": str(self.database),
            "key": {**self.key_row(), "field_uuid": str(self.field)},
            "break_glass": None if self.escrow is None else self.escrow._asdict(),
            "about": base64.b64encode(self.about).decode(),
        }

    def chunks(self, file_key: bytes) -> Chunks:
        """Returns the chunks of this backup, each of which is tied to the whole head."""
        return Chunks(file_key, hashlib.sha256(self.written()).digest())


def sealed_about(file_key: bytes, about: AboutCluster) -> bytes:
    return AESGCM(file_key).encrypt(ABOUT_NONCE, json.dumps(about._asdict()).encode(), None)


def opened_about(file_key: bytes, head: BackupHead) -> AboutCluster:
    """Raises Problem when the head was altered, or the key is another one."""
    try:
        told = json.loads(AESGCM(file_key).decrypt(ABOUT_NONCE, head.about, None))
        return AboutCluster(told["database"], told["superuser"], tuple(told["roles"]))
    except (InvalidTag, LookupError, TypeError, ValueError):
        raise Problem("the backup cannot be opened", hint="It was altered, or belongs to another key.") from None


def checked_label(label: str) -> str:
    """Returns a label that can be a file's name. Raises Problem."""
    if not LABEL.match(label):
        raise usage(
            f"{label!r} cannot be the label of a backup", hint="Letters, digits, `.`, `_` and `-`; at most 120."
        )
    return label


def read(path: Path) -> BackupHead:
    """Reads the head of a file. Raises Problem."""
    with path.open("rb") as file:
        return read_from(file, path)


def read_from(file: IO[bytes], path: Path) -> BackupHead:
    """Reads the head, and leaves `file` at the first chunk. Raises Problem for a head that `written` does not write."""
    prefix = read_whole(file, len(MAGIC) + LENGTH_BYTES)
    length = int.from_bytes(prefix[len(MAGIC) :], "big")
    if not prefix.startswith(MAGIC) or len(prefix) < len(MAGIC) + LENGTH_BYTES:
        raise Problem(f"{path} is no sealed backup")
    text = read_whole(file, length) if length <= MOST_TEXT else b""
    try:
        head = _parsed(json.loads(text.decode("ascii")))
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        head = None
    # The chunks are tied to these very bytes. Another text of the same meaning is another head.
    if head is None or head.written() != prefix + text:
        raise Problem(f"the head of {path} is damaged", hint="Take another copy of the backup.")
    return head


def _parsed(told: dict[str, Any]) -> BackupHead:
    """Raises LookupError, TypeError or ValueError."""
    key, sealed = told["key"], told["break_glass"]
    texts = [told["label"], told["made"], key["kek"], key["wrapped"], *(sealed or {}).values()]
    if not all(isinstance(text, str) for text in texts) or type(key["dek_id"]) is not int:
        raise TypeError
    if told["pg_envelope_backup"] != VERSION or told["kind"] not in KINDS or not LABEL.match(told["label"]):
        raise ValueError
    if not FIRST_DEK_ID <= key["dek_id"] <= LAST_DEK_ID or datetime.fromisoformat(told["made"]).tzinfo is None:
        raise ValueError
    return BackupHead(
        label=told["label"],
        kind=told["kind"],
        made=told["made"],
        database=UUID(told["database_uuid"]),
        dek=BackupDek(key["dek_id"], key["kek"], key["wrapped"], bytes.fromhex(key["fingerprint"])),
        field=UUID(key["field_uuid"]),
        salt=bytes.fromhex(key["salt"]),
        escrow=None if sealed is None else Escrow(**sealed),
        about=base64.b64decode(told["about"], validate=True),
    )
