"""Carries out set_audit() and set_audit_key(): what the ledger of reads holds of a column's or named key's reads."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.lifecycle import revocation
from pg_envelope.backend.lifecycle.batches import ONE_BY_ONE
from pg_envelope.backend.lifecycle.suspension import TELL
from pg_envelope.backend.link import Link
from pg_envelope.backend.tables import catalog
from pg_envelope.backend.tables.options import check_audit
from pg_envelope.backend.tables.refresh import refresh

CHANGE = """
UPDATE envelope_private.field f SET audit = $3
FROM envelope_private.protected_column c JOIN envelope_private.field o USING (field_uuid)
WHERE f.field_uuid = c.field_uuid AND c.key_uuid = $1 AND c.attname = $2
RETURNING f.key_uuid, c.label, o.audit AS before"""
CHANGE_KEY = """
UPDATE envelope_private.field f SET audit = $2
FROM envelope_private.key k JOIN envelope_private.field o USING (key_uuid)
WHERE f.field_uuid = o.field_uuid AND k.name = $1
RETURNING f.key_uuid, k.name AS label, o.audit AS before"""


class Auditing:
    """Both methods commit, and then take the keys from all sessions, which must get them anew with the new level."""

    def __init__(self, host: Host, link: Link, keys: Keys) -> None:
        self._host, self._link, self._keys = host, link, keys

    def of_column(self, oid: int, column: str | None, level: str | None) -> None:
        """Raises BadInput, NotProtected, or what the broker says."""
        self._begin(level)
        key = catalog.key_of(self._host, oid)
        row = self._host.row(CHANGE, ["uuid", "text", "text"], [key["key_uuid"], column, level])
        if row is None:
            raise errors.NotProtected("the table has no such protected column", hint="envelope.columns lists them.")
        refresh(self._host, oid)
        self._end(row, level)

    def of_key(self, name: str | None, level: str | None) -> None:
        """Raises BadInput, KeyNotFound, or what the broker says."""
        self._begin(level)
        row = self._host.row(CHANGE_KEY, ["text", "text"], [name, level])
        if row is None:
            raise errors.KeyNotFound("there is no named key of this name", hint="envelope.keys lists the keys.")
        self._end(row, level)

    def _begin(self, level: str | None) -> None:
        check_audit(level)
        # As suspend() does: the sequence that TELL sets must grow in the order of the commits.
        self._host.run(ONE_BY_ONE)

    def _end(self, row: Row, level: str | None) -> None:
        self._keys.record_audit(row["key_uuid"], row["label"], f"{row['before']} to {level}")
        xid = revocation.mark(self._host)
        self._host.commit()
        self._host.run(ONE_BY_ONE)
        self._host.rows(TELL, ["bigint"], [xid])
        revocation.tell(self._host, xid)
        _flush(self._link)


def _flush(link: Link) -> None:
    try:
        link.ask("flush", reason="set_audit")
    except errors.EnvelopeError as error:
        error.detail = (
            "The level is set. A session that has the column's key goes on as before until the key's time is over."
        )
        error.hint = f"{error.hint or ''} Then call set_audit() again.".strip()
        raise
