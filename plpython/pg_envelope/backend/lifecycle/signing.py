"""Lets the broker sign statements with the named key `pg_envelope receipts`, which is made at its first use."""

from __future__ import annotations

import contextlib

from pg_envelope import errors, wire
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.link import Link
from pg_envelope.typed import Any, NamedTuple

NAME = "pg_envelope receipts"
# The KEK of the database's first key: a KEK of this name need not exist.
KEK = "SELECT kek FROM envelope_private.key ORDER BY created_at, key_uuid LIMIT 1"
VERSIONS = """
SELECT d.version, d.state, d.dek_id, d.kek, d.store, d.wrapped, d.fingerprint, i.database_uuid
FROM envelope_private.key k JOIN envelope_private.dek d USING (key_uuid) CROSS JOIN envelope_private.installation i
WHERE k.name = $1 AND d.state NOT IN ('suspended', 'destroyed') ORDER BY d.version"""


class Signed(NamedTuple):
    """A signed statement: its text, byte for byte, and `signature` and `public_key` in base64."""

    text: str
    signature: str
    public_key: str


class Signing:
    """Signs as the extension's owner, within the caller's transaction."""

    def __init__(self, host: Host, link: Link, keys: Keys) -> None:
        self._host, self._link, self._keys = host, link, keys

    def sign(self, statement: dict[str, Any]) -> Signed:
        """Signs a statement by the active version. The broker adds environment, database, who asks, and the time."""
        active = self._active() or self._made()
        if active is None:
            raise errors.KeyNotFound(f"the key '{NAME}' has no active version", hint="SELECT envelope.rotate_key(name)")
        return self._ask(active, statement)

    def public_keys(self) -> list[Row]:
        """Returns a row for each version that still opens: version, state and public_key."""
        rows = self._host.rows(VERSIONS, ["text"], [NAME])
        told = {"what": "public key"}
        return [
            {"version": row["version"], "state": row["state"], "public_key": self._ask(row, told).public_key}
            for row in rows
        ]

    def _active(self) -> Row | None:
        rows = self._host.rows(VERSIONS, ["text"], [NAME])
        return next((row for row in rows if row["state"] == "active"), None)

    def _made(self) -> Row | None:
        kek = self._host.row(KEK)
        # The name is in use. Either another session has made the key meanwhile, or none of its versions is active.
        with contextlib.suppress(errors.AlreadyProtected):
            self._keys.create_named(NAME, str(kek["kek"]) if kek else "default", None)
        return self._active()

    def _ask(self, row: Row, statement: dict[str, Any]) -> Signed:
        dek = {
            "dek_id": row["dek_id"],
            "kek": row["kek"],
            "store": row["store"],
            "wrapped": row["wrapped"],
            "fingerprint": wire.to_base64(row["fingerprint"]),
            "fields": [],
        }
        answer = self._link.ask("sign", database_uuid=row["database_uuid"], key=dek, statement=statement)
        return Signed(*(str(answer[name]) for name in ("statement_signed", "signature", "public_key")))
