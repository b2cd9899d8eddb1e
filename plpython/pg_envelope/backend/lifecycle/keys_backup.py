"""Carries DEKs into a backup and out of it, between the catalog and the broker. Here they are always sealed."""

from __future__ import annotations

from pg_envelope import errors, wire
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.lifecycle.environment import INSTALLATION
from pg_envelope.backend.link import Link, not_understood

MOST = 200
NEXT = """
SELECT d.dek_id, d.key_uuid::text, coalesce(k.name, k.view::text, k.base::text, 'dropped') AS label, d.version, d.state,
    d.kek, d.store, d.kek_version, d.wrapped, d.fingerprint
FROM envelope_private.dek d LEFT JOIN envelope_private.key k USING (key_uuid)
WHERE d.state <> 'destroyed' AND d.dek_id > $1 ORDER BY d.dek_id LIMIT $2"""
TOLD = ("dek_id", "key_uuid", "label", "version", "state", "kek", "store", "kek_version")
# The rows are locked, so that no rewrap under way writes the old KEK's wrap over the new one.
RETURNED = """
SELECT d.dek_id, d.fingerprint FROM envelope_private.dek d
WHERE d.dek_id = ANY ($1) AND d.state <> 'destroyed' ORDER BY d.dek_id FOR UPDATE"""
# The next versions are made under the new KEK, too, where they would be made under the lost one.
REDIRECT = {
    "key": """
UPDATE envelope_private.key k SET kek = $1, store = CASE WHEN $2 THEN k.store ELSE 'catalog' END
FROM envelope_private.dek d WHERE d.dek_id = ANY ($3) AND d.key_uuid = k.key_uuid AND d.kek = k.kek""",
    "tenant": """
UPDATE envelope_private.tenant t SET kek = $1, store = CASE WHEN $2 THEN t.store ELSE 'catalog' END
FROM envelope_private.dek d WHERE d.dek_id = ANY ($3) AND d.key_uuid = t.key_uuid
    AND d.scope = t.scope AND d.kek = t.kek""",
}
# The lost KEK wrapped these spares. It may even have the name of the new one.
DROP_SPARES = """
SELECT envelope_private.drop_spares(of_key => k.key_uuid)
FROM (SELECT DISTINCT d.key_uuid FROM envelope_private.dek d WHERE d.dek_id = ANY ($1)) k"""
KEEP = """
UPDATE envelope_private.dek d SET kek = $1, store = 'catalog', wrapped = n.wrapped, kek_version = n.kek_version
FROM unnest($2::bigint[], $3::text[], $4::int4[]) AS n (dek_id, wrapped, kek_version) WHERE d.dek_id = n.dek_id"""


class KeysBackup:
    """Carries one batch a call, in the caller's transaction."""

    def __init__(self, host: Host, link: Link, keys: Keys) -> None:
        self._host, self._link, self._keys = host, link, keys

    def keys_backup(self, after: int | None, how_many: int | None) -> list[Row]:
        """Returns the next DEKs, sealed. `error` says why a DEK is not sealed."""
        rows = self._host.rows(NEXT, ["int8", "int4"], [after or 0, min(how_many or MOST, MOST)])
        if not rows:
            return []
        answer = self._asked("keys_backup", [_request(row) for row in rows])
        return [
            {name: row[name] for name in TOLD}
            | {"fingerprint": row["fingerprint"].hex(), "sealed": found.get("sealed"), "error": _problem(found)}
            for row, found in zip(rows, answer, strict=True)
        ]

    def place(self) -> list[Row]:
        """Raises NotPermitted when the broker has no break-glass key."""
        return self._place("keys_backup")

    def keys_return_key(self, kek: str | None) -> list[Row]:
        """Raises NotPermitted unless the broker's configuration allows a restore."""
        self._keys.kek(kek or "")
        return self._place("keys_return", kek=kek or "")

    def _place(self, op: str, **more: str) -> list[Row]:
        """Returns one row: the broker's public key and environment, and the database's uuid. The request carries no
        DEK.
        """
        here = self._installation()
        told = self._ask(op, [], **more)
        known = {name: str(told[name]) for name in ("public_key", "environment")}
        return [{**known, "database_uuid": here["uuid"]}]

    def keys_return(self, kek: str, public_key: str, dek_ids: list[int], sealed: list[str]) -> list[Row]:
        """Brings DEKs back. It passes over destroyed DEKs and those that the catalog does not have: no row tells of
        them.
        """
        if None in (kek, public_key, dek_ids, sealed) or len(dek_ids) != len(sealed):
            raise errors.BadInput("keys_return() needs a KEK, a public key, and a sealed key for each DEK")
        known = {row["dek_id"]: row for row in self._host.rows(RETURNED, ["int8[]"], [dek_ids])}
        wanted = [
            {"dek_id": dek_id, "fingerprint": wire.to_base64(known[dek_id]["fingerprint"]), "sealed": text}
            for dek_id, text in zip(dek_ids, sealed, strict=True)
            if dek_id in known
        ]
        if not wanted:
            return []
        answer = self._asked("keys_return", wanted, kek=kek, public_key=public_key)
        self._keep(kek, [found for found in answer if "error" not in found])
        return [{"dek_id": found["dek_id"], "error": _problem(found)} for found in answer]

    def _keep(self, kek: str, good: list[wire.Message]) -> None:
        dek_ids = [found["dek_id"] for found in good]
        has_vault = self._keys.kek(kek)["store"] == "vault"
        for statement in REDIRECT.values():
            self._host.rows(statement, ["text", "bool", "int8[]"], [kek, has_vault, dek_ids])
        self._host.rows(DROP_SPARES, ["int8[]"], [dek_ids])
        columns = [[found[name] for found in good] for name in ("wrapped", "kek_version")]
        self._host.rows(KEEP, ["text", "int8[]", "text[]", "int4[]"], [kek, dek_ids, *columns])

    def _asked(self, op: str, deks: list[Row], **more: str) -> list[wire.Message]:
        """Returns the answers, in the order of the request."""
        answer: list[wire.Message] = self._ask(op, deks, **more)["deks"]
        if [found["dek_id"] for found in answer] != [dek["dek_id"] for dek in deks]:
            raise not_understood()
        return answer

    def _ask(self, op: str, deks: list[Row], **more: str) -> wire.Message:
        here = self._installation()
        place = {"database_uuid": here["uuid"], "environment": here["environment"]}
        return self._link.ask(op, deks=deks, **place, **more)

    def _installation(self) -> Row:
        row = self._host.row(INSTALLATION)
        if row is None:
            raise errors.KeyNotFound("this database has no keys")
        return row


def _request(row: Row) -> Row:
    request = {name: row[name] for name in ("dek_id", "kek", "store", "wrapped")}
    return {**request, "fingerprint": wire.to_base64(row["fingerprint"])}


def _problem(found: wire.Message) -> str | None:
    return wire.error_from(found["error"]).message if "error" in found else None
