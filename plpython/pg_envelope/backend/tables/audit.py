"""Carries out set_audit(): what the ledger of reads holds of the reads of a protected column."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.host import Host
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
RETURNING c.label, o.audit AS before"""


def set_audit(host: Host, link: Link, keys: Keys, oid: int, column: str | None, level: str | None) -> None:
    """Commits, and then takes the keys from all sessions, which must get them anew with the new level.

    Raises BadInput, NotProtected, or what `link` raises.
    """
    check_audit(level)
    # As suspend() does: the sequence that TELL sets must grow in the order of the commits.
    host.run(ONE_BY_ONE)
    key = catalog.key_of(host, oid)
    row = host.row(CHANGE, ["uuid", "text", "text"], [key["key_uuid"], column, level])
    if row is None:
        raise errors.NotProtected("the table has no such protected column", hint="envelope.columns lists them.")
    refresh(host, oid)
    keys.record_audit(str(key["key_uuid"]), row["label"], f"{row['before']} to {level}")
    xid = revocation.mark(host)
    host.commit()
    host.run(ONE_BY_ONE)
    host.rows(TELL, ["bigint"], [xid])
    revocation.tell(host, xid)
    _flush(link)


def _flush(link: Link) -> None:
    try:
        link.ask("flush", reason="set_audit")
    except errors.EnvelopeError as error:
        error.detail = (
            "The level is set. A session that has the column's key goes on as before until the key's time is over."
        )
        error.hint = f"{error.hint or ''} Then call set_audit() again.".strip()
        raise
