"""Finds the rule that holds for the reading role, and makes its mask. It is imported at the first read of a masked
column.

PostgreSQL is asked for the role's memberships once per statement, role and column, as authority.py does for rights.
"""

from __future__ import annotations

import json
from time import monotonic

from pg_envelope import errors
from pg_envelope.backend.authority import MAX_AGE_SECONDS
from pg_envelope.backend.epoch import Epoch
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.masks import kinds
from pg_envelope.backend.masks.kinds import MaskedColumn
from pg_envelope.backend.masks.texts import AnyMask, Mask
from pg_envelope.backend.masks.token import RULE_BYTES
from pg_envelope.backend.secrets import context
from pg_envelope.backend.server import server
from pg_envelope.backend.session_keys import SessionKeys
from pg_envelope.envelope import HEADER_BYTES
from pg_envelope.typed import TypeVar

SHOWN_CLEAR = bytes(RULE_BYTES)
RULE = "SELECT envelope_internal.mask_of($1, pg_get_userbyid($2)) AS rule"
COLUMN = """
p.base_type, p.base_type = 'bytea' AS is_bytes, t.typcategory AS category,
envelope_private.plain_type(v.atttypid, v.atttypmod) AS plain_type, EXISTS (
    SELECT FROM envelope_private.type_parts(v.atttypid) d (oid) JOIN pg_type y ON y.oid = d.oid
    LEFT JOIN pg_constraint c ON c.contypid = y.oid
    WHERE y.typtype = 'd' AND (c.oid IS NOT NULL OR y.typnotnull)) AS is_strict
FROM envelope_private.protected_column p JOIN pg_attribute v ON v.attrelid = p.view AND v.attname = p.attname
JOIN pg_type t ON t.oid = envelope_private.base_type(v.atttypid)"""
RULES = f"""
SELECT m.mask_uuid, m.kind, m.arguments::text, x.* FROM envelope_private.mask m CROSS JOIN LATERAL (
    SELECT {COLUMN} WHERE p.field_uuid = m.field_uuid) x"""
ONE = f"{RULES} WHERE m.mask_uuid = $1"
ALL = f"{RULES} WHERE m.field_uuid = $1"
SEALED = """
SELECT s.sealed, c.capability FROM envelope_private.key k JOIN envelope_private.secret s USING (key_uuid)
JOIN envelope_private.field f USING (key_uuid) JOIN envelope_private.capability c USING (field_uuid)
WHERE k.name = $1 AND s.version = $2 AND f.bind = 'context'"""
NO_RULE = (
    "The rules of the column's masks are gone. Set them again; after CALL envelope.refresh(...) without rules the view"
    " shows values."
)
Content = TypeVar("Content", str, bytes, str | bytes)


class Masks:
    """The masks that this session has made, by the rules that they are made of. A rule never changes."""

    def __init__(self, host: Host, epoch: Epoch, session_keys: SessionKeys) -> None:
        self._host, self._epoch, self._key = host, epoch, session_keys.get
        self._known: dict[bytes, AnyMask | None] = {SHOWN_CLEAR: None}
        self._made_in = b""
        self._rules: dict[tuple[int, str], bytes] = {}
        self._statement, self._until = 0, 0.0

    def found(self, rule: bytes) -> AnyMask | None:
        """Returns the mask of a rule, or None for a rule that shows the value. Raises KeyError for one that was not
        made in this epoch: the key of the secret that it was made of may be revoked.
        """
        if self._made_in != self._epoch.mapped:
            self._known.clear()
            self._known[SHOWN_CLEAR], self._made_in = None, bytes(self._epoch.mapped)
        return self._known[rule]

    def shown(self, content: Content | None, token: bytes | None, row_key: str) -> Content | None:
        """Returns what the holder of a token sees of a value. Raises NotPermitted for a token without a rule."""
        return None if content is None else self._masked(content, (token or b"")[-RULE_BYTES:], row_key)

    def shown_by_right(self, content: Content | None, field: str | None, row_key: str) -> Content | None:
        """Returns what the current role sees of a value that its own right reads."""
        return None if content is None else self._masked(content, self._rule(field), row_key)

    def every(self, content: str | None, field: str | None, row_key: str) -> list[str | None]:
        """Returns a value, and all masks of it."""
        if content is None:
            return [None]
        rows = self._host.as_owner(lambda: self._host.rows(ALL, ["uuid"], [field]))
        return [content, *(mask(content, row_key) for mask in map(self._made, rows) if mask is not None)]

    def _masked(self, content: Content, rule: bytes, row_key: str) -> Content | None:
        try:
            mask = self.found(rule)
        except KeyError:
            mask = self._known[rule] = self._make(rule)
        shown: Content | None = content if mask is None else mask(content, row_key)
        return shown

    def _rule(self, field: str | None) -> bytes:
        statement, now = server().GetCurrentStatementStartTimestamp(), monotonic()
        if statement != self._statement or now > self._until:
            self._rules.clear()
            self._statement, self._until = statement, now + MAX_AGE_SECONDS
        ask = server().GetUserId(), field or ""
        found = self._rules.get(ask)
        if found is None:
            found = self._rules[ask] = self._ask(*ask)
        return found

    def _ask(self, role: int, field: str) -> bytes:
        row = self._host.row(RULE, ["uuid", "oid"], [field or None, role])
        return bytes.fromhex(row["rule"].replace("-", "")) if row else b""

    def _make(self, rule: bytes) -> Mask | None:
        rows = (
            self._host.as_owner(lambda: self._host.rows(ONE, ["uuid"], [rule.hex()])) if len(rule) == RULE_BYTES else []
        )
        if not rows:
            raise errors.NotPermitted(hint=NO_RULE)
        return self._made(rows[0])

    def _made(self, row: Row) -> Mask | None:
        arguments = json.loads(row["arguments"])
        secret = self.secret(arguments["secret"], arguments["version"]) if "secret" in arguments else b""
        return kinds.make(row["kind"], arguments, column_of(row), secret)

    def secret(self, name: str, version: int) -> bytes:
        """Returns a secret, whatever the role may read. Raises KeyNotFound, and what loading a key raises."""
        row = self._host.as_owner(lambda: self._host.row(SEALED, ["text", "int4"], [name, version]))
        if row is None:
            raise errors.KeyNotFound(
                "the mask's secret is gone", hint="envelope.masks names it. CALL envelope.mask(...) again."
            )
        key = self._key(row["capability"] + row["sealed"][:HEADER_BYTES])
        secret = key.open(row["sealed"], context(version).encode())
        if secret is None:
            raise errors.KeyDestroyed
        return secret


def column_of(row: Row) -> MaskedColumn:
    return MaskedColumn(row["base_type"], row["plain_type"], row["category"], row["is_bytes"], row["is_strict"])
