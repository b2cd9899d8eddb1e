"""Whatever takes keys away says so in the catalog, too: sessions of a standby hear no epoch at the right moment.

The row is written with the change itself, so a snapshot that lacks the change lacks the row. The sequence follows the
commit, in the order of the WAL, and shows whatever the snapshot: where it is ahead of the row, the snapshot is too old.
"""

from __future__ import annotations

from pg_envelope.backend.host import Host

MARK = "UPDATE envelope_private.revocation SET xid = pg_current_xact_id()::text::bigint RETURNING xid"
# Always setval(): nextval() writes no WAL for most of its values.
TELL = "SELECT setval('envelope_private.revocation_xid', greatest(last_value, $1)) FROM envelope_private.revocation_xid"


def mark(host: Host) -> int:
    """In the transaction that takes keys away; what `tell` is to say."""
    row = host.row(MARK)
    return int(row["xid"]) if row else 0


def tell(host: Host, mark: int) -> None:
    """After that transaction's commit, in one of its own, which is committed."""
    host.rows(TELL, ["bigint"], [mark])
    host.commit()
