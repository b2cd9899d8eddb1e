"""Notes in the catalog that keys were taken away, for the sessions of a standby, which hear no epoch at the right
moment.

The row is written with the change itself, so a snapshot that lacks the change lacks the row. The sequence is set after
the commit, in the order of the WAL, and is visible under every snapshot. Where the sequence is ahead of the row, the
snapshot is too old.
"""

from __future__ import annotations

from pg_envelope.backend.host import Host

MARK = "UPDATE envelope_private.revocation SET xid = pg_current_xact_id()::text::bigint RETURNING xid"
# setval() writes WAL each time. nextval() writes none for most of its values.
TELL = "SELECT setval('envelope_private.revocation_xid', greatest(last_value, $1)) FROM envelope_private.revocation_xid"


def mark(host: Host) -> int:
    """Writes the row, in the transaction that takes keys away. Returns the number to give to `tell`."""
    row = host.row(MARK)
    return int(row["xid"]) if row else 0


def tell(host: Host, mark: int) -> None:
    """Sets the sequence after that transaction's commit, and commits."""
    host.rows(TELL, ["int8"], [mark])
    host.commit()
