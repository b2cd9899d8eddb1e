"""The key catalog's rows: keys, DEK versions, fields and field keys. DEKs come from the broker, wrapped.

Each change of a state goes to the broker's audit log before it is committed: FORMAT.md section 4, `record`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pg_envelope import errors, wire
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.lifecycle import deletion, environment, same_kek
from pg_envelope.backend.link import Link
from pg_envelope.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pg_envelope.backend.field_options import FieldOptions

CONFLICT_RETRIES = 100
MOST_TRANSITIONS = 5000
STORES = ("vault", "catalog")
LOCK = """
SELECT coalesce(name, view::text, base::text, 'dropped') AS label
FROM envelope_private.key WHERE key_uuid = $1 FOR UPDATE"""
ACTIVE = "SELECT dek_id FROM envelope_private.dek WHERE key_uuid = $1 AND state = 'active'"
OLD = """
SELECT dek_id, version, state FROM envelope_private.dek
WHERE key_uuid = $1 AND version > 0 AND state NOT IN ('active', 'destroyed') ORDER BY version"""
FIELD = "SELECT field_uuid FROM envelope_private.protected_column WHERE key_uuid = $1 AND attname = $2"
NEWEST_DEK = "SELECT max(version) AS version FROM envelope_private.dek WHERE key_uuid = $1"
NEWEST_FIELD_KEY = "SELECT max(version) AS version FROM envelope_private.field_key WHERE field_uuid = $1"
OF_SEARCH = "SELECT field_uuid FROM envelope_private.field WHERE key_uuid = $1 AND bind = 'search'"
SUSPENDED = """
SELECT FROM envelope_private.dek
WHERE key_uuid = $1 AND scope IS NOT DISTINCT FROM $2 AND state = 'suspended' AND suspended_from = 'active'"""
VERSION = """
SELECT dek_id, coalesce(suspended_from, state) AS state FROM envelope_private.dek
WHERE key_uuid = $1 AND version = $2
    AND CASE WHEN $3 THEN true WHEN $4 IS NULL THEN scope IS NULL ELSE scope = ANY ($4) END ORDER BY dek_id"""
RENEW_SCOPED = """
WITH old AS (
    UPDATE envelope_private.field_key SET state = 'decrypt-only' WHERE key_id = $1 RETURNING dek_id, version)
INSERT INTO envelope_private.field_key (dek_id, version, salt, state, counted_from)
SELECT o.dek_id, o.version, $2, 'active', envelope_private.count_from(d.key_uuid)
FROM old o JOIN envelope_private.dek d USING (dek_id) RETURNING key_id"""
# A suspended version stays suspended. unsuspend makes it compromised, and then a write makes a new one.
COMPROMISE = {
    "dek_id": """
UPDATE envelope_private.dek d SET state_since = now(),
    state = CASE o.state WHEN 'suspended' THEN o.state ELSE 'compromised' END,
    suspended_from = CASE o.state WHEN 'suspended' THEN 'compromised' END
FROM envelope_private.dek o WHERE d.dek_id = ANY ($1) AND o.dek_id = d.dek_id
    AND o.state <> 'active' AND coalesce(o.suspended_from, o.state) NOT IN ('compromised', 'destroyed')
RETURNING d.dek_id, o.state AS before""",
    "key_id": """
UPDATE envelope_private.field_key k SET state = 'compromised'
FROM envelope_private.field_key o JOIN envelope_private.dek d USING (dek_id)
WHERE k.dek_id = ANY ($1) AND o.key_id = k.key_id AND o.state NOT IN ('compromised', 'destroyed')
    AND (o.state <> 'active' OR d.state = 'suspended')
