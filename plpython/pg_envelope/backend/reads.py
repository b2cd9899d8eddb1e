"""Writes an event into the ledger of reads before an audited column gives its first value, and counts its values.

It is imported at the first read of an audited column.
"""

from __future__ import annotations

import base64
import ctypes
import json
import time
from _hashlib import hmac_digest
from time import monotonic
from typing import NamedTuple

from pg_envelope import errors, ring
from pg_envelope.backend.host import Host
from pg_envelope.backend.link import Line, Link
from pg_envelope.backend.loader import same
from pg_envelope.backend.server import server
from pg_envelope.backend.session_keys import CAPABILITY_BYTES

UUID_BYTES = 16
SEQ_AT = CAPABILITY_BYTES + UUID_BYTES
SEQ_BYTES = 8
TOKEN_BYTES = SEQ_AT + SEQ_BYTES
# A column's name and level, and a role's name, are looked up again after so long.
LOOK_SECONDS = 1.0
MOST_KEPT = 500
MOST_NAME = 64
FIELD = """
SELECT f.audit, c.capability, p.attname AS "column",
    pg_catalog.left(p.label, -1 - pg_catalog.length(p.attname)) AS "table"
FROM envelope_private.field f JOIN envelope_private.capability c USING (field_uuid)
LEFT JOIN envelope_private.protected_column p USING (field_uuid)
WHERE f.field_uuid OPERATOR(pg_catalog.=) $1"""
NAMES = """
SELECT pg_catalog.pg_get_userbyid($1) AS "user", pg_catalog.pg_get_userbyid($2) AS "outer",
    pg_catalog.pg_get_userbyid($3) AS role"""
OPERATIONS = (
    "SELECT INSERT UPDATE DELETE MERGE COPY WITH FETCH EXECUTE CREATE DECLARE EXPLAIN CALL DO REFRESH TABLE VALUES MOVE"
)
WITH_ROWS = ("row", "sync")
# What is left for the time and a few row keys.
MOST_FACTS = ring.BODY_BYTES - 128
# So much of a statement is looked at for its first word.
HEAD = 200


class AuditedField(NamedTuple):
    """An audited column. `until` (monotonic seconds) is when the session looks again."""

    field: str
    capability: bytes
    level: str
    table: str | None
    column: str | None
    until: float

    @property
    def has_rows(self) -> bool:
        return self.level in WITH_ROWS


