"""Keeps the DEKs that this session had made until their transaction has committed.

After a rollback it uses them again.
"""

from __future__ import annotations

from collections import OrderedDict

from pg_envelope.backend.host import Host
from pg_envelope.backend.server import Moment
from pg_envelope.typed import NamedTuple

MOST_DEKS, MOST_PLACES = 10_000, 100
# The first call of nextval() does not change last_value.
GENERATION = "SELECT last_value + is_called::int AS generation FROM envelope_private.spare_generation"
XID = "SELECT pg_current_xact_id()::text AS xid"
STATUS = "SELECT pg_xact_status($1::xid8) AS status"
# These DEKs are neither spares nor in use, because the transaction that wrote them was rolled back.
FREE = """
SELECT n.dek_id FROM unnest($1::bigint[]) AS n (dek_id)
WHERE NOT EXISTS (SELECT FROM envelope_private.spare_dek s WHERE s.dek_id = n.dek_id)
    AND NOT EXISTS (SELECT FROM envelope_private.dek d WHERE d.dek_id = n.dek_id) ORDER BY n.dek_id"""

DrawnPlace = tuple[str, str, str]


class Drawn(NamedTuple):
    """A new DEK with the id and salt of its field key; `wrapped` is None in store vault."""

    dek_id: int
    key_id: int
    salt: bytes
    wrapped: str | None
    fingerprint: bytes
    kek_version: int


class Batch:
    """The DEKs of one place, by DEK id, and the moment and transaction that last wrote them."""

    def __init__(self) -> None:
        self.deks: dict[int, Drawn] = {}
        self.left: list[int] = []
        self.moment: Moment | None = None
        self.xid = ""


class Kept:
    """Keeps the batches by place (key, KEK, store).

    The caller holds a lock on the table of DEKs, so no KEK can rotate meanwhile without this session's knowledge.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._batches: OrderedDict[DrawnPlace, Batch] = OrderedDict()
        self._generation = 0

    def free(self, place: DrawnPlace, most: int, now: Moment) -> list[Drawn]:
        """Returns up to `most` DEKs that can be used again, the oldest first."""
        self._forget_dropped()
        batch = self._batches.get(place)
        if batch is None:
            return []
        # While the moment is the same, nothing was rolled back.
        if batch.moment != now:
            self._look(batch, now)
        found, batch.left = batch.left[:most], batch.left[most:]
        return [batch.deks[dek_id] for dek_id in found]

    def _look(self, batch: Batch, now: Moment) -> None:
        if (xid := self._xid()) != batch.xid:
            self._settle(batch)
        batch.left = [row["dek_id"] for row in self._host.rows(FREE, ["int8[]"], [list(batch.deks)])]
        if xid != batch.xid:
            # An earlier transaction wrote the other DEKs and committed them. They are no longer in doubt.
            batch.deks = {dek_id: batch.deks[dek_id] for dek_id in batch.left}
        batch.moment, batch.xid = now, xid

    def keep(self, place: DrawnPlace, written: list[Drawn], now: Moment) -> None:
        """Remembers the DEKs that this transaction has just written, because the transaction may be rolled back."""
        batch = self._batches.setdefault(place, Batch())
        batch.deks.update({one.dek_id: one for one in written})
        batch.moment, batch.xid = now, self._xid()
        self._batches.move_to_end(place)
        while len(self._batches) > MOST_PLACES:
            self._batches.popitem(last=False)
        while len(batch.deks) > MOST_DEKS:
            del batch.deks[next(iter(batch.deks))]

    def _xid(self) -> str:
        row = self._host.row(XID)
        return str(row["xid"]) if row else ""

    def _settle(self, batch: Batch) -> None:
        """Forgets the DEKs of a prepared transaction. It still holds their rows, and nobody sees them. A session that
        wrote them again would wait for that transaction.
        """
        row = self._host.row(STATUS, ["text"], [batch.xid])
        if row is None or row["status"] not in ("aborted", "committed"):
            batch.deks.clear()

    def _forget_dropped(self) -> None:
        """Drops all batches when spares were dropped since. These DEKs may be under a KEK, or a KEK version,
        that must not be used any more.
        """
        row = self._host.row(GENERATION)
        generation = int(row["generation"]) if row else 0
        if generation != self._generation:
            self._batches.clear()
            self._generation = generation
