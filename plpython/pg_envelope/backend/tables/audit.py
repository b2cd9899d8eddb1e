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
from pg_envelope.backend.tables.options import ACTIONS, check_audit
from pg_envelope.backend.tables.refresh import refresh
from pg_envelope.typed import NamedTuple

FOUND = """
SELECT c.field_uuid, c.key_uuid, c.label, f.audit AS before, f.limit_rows
FROM envelope_private.protected_column c JOIN envelope_private.field f USING (field_uuid)
WHERE c.key_uuid = $1 AND c.attname = $2"""
CHANGE = "UPDATE envelope_private.field SET audit = $2 WHERE field_uuid = $1 RETURNING field_uuid"
CHANGE_LIMIT = """
UPDATE envelope_private.field f SET limit_rows = $3,
    limit_seconds = CASE WHEN $3 IS NOT NULL THEN greatest(1, EXTRACT(epoch FROM $4)::int) END,
    limit_then = CASE WHEN $3 IS NOT NULL THEN $5 END
FROM envelope_private.protected_column c JOIN envelope_private.field o USING (field_uuid)
WHERE f.field_uuid = c.field_uuid AND c.key_uuid = $1 AND c.attname = $2 AND o.audit <> 'none'
RETURNING f.key_uuid, c.label, format('%s in %s s: %s', o.limit_rows, o.limit_seconds, o.limit_then) AS before,
    format('%s in %s s: %s', f.limit_rows, f.limit_seconds, f.limit_then) AS now"""
LEVEL_HINT = "A limit counts by the events of the ledger of reads: CALL envelope.set_audit(..., 'statement') first."
CHANGE_KEY = """
UPDATE envelope_private.field f SET audit = $2
FROM envelope_private.key k JOIN envelope_private.field o USING (key_uuid)
WHERE f.field_uuid = o.field_uuid AND k.name = $1
RETURNING f.field_uuid, f.key_uuid, k.name AS label, o.audit AS before"""
CLIENTS = """
SELECT string_agg(role::text, ', ') AS roles FROM envelope_private.client_grant
WHERE field_uuid = $1 OR field_uuid IN (SELECT search_uuid FROM envelope_private.search WHERE field_uuid = $1)"""


class LimitWanted(NamedTuple):
    """The arguments of set_limit(). `rows` of None ends the limit. `per` is an interval's text."""

    rows: int | None
    per: str | None
    action: str | None

    def check(self) -> None:
        """Raises BadInput."""
        if self.rows is not None and self.rows < 1:
            raise errors.BadInput("rows must be above 0", hint="NULL ends the limit.")
        if self.per is None or self.action not in ACTIONS:
            raise errors.BadInput(f"a limit needs a time, and an action of {', '.join(ACTIONS)}")


class Auditing:
    """Both methods commit, and then take the keys from all sessions, which must get them anew with the new level."""

    def __init__(self, host: Host, link: Link, keys: Keys) -> None:
        self._host, self._link, self._keys = host, link, keys

    def of_column(self, oid: int, column: str | None, level: str | None) -> None:
        """Raises BadInput, NotProtected, or what the broker says."""
        self._begin(level)
        catalog.refuse_rollout(self._host, oid, "set_audit")
        key = catalog.key_of(self._host, oid)
        row = self._host.row(FOUND, ["uuid", "text"], [key["key_uuid"], column])
        if row is None:
            raise errors.NotProtected("the table has no such protected column", hint="envelope.columns lists them.")
        self._refuse_limited(row, level)
        row = self._host.rows(CHANGE, ["uuid", "text"], [row["field_uuid"], level])[0] | row
        self._refuse_clients(row, level)
        refresh(self._host, oid)
        self._end(row, level)

    def limit_column(self, oid: int, column: str | None, limit: LimitWanted) -> None:
        """Raises BadInput, NotProtected, or what the broker says."""
        limit.check()
        self._host.run(ONE_BY_ONE)
        key = catalog.key_of(self._host, oid)
        row = self._host.row(
            CHANGE_LIMIT,
            ["uuid", "text", "int4", "interval", "text"],
            [key["key_uuid"], column, limit.rows, limit.per, limit.action],
        )
        if row is None:
            raise errors.NotProtected("the table has no such audited column", hint=LEVEL_HINT)
        self._end({**row, "before": row["before"] or "no limit"}, row["now"] or "no limit", "set_limit")

    def of_key(self, name: str | None, level: str | None) -> None:
        """Raises BadInput, KeyNotFound, or what the broker says."""
        self._begin(level)
        row = self._host.row(CHANGE_KEY, ["text", "text"], [name, level])
        if row is None:
            raise errors.KeyNotFound("there is no named key of this name", hint="envelope.keys lists the keys.")
        self._refuse_clients(row, level)
        self._end(row, level)

    def _refuse_limited(self, row: Row, level: str | None) -> None:
        """Refuses to end the audit of a column whose limit counts by it. Raises BadInput."""
        if level == "none" and row["limit_rows"] is not None:
            raise errors.BadInput(
                "a column with a limit must be audited", hint="CALL envelope.set_limit(..., NULL) ends the limit first."
            )

    def _refuse_clients(self, row: Row, level: str | None) -> None:
        """Refuses to audit what clients open outside the server, where no read leaves an event. Raises
        NotConfigured. The change of the level has the row's lock, so no other client can come meanwhile.
        """
        clients = self._host.row(CLIENTS, ["uuid"], [row["field_uuid"]])
        if level != "none" and clients and clients["roles"]:
            raise errors.NotConfigured(
                "clients may open these values outside the server, where no read leaves an event",
                detail=clients["roles"],
                hint="envelope.revoke_client(...), revoke_client_search(...) or revoke_client_key(...) first,"
                " then rotate: they keep their keys.",
            )

    def _begin(self, level: str | None) -> None:
        check_audit(level)
        # As suspend() does: the sequence that TELL sets must grow in the order of the commits.
        self._host.run(ONE_BY_ONE)

    def _end(self, row: Row, now: str | None, action: str = "set_audit") -> None:
        self._keys.record_audit(action, row["key_uuid"], row["label"], f"{row['before']} to {now}")
        xid = revocation.mark(self._host)
        self._host.commit()
        self._host.run(ONE_BY_ONE)
        self._host.rows(TELL, ["int8"], [xid])
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
