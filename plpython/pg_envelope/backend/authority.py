"""The right of a role, where it cannot come from the path: named keys, and tables with row-level security.

A right is asked of PostgreSQL once per statement, role and use; REVOKE and SET ROLE count from the next statement, and
within a second in one that goes on: a DO block, a procedure, or a message of several statements is one, however long it
takes. What this session itself takes from a named key counts at once.
"""

from __future__ import annotations

from time import monotonic
from typing import Literal

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.server import server

Kind = Literal["read", "write", "search", "name", "key"]
Ask = tuple[int, Kind, str]

AUTHORISE = "SELECT envelope.authorise()"
QUERIES: dict[Kind, str] = {
    "read": "SELECT * FROM envelope_private.column_right($1, $2::uuid, 'SELECT')",
    "write": "SELECT * FROM envelope_private.column_right($1, $2::uuid, 'INSERT, UPDATE')",
    "search": "SELECT * FROM envelope_private.search_right($1, $2::uuid)",
    "name": "SELECT * FROM envelope_private.right_by_name($1, $2)",
    "key": "SELECT * FROM envelope_private.right_by_key_id($1, $2::bigint)",
}
# For the audit log. A name that is not the catalog's is not told: it could be anything.
OF_FIELD = """SELECT pg_get_userbyid($1) AS acting,
    (SELECT label FROM envelope_private.protected_column WHERE field_uuid = $2::uuid) AS label"""
ABOUT: dict[Kind, str] = {
    "read": OF_FIELD,
    "write": OF_FIELD,
    "search": """SELECT pg_get_userbyid($1) AS acting,
        (SELECT label FROM envelope_private.usable_key WHERE field_uuid = $2::uuid LIMIT 1) AS label""",
    "name": """SELECT pg_get_userbyid($1) AS acting,
        (SELECT name FROM envelope_private.key WHERE name = $2) AS label""",
    "key": """SELECT pg_get_userbyid($1) AS acting, $2::bigint AS key_id,
        (SELECT label FROM envelope_private.usable_key WHERE key_id = $2::bigint LIMIT 1) AS label""",
}
KEY_ID_EXISTS = "SELECT key_id FROM envelope_private.field_key WHERE key_id = $1::bigint"
MAX_AGE_SECONDS = 1.0
NAMED_HINT = "envelope.keys lists keys; envelope.grant_key(name, role) lets a role use one."


class Right:
    """What a role may use: the capability of a field, and the seal (capability | header) that encrypts."""

    __slots__ = ("capability", "seal")

    def __init__(self, row: Row) -> None:
        self.capability: bytes = row["capability"]
        self.seal: bytes = row["seal"]


class Authority:
    """Asks in two steps, as Loader does: only the extension's owner may read capabilities."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._statement = 0
        self._until = 0.0
        self._rights: dict[Ask, Right] = {}
        self._pending: Ask | None = None

    def right(self, kind: Kind, subject: str) -> Right:
        """The current role's right to a field (by uuid) or named key (by name or key id). Raises NotPermitted."""
        statement = server().GetCurrentStatementStartTimestamp()
        now = monotonic()
        if statement != self._statement or now > self._until:
            self._rights.clear()
            self._statement, self._until = statement, now + MAX_AGE_SECONDS
        ask = server().GetUserId(), kind, subject
        found = self._rights.get(ask)
        return found if found is not None else self._authorise(ask)

    def forget(self) -> None:
        """The next use asks again."""
        self._rights.clear()

    def _authorise(self, ask: Ask) -> Right:
        self._pending = ask
        try:
            self._host.rows(AUTHORISE)
        finally:
            self._pending = None
        return self._rights[ask]

    def authorise_pending(self) -> None:
        """The half of `right` that runs as the extension's owner; does nothing unless `right` is under way."""
        if self._pending is None:
            raise errors.NotPermitted
        role, kind, subject = self._pending
        row = self._host.row(QUERIES[kind], ["oid", "text"], [role, subject])
        if row is None:
            raise self._refusal(role, kind, subject)
        self._rights[self._pending] = Right(row)

    def _refusal(self, role: int, kind: Kind, subject: str) -> errors.EnvelopeError:
        """No right; but an envelope whose header names no key at all was altered, or comes from another database."""
        if kind == "key" and self._host.row(KEY_ID_EXISTS, ["text"], [subject]) is None:
            return errors.InvalidEnvelope()
        about = self._host.row(ABOUT[kind], ["oid", "text"], [role, subject])
        return errors.NotPermitted(hint=None if kind in ("read", "write", "search") else NAMED_HINT, about=about)
