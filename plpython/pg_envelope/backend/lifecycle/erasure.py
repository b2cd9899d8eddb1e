"""Carries out shred() and shred_key(): first the broker's ledger, then the catalog. A repeated call goes on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence

from pg_envelope import errors, wire
from pg_envelope.backend.host import Row
from pg_envelope.backend.keys import Keys, Transition
from pg_envelope.backend.lifecycle import identity, revocation
from pg_envelope.backend.lifecycle.batches import ONE_BY_ONE
from pg_envelope.backend.link import not_understood
from pg_envelope.backend.scope_keys import LOCK as LOCK_SCOPE
from pg_envelope.backend.search import clearing
from pg_envelope.typed import Any

# A DEK in store vault costs a request of its own there.
BATCH = 50
SALT_BYTES = 16
KEY = """
SELECT key_uuid, name, coalesce(scope_of, key_uuid) AS owner, scope, coalesce(name, view::text, base::text) AS label
FROM envelope_private.key WHERE $1 IN (base, view) OR name = $2"""
DROPPED = """
SELECT k.key_uuid, NULL AS name, coalesce(k.scope_of, k.key_uuid) AS owner, k.scope, 'a dropped table' AS label,
    (SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid::regclass::text)
    FROM envelope_private.key o JOIN pg_catalog.pg_class c ON c.oid = o.base
    WHERE coalesce(o.scope_of, o.key_uuid) = coalesce(k.scope_of, k.key_uuid)) AS used_by
FROM envelope_private.key k WHERE k.key_uuid = $1 AND k.name IS NULL"""
DEKS = """
SELECT dek_id, fingerprint, kek, store, kek_version, state FROM envelope_private.dek
WHERE key_uuid = $1 AND scope IS NOT DISTINCT FROM $2 ORDER BY version"""
TABLES = """
SELECT string_agg(coalesce(view::text, base::text), ', ' ORDER BY coalesce(view::text, base::text)) AS found
FROM envelope_private.key WHERE $1 IN (key_uuid, scope_of) AND base::oid IN (SELECT oid FROM pg_catalog.pg_class)"""
DESTROY = {
    "dek_id": """
UPDATE envelope_private.dek d SET state = 'destroyed', suspended_from = NULL, wrapped = NULL, state_since = now()
FROM envelope_private.dek o
JOIN unnest($1::bigint[], $2::bytea[]) AS n (dek_id, fingerprint) USING (dek_id, fingerprint)
WHERE d.dek_id = o.dek_id AND o.state <> 'destroyed' RETURNING d.dek_id, o.state AS before""",
    "key_id": """
UPDATE envelope_private.field_key k SET state = 'destroyed' FROM envelope_private.field_key o
JOIN envelope_private.dek d USING (dek_id)
JOIN unnest($1::bigint[], $2::bytea[]) AS n (dek_id, fingerprint) USING (dek_id, fingerprint)
WHERE k.key_id = o.key_id AND o.state <> 'destroyed' RETURNING k.key_id, o.state AS before""",
}
BURY = """
INSERT INTO envelope_private.tombstone (dek_id, fingerprint, key_uuid, label, subject, salt, kek, store, kek_version,
    reason, erased_by, erased_at, made_at, ledger_line)
SELECT n.dek_id, n.fingerprint, d.key_uuid, $3, decode($4, 'hex'), decode($5, 'hex'), $6, $7, $8,
    $9, $10, $11::timestamptz, d.created_at, $12
