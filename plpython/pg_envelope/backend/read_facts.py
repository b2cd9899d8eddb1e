"""Tells who reads an audited column now, as the ledger of reads has it. It is imported at the first such read."""

from __future__ import annotations

import ctypes
import json
import time
from _hashlib import hmac_digest, openssl_sha256
from collections.abc import Mapping
from time import monotonic

from pg_envelope import ring
from pg_envelope.backend.host import Host
from pg_envelope.backend.read_limit import Limit
from pg_envelope.backend.server import server
from pg_envelope.typed import NamedTuple

# Names of roles and columns are looked up again after so long.
LOOK_SECONDS = 1.0
MOST_KEPT = 500
MOST_NAME = 64
NAMES = """
SELECT pg_catalog.pg_get_userbyid($1) AS "user", pg_catalog.pg_get_userbyid($2) AS "outer",
    pg_catalog.pg_get_userbyid($3) AS role"""
OPERATIONS = frozenset(
    b"SELECT INSERT UPDATE DELETE MERGE COPY WITH FETCH EXECUTE CREATE DECLARE EXPLAIN CALL DO REFRESH TABLE VALUES"
    b" MOVE".split()
)
# So much of a statement is looked at for its first word.
HEAD = 200
# What is left is for the time and a few row keys.
MOST_FACTS = ring.BODY_BYTES - 128
WITH_ROWS = ("row", "sync")
Ids = tuple[int, int, int]


class AuditedField(NamedTuple):
    """An audited column or named key. `names` has `table` and `column`, or `key`.

    The session looks again at `until` (monotonic seconds), and when the epoch moves.
    """

    field: str
    capability: bytes
    level: str
    names: Mapping[str, str]
    limit: Limit | None
    epoch: bytes
    until: float

    @property
    def has_rows(self) -> bool:
        return self.level in WITH_ROWS

    @property
    def is_counted_only(self) -> bool:
        """Tells whether a value needs nothing but to be counted."""
        return self.limit is None and not self.has_rows


# What an event tells but for its time and statement: the column, the session's user, the outer and the current role,
# the application, the query id, the event that it continues, and the key that hashes statements.
Asked = tuple[AuditedField, int, int, int, bytes, int, int | None, bytes]


class ReadFacts:
    """Keeps what it told of a statement for a second: a client or a loop runs the same one again and again."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._statement = ctypes.c_char_p.in_dll(server(), "debug_query_string")
        self._application = ctypes.c_char_p.in_dll(server(), "application_name")
        self._user, self._outer, self._role = (
            server().GetSessionUserId,
            server().GetOuterUserId,
            server().GetUserId,
        )
        self._query_id = server().pgstat_get_my_query_id
        self._told: dict[tuple[object, ...], tuple[float, bytes]] = {}
        self._newest: tuple[bytes, Asked | None, float, bytes] = b"", None, 0.0, b""

    def body(self, found: AuditedField, continues: int | None, statement_key: bytes) -> bytes:
        """Returns an event as JSON: at most BODY_BYTES, unless names are very strange."""
        text = self._statement.value or b""
        application = self._application.value or b""
        asked = (
            found,
            self._user(),
            self._outer(),
            self._role(),
            application,
            self._query_id(),
            continues,
            statement_key,
        )
        newest_text, newest, until, told = self._newest
        if asked != newest or text != newest_text or until < monotonic():
            until, told = self._known(text, asked)
            self._newest = text, asked, until, told
        return b'{"time":%d,%b' % (time.time_ns() // 1000, told)

    def _known(self, text: bytes, asked: Asked) -> tuple[float, bytes]:
        # A plain hash takes a tenth of the time of the keyed one. It stays in this session.
        known = openssl_sha256(text).digest(), asked[0].field, asked[0].level, *asked[1:]
        found = self._told.get(known)
        if found is None or found[0] < monotonic():
            found = monotonic() + LOOK_SECONDS, self._facts(text, asked)
            put(self._told, known, found)
        return found

    def _facts(self, text: bytes, asked: Asked) -> bytes:
        found, user, outer, role, application, query_id, continues, statement_key = asked
        ids = user, outer, role
        event = {
            **self._names(ids),
            "application": application.decode(errors="replace")[:MOST_NAME],
            "field": found.field,
            "level": found.level,
            "operation": _operation(text[:HEAD]),
            "statement": hmac_digest(statement_key, text, "sha256").hex(),
            "query_id": str(query_id),
            **found.names,
            **({"continues": continues} if continues else {}),
        }
        # Names of strange characters take more room than there is. The field's uuid names the column as well.
        for name in ("application", "table", "column", "key", ""):
            facts = json.dumps(event, separators=(",", ":")).encode()[1:]
            if len(facts) <= MOST_FACTS:
                break
            event.pop(name, None)
        return facts

    def user(self) -> str:
        """Returns the name of the session's user."""
        return self._names((self._user(), self._outer(), self._role()))["user"]

    def _names(self, ids: Ids) -> dict[str, str]:
        (row,) = self._host.rows(NAMES, ["oid"] * 3, ids)
        return {name: str(value)[:MOST_NAME] for name, value in row.items()}


def _operation(text: bytes) -> str:
    """Returns the first word of a client's statement, if it is a known one."""
    first = text.split(None, 1)[:1]
    word = first[0].upper().rstrip(b";(") if first else b""
    return word.decode() if word in OPERATIONS else "other"


def put(kept: dict, name: object, value: object) -> None:  # type: ignore[type-arg]
    """Keeps a value. When there are too many, all others go: each can be had again."""
    if len(kept) >= MOST_KEPT:
        kept.clear()
    kept[name] = value
