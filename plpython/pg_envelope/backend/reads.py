"""Has an event written before an audited column gives its first value, and counts the column's values.

It is imported at the first read of an audited column.
"""

from __future__ import annotations

from time import monotonic

from pg_envelope import errors, ring
from pg_envelope.backend.allowance import Allowance
from pg_envelope.backend.epoch import Epoch
from pg_envelope.backend.host import Host
from pg_envelope.backend.link import Link
from pg_envelope.backend.loader import same
from pg_envelope.backend.read_facts import LOOK_SECONDS, AuditedField, Limit, ReadFacts, put
from pg_envelope.backend.ring_writer import RingWriter
from pg_envelope.backend.server import server
from pg_envelope.backend.session_keys import CAPABILITY_BYTES

# A token is the capability, the field's uuid and the event's number.
SEQ_AT = CAPABILITY_BYTES + 16
SEQ_BYTES = 8
TOKEN_BYTES = SEQ_AT + SEQ_BYTES
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
        # The hot path counts here.
        self.words = self._writer.words
        self._fields: dict[str, AuditedField] = {}
        # By the slot's first word: what its event is about.
        self._open: dict[int, AuditedField] = {}
        self._newest: tuple[bytes, Place] | None = None
        self._continued: dict[bytes, int] = {}
        self._by_right: dict[tuple[str, int], tuple[int, int]] = {}

    def opened(self, capability: bytes | None, field: str | None) -> bytes:
        """Writes an event. Returns the token by which values of the column can be read and are counted.

        Raises NotPermitted, and Unavailable when the broker cannot have the event.
        """
        found = self._field(field, capability)
        seq = self._event(found)
        token = found.token_head + seq.to_bytes(SEQ_BYTES, "little")
        self._newest = token, (ring.slot(seq) + ring.COUNT, seq, found)
        return token

    def place(self, token: bytes) -> Place:
        """Returns where a token's values are counted.

        A cursor can outlive its slot: then its reads go on in an event of their own. Raises NotPermitted.
        """
        # Most statements read with the token that was made last.
        if self._newest is not None and token == self._newest[0] and self._live(self._newest[1][1]) is not None:
            return self._newest[1]
        capability, seq = token[:CAPABILITY_BYTES], int.from_bytes(token[SEQ_AT:], "little")
        if len(token) != TOKEN_BYTES or not 0 < seq <= self._writer.seq:
            raise errors.NotPermitted
        seq = self._continued.get(token, seq)
        found = self._live(seq)
        if found is None or not same(found.capability, capability):
            found = self._field(_uuid(token[CAPABILITY_BYTES:SEQ_AT]), capability)
            seq = self._event(found, continues=seq)
            put(self._continued, token, seq)
        return ring.slot(seq) + ring.COUNT, seq, found

    def count(self, token: bytes, row_key: str) -> None:
        """Counts a value that is about to be read. Raises NotPermitted."""
        _, seq, found = self.place(token)
        self._count(seq, found, row_key)

    def count_by_right(self, field: str, capability: bytes, row_key: str) -> None:
        """Counts a value that the current role reads by its own right: one event for each statement and column."""
        statement, role = server().GetCurrentStatementStartTimestamp(), server().GetUserId()
        known, seq = self._by_right.get((field, role), (0, 0))
        found = self._live(seq) if known == statement else None
        if found is None:
            found = self._field(field, capability)
            seq = self._event(found)
            put(self._by_right, (field, role), (statement, seq))
        self._count(seq, found, row_key)

    def _count(self, seq: int, found: AuditedField, row_key: str) -> None:
        if found.limit is not None:
            self._allowance.take(found, found.limit)
        self.words[ring.slot(seq) + ring.COUNT] += 1
        if found.has_rows:
            self._writer.add_row(seq, row_key)

    def _event(self, found: AuditedField, continues: int | None = None) -> int:
        seq = self._writer.write(lambda key: self._facts.body(found, key, continues), is_synced=found.level == "sync")
        self._open[ring.slot(seq)] = found
        return seq

    def _live(self, seq: int) -> AuditedField | None:
        """Returns what an event is about. None for one whose slot was taken by a later event."""
        at = ring.slot(seq)
        return self._open.get(at) if seq > 0 and self.words[at + ring.SEQ] == seq else None

    def _field(self, field: str | None, capability: bytes | None) -> AuditedField:
        """Returns what the catalog says of a column. Raises NotPermitted unless the capability is the column's."""
        if field is None or capability is None:
            raise errors.NotPermitted
        epoch = self._epoch.current()
        found = self._fields.get(field)
        if found is None or found.epoch != epoch or found.until < monotonic() or not same(found.capability, capability):
            found = self._look_up(field, epoch)
            if found is None or not same(found.capability, capability):
                raise errors.NotPermitted
        return found

    def _look_up(self, field: str, epoch: bytes) -> AuditedField | None:
        rows = self._host.as_owner(lambda: self._host.rows(FIELD, ["uuid"], [field]))
        if not rows:
            return None
        row = rows[0]
        names = {name: row[name] for name in ("table", "column", "key") if row[name] is not None}
        limit = Limit(row["limit_rows"], row["limit_seconds"], row["limit_then"]) if row["limit_rows"] else None
        until = monotonic() + LOOK_SECONDS
        head = row["capability"] + bytes.fromhex(field.replace("-", ""))
        found = AuditedField(field, row["capability"], head, row["audit"], names, limit, epoch, until)
        put(self._fields, field, found)
        return found


def _uuid(raw: bytes) -> str:
    found = raw.hex()
    return "-".join((found[:8], found[8:12], found[12:16], found[16:20], found[20:]))