RETURNING k.key_id, o.state AS before""",
}

Transition = dict[str, object]


class StillActive(errors.NotConfigured):
    text = "this version is the active one"


NO_LIMIT = (None, None, None)


class Keys:
    """Makes and rotates keys. Every method runs as the extension's owner, within the caller's transaction."""

    def __init__(self, host: Host, link: Link) -> None:
        self._host = host
        self._link = link

    def create_named(self, name: str, kek: str, store: str | None) -> str:
        """Makes a named key with its first version.

        Returns its uuid. Raises BadInput when the name is in use or empty.
        """
        from pg_envelope.backend.field_options import FieldOptions

        if not name:
            raise errors.BadInput("a key needs a name")
        if self._host.row("SELECT key_uuid FROM envelope_private.key WHERE name = $1", ["text"], [name]):
            raise _taken()
        key_uuid = self.create(kek, store, name=name)
        self.add_first_version(key_uuid, [self.add_field(key_uuid, FieldOptions(bind="context"))])
        return key_uuid

    def create(self, kek: str, store: str | None, name: str | None = None, base: int | None = None) -> str:
        """Makes a key without versions, for a name or a table. Returns its uuid. Raises AlreadyProtected when another
        was quicker.
        """
        # It is made now. If the first writer of a tenant or subject made it, all others would wait for its commit.
        self._place()
        row = self._host.row(
            "INSERT INTO envelope_private.key (name, base, kek, store) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT DO NOTHING RETURNING key_uuid",
            ["text", "oid", "text", "text"],
            [name, base, kek, self.store(kek, store)],
        )
        if row is None:
            raise _taken()
        return str(row["key_uuid"])

    def add_field(self, key_uuid: str, options: FieldOptions) -> str:
        row = self._host.row(
            "INSERT INTO envelope_private.field"
            " (key_uuid, bind, suite, pad, audit, limit_rows, limit_seconds, limit_then)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING field_uuid",
            ["uuid", "text", "int2", "bool", "text", "int4", "int4", "text"],
            [key_uuid, options.bind, options.suite, options.pad, options.audit, *(options.limit or NO_LIMIT)],
        )
        return str(_present(row)["field_uuid"])

    def count(self, key_uuid: str) -> None:
        """Makes the message counter of the keys of all tenants or subjects now, so that many writers do not
        make it at once.
        """
        self._host.rows("SELECT envelope_private.count_from($1)", ["uuid"], [key_uuid])

    def rotate(self, key_uuid: str, reason: str = "") -> int:
        """Makes a DEK version with a new field key for each field. The old versions decrypt only. Returns the new
        version.
        """
        label = self._lock(key_uuid)
        self.refuse_suspended(key_uuid)
        self._refuse_search(key_uuid, label)
        fields = "SELECT field_uuid FROM envelope_private.field WHERE key_uuid = $1"
        made = self._add_version(key_uuid, [row["field_uuid"] for row in self._host.rows(fields, ["uuid"], [key_uuid])])
        self._record("rotate", label, made, reason)
        return int(_present(self._host.row(NEWEST_DEK, ["uuid"], [key_uuid]))["version"])

    def _refuse_search(self, key_uuid: str, label: str) -> None:
        """Refuses a search key: a new key would not find the stored tokens. Raises Unsupported."""
        if self._host.row(OF_SEARCH, ["uuid"], [key_uuid]):
            raise errors.Unsupported(
                f"{label} is a search key, whose tokens would have to be made anew",
                detail="Nothing was changed.",
                hint="CALL envelope.rotate_search(...) gives a search column another key.",
            )

    def rotate_field(self, key_uuid: str, column: str | None, reason: str = "") -> int:
        """Makes a field key, with a new salt, under the active DEK. The old one decrypts only. Returns its version."""
        label = self._lock(key_uuid)
        field = self._host.row(FIELD, ["uuid", "text"], [key_uuid, column])
        if field is None:
            raise errors.NotProtected("the table has no such protected column", hint="envelope.columns lists them.")
        self.refuse_suspended(key_uuid)
        field_uuid = str(field["field_uuid"])
        made = self._add_field_keys([field_uuid], self._active_dek(key_uuid))
        self._record("rotate_field", f"{label}.{column}", made, reason)
        return int(_present(self._host.row(NEWEST_FIELD_KEY, ["uuid"], [field_uuid]))["version"])

    def add_fields(self, key_uuid: str, wanted: Mapping[str, FieldOptions], *, is_scoped: bool) -> dict[str, str]:
        """Adds fields to a key that is in use. Returns their uuids by column.

        The keys of tenants and subjects serve every field, so nothing is made for them.

        Raises KeySuspended, KeyNotFound.
        """
        label = self._lock(key_uuid)
        fields = {name: self.add_field(key_uuid, options) for name, options in wanted.items()}
        if not is_scoped:
            self.refuse_suspended(key_uuid)
            dek_id = self._active_dek(key_uuid)
            made = self._add_field_keys(list(fields.values()), dek_id)
            self._record("create", label, made)
        return fields

    def _active_dek(self, key_uuid: str) -> int:
        dek = self._host.row(ACTIVE, ["uuid"], [key_uuid])
        if dek is None:
            raise errors.KeyNotFound("this key has no active version", hint="envelope.keys lists the versions.")
        return int(dek["dek_id"])

    def refuse_suspended(self, key_uuid: str, scope: str | None = None) -> None:
        """Refuses a new version of a suspended key, because new values would escape the suspension. Raises
        KeySuspended.
        """
        if self._host.row(SUSPENDED, ["uuid", "text"], [key_uuid, scope]) is not None:
            raise errors.KeySuspended

    def renew_field_key(self, field_uuid: str, dek_id: int, label: str, reason: str) -> None:
        """Does what rotate_field does, for a field whose rows the caller has locked."""
        self._record("rotate_field", label, self._add_field_keys([field_uuid], dek_id), reason)

    def renew_scope_key(self, key_id: int, label: str, reason: str) -> None:
        """Does the same for a tenant's or subject's key, under the DEK that it has."""
        row = _present(self._host.row(RENEW_SCOPED, ["int8", "bytea"], [key_id, os.urandom(32)]))
        made = _transition("key_id", row["key_id"], None, "active")
        self._record("rotate_field", label, [_transition("key_id", key_id, "active", "decrypt-only"), made], reason)

    def compromise(
        self, key_uuid: str, version: int, reason: str, scopes: list[str] | None = None, *, of_all: bool = False
    ) -> None:
        """Marks a DEK version that others may know: it decrypts, and never encrypts again. `of_all`: the version of
        each scope.

        Raises StillActive, KeyNotFound, KeyDestroyed.
        """
        label = self._lock(key_uuid)
        found = self._host.rows(VERSION, ["uuid", "int4", "bool", "text[]"], [key_uuid, version, of_all, scopes])
        if not found:
            raise errors.KeyNotFound("this key has no such version", hint="envelope.keys lists the versions.")
        if active := sum(row["state"] == "active" for row in found):
            raise StillActive(
                detail=f"it is that of {active} of {len(found)} tenants or subjects" if of_all else None,
                hint="Rotate first, envelope.rotate(...) or rotate_key(...); or rotate_emergency(...).",
            )
        alive = [row["dek_id"] for row in found if row["state"] != "destroyed"]
        if not alive:
            raise errors.KeyDestroyed
        self._record("compromise", label, self._marked(alive), reason)

    def compromise_old(self, key_uuid: str, reason: str) -> list[int]:
        """Marks all versions but the active one. Returns those that are marked now or were before."""
        label = self._lock(key_uuid)
        old = self._host.rows(OLD, ["uuid"], [key_uuid])
        self._record("rotate_emergency", label, self._marked([row["dek_id"] for row in old]), reason)
        return [row["version"] for row in old]

    def _marked(self, dek_ids: list[int]) -> list[Transition]:
        """Makes DEKs that do not encrypt compromised, with their field keys."""
        return [
            _transition(kind, row[kind], row["before"], "compromised")
            for kind, update in COMPROMISE.items()
            for row in self._host.rows(update, ["int8[]"], [dek_ids])
        ]

    def _lock(self, key_uuid: str) -> str:
        """Lets callers work one after the other. Returns the key's label, for the audit log."""
        return str(_present(self._host.row(LOCK, ["uuid"], [key_uuid]))["label"])

    def _record(self, action: str, label: str, transitions: list[Transition], reason: str = "") -> None:
        """Writes one line of the audit log, or several where one request cannot hold all changes."""
        told = {"database_uuid": self._database_uuid(), "action": action, "label": label, "reason": reason}
        for start in range(0, max(1, len(transitions)), MOST_TRANSITIONS):
            part = transitions[start : start + MOST_TRANSITIONS]
            self._link.ask("record", **told, transitions=part)

    def record_audit(self, action: str, key_uuid: str, label: str, change: str) -> None:
        """Tells the broker's audit log that another level of audit, or another limit, holds for a column."""
        self._lock(key_uuid)
        self._record(action, label, [], change)

    def store(self, kek: str, store: str | None) -> str:
        """Returns the store asked for, or the KEK's own default. Raises KekUnknown or DeletableKek before anything is
        made.
        """
        known = self.kek(kek)
        deletion.check(self._host, known)
        if store is not None and store not in ("catalog", known["store"]):
            raise errors.StoreUnknown
        return store or str(known["store"])

    def kek(self, name: str) -> Row:
        """Returns what the broker tells of a KEK. Raises KekUnknown."""
        known: dict[str, Row] = self._link.ask("status", look=name)["keks"]
        if name not in known:
            raise errors.KekUnknown(detail=f"KEKs of the broker: {', '.join(sorted(known)) or 'none'}")
        return known[name]

    def try_kek(self, kek: str, store: str) -> None:
        """Makes a DEK that nothing will use. So a KEK that cannot be used is found here, not by the first write.

        Raises what the broker says. In store vault an entry is left behind.
        """
        if store == "catalog":
            self._refuse_another(kek)
            (row,) = self._host.rows("SELECT envelope_private.next_dek_id() AS id")
            place = {**self._place(), "kek": kek, "store": store}
            self._link.ask("generate", **place, dek_ids=[row["id"]], label=f"trial of KEK {kek}")
        else:
            self._generate({"kek": kek, "store": store})

    def add_first_version(self, key_uuid: str, fields: list[str]) -> None:
        """Makes the first DEK of a key, and a field key for each of its fields."""
        self._record("create", self._lock(key_uuid), self._add_version(key_uuid, fields))

    def _add_version(self, key_uuid: str, fields: list[str]) -> list[Transition]:
        """Makes an active DEK with a field key for each of the fields. The version that was active before decrypts
        only.
        """
        dek_id, changed = self._add_dek(key_uuid)
        return changed + self._add_field_keys(fields, dek_id)

    def _add_dek(self, key_uuid: str) -> tuple[int, list[Transition]]:
        # The lock comes first: rotate_kek() then waits for every session that makes a DEK.
        retired = self._retire("dek", "dek_id", "key_uuid", [key_uuid])
        key = _present(
            self._host.row("SELECT kek, store FROM envelope_private.key WHERE key_uuid = $1", ["uuid"], [key_uuid])
        )
        dek_id, made = self._generate(key)
        fingerprint = wire.from_base64(made["fingerprint"])
        self._host.rows(
            "INSERT INTO envelope_private.dek (dek_id, key_uuid, version, state, kek, store, wrapped, fingerprint,"
            " kek_version) SELECT $1, $2, coalesce(max(version), 0) + 1, 'active', $3, $4, $5, $6, $7"
            " FROM envelope_private.dek WHERE key_uuid = $2",
            ["int8", "uuid", "text", "text", "text", "bytea", "int4"],
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
        return dek_id, [*retired, _transition("dek_id", dek_id, None, "active")]

    def _generate(self, key: Row) -> tuple[int, Row]:
        """Returns a new DEK from the broker. It passes over an id that the DEK's store already has, as after a restore.

        Raises AnotherKek before anything is made.
        """
        self._refuse_another(key["kek"])
        for _ in range(CONFLICT_RETRIES):
            dek_id = int(_present(self._host.row("SELECT envelope_private.next_dek_id() AS id"))["id"])
            try:
                made = self._link.ask(
                    "generate",
                    **self._place(),
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

    def _refuse_another(self, kek: str) -> None:
        same_kek.check(self._host, self._link, kek, self._place())

    def _place(self) -> dict[str, str]:
        """Returns where new keys belong. A broker of another environment refuses to make them."""
        here = environment.installed(self._host, self._link)
        return {"database_uuid": here["uuid"], "environment": here["environment"]}

    def _database_uuid(self) -> str:
        return str(environment.installed(self._host, self._link)["uuid"])

    def _add_field_keys(self, fields: list[str], dek_id: int) -> list[Transition]:
        """Makes an active key for each field. The keys that were active before decrypt only."""
        # One statement for all: each is a subtransaction, and PostgreSQL keeps a list of those that locked the DEK.
        retired = self._retire("field_key", "key_id", "field_uuid", fields)
        rows = self._host.rows(
            "INSERT INTO envelope_private.field_key (field_uuid, dek_id, version, salt, state, counted_from)"
            " SELECT f.field_uuid, $2, 1 + (SELECT coalesce(max(k.version), 0) FROM envelope_private.field_key k"
            " WHERE k.field_uuid = f.field_uuid), f.salt, 'active', envelope_private.count_from(f.field_uuid)"
            " FROM unnest($1::uuid[], $3::bytea[]) f (field_uuid, salt) RETURNING key_id",
            ["text[]", "int8", "bytea[]"],
            [fields, dek_id, [os.urandom(32) for _ in fields]],
        )
        return [*retired, *(_transition("key_id", row["key_id"], None, "active") for row in rows)]

    def _retire(self, table: str, kind: str, column: str, uuids: list[str]) -> list[Transition]:
        """Makes the active versions decrypt-only, because newer versions are about to follow."""
        since = ", state_since = now()" if table == "dek" else ""
        change = (
            f"SET state = 'decrypt-only'{since} WHERE {column} = ANY ($1::uuid[]) AND state = 'active' RETURNING {kind}"
        )
        rows = self._host.rows(f"UPDATE envelope_private.{table} {change}", ["text[]"], [uuids])
        return [_transition(kind, row[kind], "active", "decrypt-only") for row in rows]


def chosen_kek(kek: str | None) -> str:
    """Returns the KEK that an argument names. An empty name is no KEK's, and is refused like any unknown name."""
    return "default" if kek is None else kek


def _transition(kind: str, number: int, before: str | None, after: str) -> Transition:
    return {kind: number, "from": before, "to": after}


def _taken() -> errors.AlreadyProtected:
    return errors.AlreadyProtected("this name or table has a key already", hint="envelope.keys lists the keys.")


def _present(row: Row | None) -> Row:
    if row is None:
        raise errors.EnvelopeError("the key catalog lacks a row that it must have")
    return row