FROM (SELECT $1::bigint AS dek_id, $2::bytea AS fingerprint) AS n
LEFT JOIN envelope_private.dek d USING (dek_id, fingerprint) ON CONFLICT DO NOTHING"""
AGAIN = "Keys that were destroyed stay destroyed. A second call goes on."


class Erasure(Keys):
    """Runs as a superuser, in a procedure that has begun a transaction of its own."""

    def of_table(self, oid: int) -> Row:
        """Returns the key of a protected table. Raises NotProtected."""
        row = self._host.row(KEY, ["oid", "text"], [oid, None])
        if row is None:
            raise errors.NotProtected(
                "the table is not protected",
                hint="envelope.columns lists the protected ones. Restored? CALL envelope.adopt_restored(...)",
            )
        return row

    def of_name(self, name: str | None) -> Row:
        """Returns a named key. Raises KeyNotFound."""
        row = self._host.row(KEY, ["oid", "text"], [None, name])
        if row is None:
            raise errors.KeyNotFound("there is no key of this name", hint="envelope.keys lists the keys.")
        return row

    def of_dropped(self, key_uuid: str | None) -> Row:
        """Returns the key of a table that is gone. Raises KeyNotFound, and BadInput while a table uses its DEKs."""
        row = self._host.row(DROPPED, ["uuid"], [key_uuid])
        if row is None:
            raise errors.KeyNotFound(
                "there is no such key of a dropped table", hint="envelope.dropped_keys lists them."
            )
        if row["used_by"]:
            raise errors.BadInput(
                "a table uses these keys", detail=row["used_by"], hint="Erase them by CALL envelope.shred(...)."
            )
        return row

    def shred(self, what: str, key: Row, subject: str | None, reason: str) -> None:
        """Destroys every version that the subject, the table or the named key has. Commits, and empties all caches.

        Raises BadInput without a reason, and MaybeCopy.
        """
        _check_reason(what, reason)
        # The lock keeps away a batch of rewrap(), and a session that makes a key for this subject.
        self._host.run(ONE_BY_ONE)
        label = self._lock(key["owner"])
        if subject is not None:
            self._host.rows(LOCK_SCOPE, ["uuid", "text"], [key["owner"], subject])
        found = self._host.rows(DEKS, ["uuid", "text"], [key["owner"], subject])
        if not found:
            raise errors.KeyNotFound(
                f"{label} has no key version to destroy", hint="envelope.keys lists the versions of each key."
            )
        alive = [row for row in found if row["state"] != "destroyed"]
        # This comes first: if a row is locked, nothing has been destroyed yet.
        clearing.clear(self._host, str(key["owner"]), subject)
        self.destroy(what, label, alive, subject, reason)
        self._end(what)
        self._tell(what, key, len(alive), len(found))

    def _end(self, what: str) -> None:
        """Commits, and makes all sessions forget the erased keys."""
        mark = revocation.mark(self._host)
        self._host.commit()
        revocation.tell(self._host, mark)
        self._link.ask("flush", reason=what)

    def destroy(self, what: str, label: str, deks: Sequence[Row], subject: str | None, reason: str) -> None:
        """Lets the broker erase these DEKs, and destroys them in the catalog, within the caller's transaction.

        Raises MaybeCopy.
        """
        salt = None if subject is None else os.urandom(SALT_BYTES)
        digest = None if subject is None or salt is None else hashlib.sha256(salt + subject.encode()).hexdigest()
        told = {"label": label, "reason": reason, "subject": digest, "salt": None if salt is None else salt.hex()}
        if deks:
            self._refuse_copy()
            self.bury(deks, self.ask(deks, told))
            self._record(what, label, self.carry_out(deks), reason)

    def ask(self, deks: Sequence[Row], told: dict[str, str | None]) -> list[wire.Message]:
        """Returns the ledger's entry for each DEK, which is dead by then. Raises the error of a KMS's store that
        refused.
        """
        parts = (deks[start : start + BATCH] for start in range(0, len(deks), BATCH))
        return [entry for part in parts for entry in self._ask(part, told)]

    def _refuse_copy(self) -> None:
        """Refuses to erase in a copy: the ledger names DEKs by the database's uuid, and a copy has the same uuid."""
        identity.refuse_copy(self._host)
        others = identity.others_of(self._link, self._database_uuid())
        identity.refuse_twin(others, self._link.who().get("instance"))

    def rehearse(self, key: Row) -> None:
        """Raises what would keep the versions of a named key from being erased. It changes nothing."""
        self._refuse_copy()
        found = self._host.rows(DEKS, ["uuid", "text"], [key["owner"], None])
        told = {"label": key["label"], "reason": "rehearsal", "subject": None, "salt": None, "rehearse": True}
        self._link.ask("erase", **self._place(), deks=_refs(found), **told)

    def _ask(self, deks: Sequence[Row], told: dict[str, str | None]) -> list[wire.Message]:
        try:
            answer = self._link.ask("erase", **self._place(), deks=_refs(deks), **told)["deks"]
        except errors.Unavailable as error:
            if type(error) in (errors.Unavailable, errors.Deadline, errors.Internal):
                # The error does not tell whether the erasure came so far.
                error.hint = f"{error.hint or ''} {AGAIN}".strip()
            raise
        return list(self._entries(deks, answer))

    def _entries(self, deks: Sequence[Row], answer: Any) -> Iterator[wire.Message]:
        try:
            for dek, found in zip(deks, answer, strict=True):
                if "error" in found:
                    raise wire.error_from(found["error"])
                if found["dek_id"] != dek["dek_id"]:
                    raise not_understood()
                for kms in found["unchecked"]:
                    self._host.warning(
                        f"the store of kms {kms} could not be searched for old wraps of DEK {dek['dek_id']}", hint=AGAIN
                    )
                yield found["entry"]
        except (LookupError, TypeError, ValueError):
            raise not_understood() from None

    def carry_out(self, deks: Sequence[Row]) -> list[Transition]:
        """Destroys the DEKs in the catalog that it has and that live there."""
        values = [[row["dek_id"] for row in deks], [row["fingerprint"] for row in deks]]
        return [
            {kind: row[kind], "from": row["before"], "to": "destroyed"}
            for kind, statement in DESTROY.items()
            for row in self._host.rows(statement, ["int8[]", "bytea[]"], values)
        ]

    def bury(self, deks: Sequence[Row], entries: Sequence[wire.Message]) -> None:
        """Writes a tombstone for each DEK, with the ledger's own words."""
        for dek, entry in zip(deks, entries, strict=True):
            self._host.rows(
                BURY,
                ["int8", "bytea", "text", "text", "text", "text", "text", "int4", "text", "text", "text", "int8"],
                [
                    dek["dek_id"],
                    dek["fingerprint"],
                    entry["label"],
                    entry["subject"],
                    entry["salt"],
                    dek["kek"],
                    dek["store"],
                    dek["kek_version"],
                    entry["reason"],
                    str(entry["who"].get("role", "")),
                    entry["time"],
                    entry["n"],
                ],
            )

    def _tell(self, what: str, key: Row, count: int, all_versions: int) -> None:
        row = self._host.row(TABLES, ["uuid"], [key["owner"]])
        tables = f"; erased in: {row['found']}" if row and row["found"] else ""
        hint = None
        if key["scope"] == "table" and "used_by" not in key:
            rotate = "rotate_key(...)" if key["name"] else "rotate(...)"
            hint = f"New writes fail until SELECT envelope.{rotate} makes a new version."
        self._host.notice(
            f"{what}: {count} of {all_versions} key versions of {key['label']} destroyed{tables}", hint=hint
        )


def _refs(deks: Sequence[Row]) -> list[wire.Message]:
    return [
        {
            "dek_id": row["dek_id"],
            "fingerprint": wire.to_base64(row["fingerprint"]),
            "kek": row["kek"],
            "store": row["store"],
            "kek_version": row["kek_version"],
        }
        for row in deks
    ]


def _check_reason(what: str, reason: str) -> None:
    if not reason.strip():
        raise errors.BadInput(
            f"{what}() needs a reason",
            hint="The reason stays in the ledger and the audit log: give a ticket's number, not a name.",
        )


def check_scope(key: Row, subject: str | None) -> None:
    """Raises BadInput for a subject where there are none, and for no subject where they have keys of their own."""
    if key["scope"] == "table" and subject is not None:
        raise errors.BadInput(
            "this table has one key for all its rows, so nobody in it can be erased alone",
            detail="Nothing was destroyed.",
            hint="DELETE their rows. Tables that were protected with scope => 'subject' have a key for each person.",
        )
    if key["scope"] != "table" and subject is None:
        raise errors.BadInput(
            f"this table has a key for each {key['scope']}", hint="Say which one: shred(rel, subject)."
        )
