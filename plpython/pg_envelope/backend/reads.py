"""Has an event written before an audited column gives its first value, and counts the column's values.

It is imported at the first read of an audited column.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from pg_envelope import errors, ring
from pg_envelope.backend.allowance import Allowance
from pg_envelope.backend.epoch import Epoch
from pg_envelope.backend.host import Host
from pg_envelope.backend.link import Link
from pg_envelope.backend.loader import same
from pg_envelope.backend.read_facts import LOOK_SECONDS, AuditedField, ReadFacts, put
from pg_envelope.backend.read_limit import Limit
from pg_envelope.backend.ring_writer import RingWriter
from pg_envelope.backend.server import server
from pg_envelope.backend.session_keys import CAPABILITY_BYTES

# A token is the capability, the field's uuid, and what envelope_internal.read_id() gave to one execution of a plan.
ID_AT = CAPABILITY_BYTES + 16
TOKEN_BYTES = ID_AT + 8
# So many executions at least are known, for cursors that go on. An older one goes on in an event that does not name
# the one before it.
MOST_PLACES = 1000
FIELD = """
SELECT f.audit, c.capability, p.attname AS "column",
    pg_catalog.left(p.label, -1 - pg_catalog.length(p.attname)) AS "table", k.name AS key,
    f.limit_rows, f.limit_seconds, f.limit_then
FROM envelope_private.field f JOIN envelope_private.capability c USING (field_uuid)
JOIN envelope_private.key k ON k.key_uuid OPERATOR(pg_catalog.=) f.key_uuid
LEFT JOIN envelope_private.protected_column p USING (field_uuid)
WHERE f.field_uuid OPERATOR(pg_catalog.=) $1"""
# The word where values are counted, the event's number, and what the event is about.
Place = tuple[int, int, AuditedField]


class Reads:
    """The events of this session that are open, by their tokens."""

    def __init__(self, host: Host, link: Link, epoch: Epoch) -> None:
        self._host, self._epoch = host, epoch
        self._writer, self._facts = RingWriter(link), ReadFacts(host)
        self._allowance = Allowance(self._writer, self._facts.user)
        # The hot path counts here, and hears of each event and value that it did not count itself.
        self.words = self._writer.words
        self.tell: Callable[[], None] = _nobody
        # By what its tokens begin with: the capability and the field.
        self._fields: dict[bytes, AuditedField] = {}
        self._places: dict[bytes, Place] = {}
        self._earlier: dict[bytes, Place] = {}
        self._by_right: dict[tuple[str, int], tuple[int, int, AuditedField]] = {}

    def place(self, token: bytes | None) -> Place:
        """Returns where a token's values are counted. The first value of a token has an event written.

        A cursor can outlive its slot: then its reads go on in an event of their own. Raises NotPermitted, and
        Unavailable when the broker cannot have the event.
        """
        if token is None or len(token) != TOKEN_BYTES:
            raise errors.NotPermitted
        place = self._places.get(token) or self._earlier.get(token)
        if place is not None and self._is_open(place[1]):
            return place
        found = self._field(token[:ID_AT])
        seq = self._event(found, continues=place[1] if place else None)
        place = ring.slot(seq) + ring.COUNT, seq, found
        if len(self._places) >= MOST_PLACES:
            self._places, self._earlier = {}, self._places
        self._places[token] = place
        return place

    def count(self, token: bytes, row_key: str) -> None:
        """Counts a value that is about to be read. Raises NotPermitted."""
        _, seq, found = self.place(token)
        self._count(seq, found, row_key)

    def count_by_right(self, field: str, capability: bytes, row_key: str) -> None:
        """Counts a value that the current role reads by its own right: one event for each statement and column."""
        statement, role = server().GetCurrentStatementStartTimestamp(), server().GetUserId()
        known = self._by_right.get((field, role))
        if known is None or known[0] != statement or not self._is_open(known[1]):
            found = self._field(capability + bytes.fromhex(field.replace("-", "")))
            known = statement, self._event(found), found
            put(self._by_right, (field, role), known)
        _, seq, found = known
        self._count(seq, found, row_key)

    def _count(self, seq: int, found: AuditedField, row_key: str) -> None:
        if found.limit is not None:
            self._allowance.take(found, found.limit)
        self.tell()
        self.words[ring.slot(seq) + ring.COUNT] += 1
        if found.has_rows:
            self._writer.add_row(seq, row_key)

    def _event(self, found: AuditedField, continues: int | None = None) -> int:
        self.tell()
        return self._writer.write(self._facts.body, found, continues)

    def _is_open(self, seq: int) -> bool:
        """Tells whether no later event has taken the slot of an event."""
        return self.words[ring.slot(seq) + ring.SEQ] == seq

    def _field(self, head: bytes) -> AuditedField:
        """Returns what the catalog says of a column. Raises NotPermitted unless the capability is the column's."""
        found = self._fields.get(head)
        if found is None or not self._counts(found):
            found = self._look_up(_uuid(head[CAPABILITY_BYTES:]))
            if found is None or not same(found.capability, head[:CAPABILITY_BYTES]):
                raise errors.NotPermitted
            put(self._fields, head, found)
        return found

    def _counts(self, found: AuditedField) -> bool:
        """Tells whether what the catalog said of a column still counts."""
        return found.epoch == self._epoch.mapped and monotonic() < found.until

    def _look_up(self, field: str) -> AuditedField | None:
        # Before the query: what moves the epoch meanwhile must count.
        epoch = self._epoch.current()
        rows = self._host.as_owner(lambda: self._host.rows(FIELD, ["uuid"], [field]))
        if not rows:
            return None
        row = rows[0]
        names = {name: row[name] for name in ("table", "column", "key") if row[name] is not None}
        limit = Limit(row["limit_rows"], row["limit_seconds"], row["limit_then"]) if row["limit_rows"] else None
        until = monotonic() + LOOK_SECONDS
        return AuditedField(field, row["capability"], row["audit"], names, limit, epoch, until)


def _nobody() -> None:
    """Stands where nobody wants to hear."""


def _uuid(raw: bytes) -> str:
    found = raw.hex()
    return "-".join((found[:8], found[8:12], found[12:16], found[16:20], found[20:]))