class Reads:
    """The session's ring, its connection to the broker, and the events that are open."""

    def __init__(self, host: Host, link: Link) -> None:
        self._host, self._link = host, link
        self._descriptor, self._memory = ring.create()
        # The hot path counts here.
        self.words = ring.words(self._memory)
        self._line: Line | None = None
        self._statement_key = b""
        self._seq = 0
        self._fields: dict[str, AuditedField] = {}
        # By the slot's first word: what its event is about.
        self._open: dict[int, AuditedField] = {}
        self._continued: dict[bytes, int] = {}
        self._by_right: dict[tuple[str, int], tuple[int, int]] = {}
        self._names: dict[tuple[int, ...], tuple[float, dict[str, str]]] = {}
        self._told: dict[tuple[object, ...], bytes] = {}
        self._statement_text = _pointer("debug_query_string")
        self._application = _pointer("application_name")

    def opened(self, capability: bytes | None, field: str | None) -> bytes:
        """Writes an event. Returns the token by which values of the column can be read and are counted.

        Raises NotPermitted, and Unavailable when the broker cannot have the event.
        """
        found = self._field(field, capability)
        seq = self._event(found)
        return found.capability + bytes.fromhex(found.field.replace("-", "")) + seq.to_bytes(SEQ_BYTES, "little")

    def place(self, token: bytes) -> tuple[int, int, bool]:
        """Returns the word where a token's values are counted, the event's number, and whether row keys are kept.

        A cursor can outlive its slot: then its reads go on in an event of their own. Raises NotPermitted.
        """
        capability, seq = token[:CAPABILITY_BYTES], int.from_bytes(token[SEQ_AT:], "little")
        if len(token) != TOKEN_BYTES or not 0 < seq <= self._seq:
            raise errors.NotPermitted
        seq = self._continued.get(token, seq)
        found = self._live(seq)
        if found is None or not same(found.capability, capability):
            found = self._field(_uuid(token[CAPABILITY_BYTES:SEQ_AT]), capability)
            seq = self._event(found, continues=seq)
            _put(self._continued, token, seq)
        return ring.slot(seq) + ring.COUNT, seq, found.has_rows

    def count(self, token: bytes, row_key: str) -> None:
        """Counts a value that is about to be read. Raises NotPermitted."""
        at, seq, has_rows = self.place(token)
        self.words[at] += 1
        if has_rows:
            self.add_row(seq, row_key)

    def add_row(self, seq: int, row_key: str) -> None:
        ring.add_row(self._memory, self.words, seq, row_key.encode())

    def count_by_right(self, field: str, capability: bytes, row_key: str) -> None:
        """Counts a value that the current role reads by its own right: one event for each statement and column."""
        statement, role = server().GetCurrentStatementStartTimestamp(), server().GetUserId()
        known, seq = self._by_right.get((field, role), (0, 0))
        found = self._live(seq) if known == statement else None
        if found is None:
            found = self._field(field, capability)
            seq = self._event(found)
            _put(self._by_right, (field, role), (statement, seq))
        self.words[ring.slot(seq) + ring.COUNT] += 1
        if found.has_rows:
            self.add_row(seq, row_key)

    def _live(self, seq: int) -> AuditedField | None:
        """Returns what an event is about. None for one whose slot was taken by a later event."""
        at = ring.slot(seq)
        return self._open.get(at) if seq > 0 and self.words[at + ring.SEQ] == seq else None

    def _field(self, field: str | None, capability: bytes | None) -> AuditedField:
        """Returns what the catalog says of a column. Raises NotPermitted unless the capability is the column's."""
        found = self._fields.get(field or "")
        if found is None or found.until < monotonic():
            found = self._look_up(field)
        if found is None or capability is None or not same(found.capability, capability):
            raise errors.NotPermitted
        return found

    def _look_up(self, field: str | None) -> AuditedField | None:
        rows = self._host.as_owner(lambda: self._host.rows(FIELD, ["uuid"], [field]))
        if not rows or field is None:
            return None
        row = rows[0]
        found = AuditedField(
            field, row["capability"], row["audit"], row["table"], row["column"], monotonic() + LOOK_SECONDS
        )
        _put(self._fields, field, found)
        return found

    def _event(self, found: AuditedField, continues: int | None = None) -> int:
        """Writes an event, and returns its number once the broker can have it. Raises Unavailable."""
        line = self._attached()
        if self._seq - self.words[ring.TAKEN] >= ring.SLOTS:
            self._drain(line)
        seq = self._seq + 1
        ring.write(self._memory, self.words, seq, self._body(found, continues))
        self._open[ring.slot(seq)] = found
        self._seq = seq
        # Not before: a broker that ends takes what was written while its connection was open.
        if not line.is_open:
            line = self._attach()
        if found.level == "sync":
            self._drain(line)
        return seq

    def _attached(self) -> Line:
        return self._line or self._attach()

    def _attach(self) -> Line:
        """Brings the ring to the broker, with the events that no broker has taken yet."""
        self._leave()
        self._line, answer = self._link.attach(self._descriptor, ring.id_of(self._memory))
        self._statement_key = base64.b64decode(answer["statement_key"])
        return self._line

    def _drain(self, line: Line) -> None:
        """Waits until the broker has taken all events. Raises Unavailable: then no value may be read."""
        try:
            self._link.drain(line, self._seq)
        except BaseException:
            # The answer may still come, and would be taken for another one's.
            self._leave()
            raise
        if self._seq != self.words[ring.TAKEN]:
            raise errors.Unavailable("the broker did not take the events of this session's reads")

    def _leave(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def _body(self, found: AuditedField, continues: int | None) -> bytes:
        """Returns an event as JSON. A function in a loop writes many that differ in their time alone."""
        ids = server().GetSessionUserId(), server().GetOuterUserId(), server().GetUserId()
        asked = (server().GetCurrentStatementStartTimestamp(), ids, found, continues)
        told = self._told.get(asked)
        if told is None:
            told = self._facts(found, ids, continues)
            _put(self._told, asked, told)
        return b'{"time":%d,%b' % (time.time_ns() // 1000, told)

    def _facts(self, found: AuditedField, ids: tuple[int, ...], continues: int | None) -> bytes:
        text = self._statement_text.value or b""
        event = {
            **self._who(ids),
            "application": (self._application.value or b"").decode(errors="replace")[:MOST_NAME],
            "field": found.field,
            "level": found.level,
            "operation": _operation(text[:HEAD]),
            "statement": hmac_digest(self._statement_key, text, "sha256").hex(),
            "query_id": str(server().pgstat_get_my_query_id()),
            "table": found.table,
            "column": found.column,
            **({"continues": continues} if continues else {}),
        }
        # Names of strange characters take more room than there is. The field's uuid names the column as well.
        for name in ("application", "table", "column", ""):
            facts = json.dumps(event, separators=(",", ":")).encode()[1:]
            if len(facts) <= MOST_FACTS:
                break
            event.pop(name, None)
        return facts

    def _who(self, ids: tuple[int, ...]) -> dict[str, str]:
        """Returns the names of the session's user and of the role whose right counts. They are asked for once a
        second, and for each other role.
        """
        until, found = self._names.get(ids, (0.0, {}))
        if until < monotonic():
            (row,) = self._host.rows(NAMES, ["oid"] * 3, ids)
            found = {name: str(value)[:MOST_NAME] for name, value in row.items()}
            _put(self._names, ids, (monotonic() + LOOK_SECONDS, found))
        return found


def _operation(text: bytes) -> str:
    """Returns the first word of a client's statement, if it is a known one."""
    word = (text.split(None, 1) or [b""])[0].decode("ascii", "replace").upper().rstrip(";(")
    return word if word in OPERATIONS.split() else "other"


def _pointer(name: str) -> ctypes.c_char_p:
    return ctypes.c_char_p.in_dll(server(), name)


def _put(kept: dict, name: object, value: object) -> None:  # type: ignore[type-arg]
    """Keeps a value. When there are too many, all others go: each can be had again."""
    if len(kept) >= MOST_KEPT:
        kept.clear()
    kept[name] = value


def _uuid(raw: bytes) -> str:
    found = raw.hex()
    return "-".join((found[:8], found[8:12], found[12:16], found[16:20], found[20:]))
