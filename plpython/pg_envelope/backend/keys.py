"""The key catalog's rows: keys, DEK versions, fields and field keys. DEKs come from the broker, wrapped."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass

from pg_envelope import errors, suites
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.link import Link
from pg_envelope.backend.loader import Loader

CONFLICT_RETRIES = 100
STORES = ("vault", "catalog")


@dataclass(frozen=True)
class FieldOptions:
    """How a field's values are bound and encrypted; `bind` is row, column or context."""

    bind: str = "row"
    suite: int = suites.DEFAULT
    pad: bool = False


class Keys:
    """Makes and rotates keys. Every method runs as the extension's owner, within the caller's transaction."""

    def __init__(self, host: Host, link: Link, loader: Loader) -> None:
        self._host = host
        self._link = link
        self._loader = loader

    def create_named(self, name: str, kek: str, store: str | None) -> str:
        """A named key with its first version; its uuid. Raises BadInput when the name is taken or empty."""
        if not name:
            raise errors.BadInput("a key needs a name")
        if self._host.row("SELECT key_uuid FROM envelope_private.key WHERE name = $1", ["text"], [name]):
            raise _taken()
        key_uuid = self.create(kek, store, name=name)
        field_uuid = self.add_field(key_uuid, FieldOptions(bind="context"))
        self._add_field_key(field_uuid, self._add_dek(key_uuid))
        return key_uuid

    def create(self, kek: str, store: str | None, name: str | None = None, base: int | None = None) -> str:
        """A key without versions, for a name or a table; its uuid. Raises AlreadyProtected when another was quicker."""
        row = self._host.row(
            "INSERT INTO envelope_private.key (name, base, kek, store) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT DO NOTHING RETURNING key_uuid",
            ["text", "oid", "text", "text"],
            [name, base, kek, self._store(kek, store)],
        )
        if row is None:
            raise _taken()
        return str(row["key_uuid"])

    def add_field(self, key_uuid: str, options: FieldOptions) -> str:
        row = self._host.row(
            "INSERT INTO envelope_private.field (key_uuid, bind, suite, pad) VALUES ($1, $2, $3, $4) "
            "RETURNING field_uuid",
            ["uuid", "text", "int2", "bool"],
            [key_uuid, options.bind, options.suite, options.pad],
        )
        return str(_present(row)["field_uuid"])

    def rotate(self, key_uuid: str) -> int:
        """A new DEK version with a new field key for each field; the old ones decrypt only. The new version."""
        self._host.rows("SELECT FROM envelope_private.key WHERE key_uuid = $1 FOR UPDATE", ["uuid"], [key_uuid])
        dek_id = self._add_dek(key_uuid)
        fields = "SELECT field_uuid FROM envelope_private.field WHERE key_uuid = $1"
        for field in self._host.rows(fields, ["uuid"], [key_uuid]):
            self._add_field_key(field["field_uuid"], dek_id)
        row = self._host.row("SELECT version FROM envelope_private.dek WHERE dek_id = $1", ["bigint"], [dek_id])
        return int(_present(row)["version"])

    def _store(self, kek: str, store: str | None) -> str:
        """The store asked for, or the KEK's own default. Raises KekUnknown before anything is made."""
        known = self._link.ask("status", self._loader.who())["keks"]
        if kek not in known:
            raise errors.KekUnknown(detail=f"KEKs of the broker: {', '.join(sorted(known)) or 'none'}")
        if store is not None and store not in STORES:
            raise errors.StoreUnknown
        return store or str(known[kek]["store"])

    def _add_dek(self, key_uuid: str) -> int:
        self._set_state("dek", "key_uuid", key_uuid)
        key = _present(
            self._host.row("SELECT kek, store FROM envelope_private.key WHERE key_uuid = $1", ["uuid"], [key_uuid])
        )
        dek_id, made = self._generate(key)
        fingerprint = base64.b64decode(made["fingerprint"])
        self._host.rows(
            "INSERT INTO envelope_private.dek (dek_id, key_uuid, version, state, kek, store, wrapped, fingerprint,"
            " kek_version) SELECT $1, $2, coalesce(max(version), 0) + 1, 'active', $3, $4, $5, $6, $7"
            " FROM envelope_private.dek WHERE key_uuid = $2",
            ["bigint", "uuid", "text", "text", "text", "bytea", "int4"],
            [
                dek_id,
                key_uuid,
                key["kek"],
                key["store"],
                made["wrapped"],
                fingerprint,
                made["kek_version"],
            ],
        )
        return dek_id

    def _generate(self, key: Row) -> tuple[int, Row]:
        """A new DEK from the broker. An id that its store knows already (a restored database's) is passed over."""
        for _ in range(CONFLICT_RETRIES):
            dek_id = int(_present(self._host.row("SELECT nextval('envelope_private.dek_id_seq') AS id"))["id"])
            try:
                made = self._link.ask(
                    "generate",
                    self._loader.who(),
                    database_uuid=self._database_uuid(),
                    kek=key["kek"],
                    store=key["store"],
                    dek_id=dek_id,
                )
            except errors.StoreConflict:
                continue
            return dek_id, made
        raise errors.StoreConflict(
            detail=f"{CONFLICT_RETRIES} ids in a row",
            hint="Was this database restored from a very old backup? Try again.",
        )

    def _database_uuid(self) -> str:
        self._host.rows("INSERT INTO envelope_private.installation DEFAULT VALUES ON CONFLICT DO NOTHING")
        return str(_present(self._host.row("SELECT database_uuid FROM envelope_private.installation"))["database_uuid"])

    def _add_field_key(self, field_uuid: str, dek_id: int) -> None:
        self._set_state("field_key", "field_uuid", field_uuid)
        self._host.rows(
            "INSERT INTO envelope_private.field_key (field_uuid, dek_id, version, salt, state)"
            " SELECT $1, $2, coalesce(max(version), 0) + 1, $3, 'active'"
            " FROM envelope_private.field_key WHERE field_uuid = $1",
            ["uuid", "bigint", "bytea"],
            [field_uuid, dek_id, os.urandom(32)],
        )

    def add_first_version(self, key_uuid: str, fields: list[str]) -> None:
        """The first DEK of a table's key, and a field key for each of its fields."""
        dek_id = self._add_dek(key_uuid)
        for field_uuid in fields:
            self._add_field_key(field_uuid, dek_id)

    def _set_state(self, table: str, column: str, uuid: str) -> None:
        """What was active decrypts only: a newer version is about to follow."""
        since = ", state_since = now()" if table == "dek" else ""
        change = f"SET state = 'decrypt-only'{since} WHERE {column} = $1 AND state = 'active'"
        self._host.rows(f"UPDATE envelope_private.{table} {change}", ["uuid"], [uuid])


def _taken() -> errors.AlreadyProtected:
    return errors.AlreadyProtected("this name or table has a key already", hint="envelope.keys lists the keys.")


def _present(row: Row | None) -> Row:
    if row is None:
        raise errors.EnvelopeError("the key catalog lacks a row that it must have")
    return row
