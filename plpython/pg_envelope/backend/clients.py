"""Tells a client what it needs to seal and open values outside the server, if its role was granted that.

It tells no key: the answer holds wrapped DEKs, salts and names. Field keys come from the broker's door.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property

from pg_envelope import errors
from pg_envelope.backend.budget import BLOCK, MOST_BLOCKS
from pg_envelope.backend.client_secrets import GRANTED, ClientSecrets
from pg_envelope.backend.guard import Guard
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.link import Link
from pg_envelope.backend.loader import OF_KEY_ID, Loader
from pg_envelope.backend.scope_keys import ScopeKeys
from pg_envelope.backend.server import server
from pg_envelope.typed import TypeVar

# The row key of FORMAT.md section 1.1. In tenant and subject scope the scope column is a part of it.
BOUND = """
SELECT CASE WHEN f.bind = 'row' AND t.scope_column = ANY (t.row_key) OR t.scope_column IS NULL THEN '{}'
    ELSE ARRAY[t.scope_column] END || CASE f.bind WHEN 'row' THEN t.row_key ELSE '{}' END"""
FIELD = f"""
SELECT i.database_uuid, f.field_uuid, f.label, f.bind, f.suite, f.pad, t.scope, t.scope_column,
    envelope_private.plain_type(v.atttypid, v.atttypmod) AS type,
    (SELECT json_agg(json_build_array(a.attname, envelope_private.plain_type(a.atttypid, a.atttypmod)) ORDER BY b.place)
        FROM unnest(({BOUND})) WITH ORDINALITY b (name, place)
        JOIN pg_attribute a ON a.attrelid = t.base AND a.attname = b.name AND NOT a.attisdropped)::text AS row_key
FROM envelope_private.protected_column f JOIN envelope_private.protected_table t USING (key_uuid)
JOIN pg_attribute v ON v.attrelid = t.view AND v.attname = f.attname
CROSS JOIN envelope_private.installation i
WHERE $2 IN (t.view, t.base) AND f.attname = $3 AND f.bind <> 'search' AND {GRANTED}"""
NAMED = f"""
SELECT i.database_uuid, f.field_uuid, k.name AS label, f.bind, f.suite, f.pad, k.scope, k.scope_column,
    NULL AS type, NULL AS row_key
FROM envelope_private.key k JOIN envelope_private.field f USING (key_uuid) CROSS JOIN envelope_private.installation i
WHERE k.name = $2 AND f.bind = 'context' AND {GRANTED}"""
SEARCH = f"""
SELECT i.database_uuid, f.field_uuid, format('%s.%s', t.view::regclass, s.attname) AS label, k.normalizer,
    k.plain_type, envelope_private.plain_type(v.atttypid, v.atttypmod) AS type
FROM envelope_private.search s JOIN envelope_private.search_key k USING (search_uuid)
JOIN envelope_private.field f ON f.field_uuid = s.search_uuid
JOIN envelope_private.protected_column c ON c.field_uuid = s.field_uuid
JOIN envelope_private.protected_table t ON t.key_uuid = c.key_uuid
JOIN pg_attribute v ON v.attrelid = t.view AND v.attname = c.attname
CROSS JOIN envelope_private.installation i
WHERE $2 IN (t.view, t.base) AND s.attname = $3 AND {GRANTED}"""
OWNER = f"""
SELECT k.scope, coalesce(k.scope_of, k.key_uuid) AS owner,
    coalesce(k.view::text, k.base::text) || '.' || f.attname AS label
FROM envelope_private.field f JOIN envelope_private.key k USING (key_uuid) WHERE f.field_uuid = $2 AND {GRANTED}"""
# After an erasure no key is active. The newest one tells a client why, as it tells a session.
ACTIVE = """
SELECT k.key_id FROM envelope_private.field_key k JOIN envelope_private.field f USING (field_uuid)
WHERE k.field_uuid = $1 AND (k.state = 'active' OR k.state = 'destroyed' AND f.bind <> 'search' AND NOT EXISTS
    (SELECT FROM envelope_private.field_key n WHERE n.field_uuid = k.field_uuid AND n.key_id > k.key_id))
ORDER BY k.state = 'active' DESC LIMIT 1"""
KEY = f"""
SELECT u.key_id, encode(u.salt, 'hex') AS salt, u.dek_id, u.kek, u.store, u.wrapped,
    encode(u.fingerprint, 'hex') AS fingerprint, u.state, u.erased, u.bind, d.scope
FROM envelope_private.usable_key u JOIN envelope_private.dek d USING (dek_id)
WHERE u.field_uuid = $2 AND {OF_KEY_ID}"""
HINT = (
    "envelope.grant_client(rel, column, role), grant_client_search(rel, search_column, role) and"
    " grant_client_key(name, role) let a role have the keys of a client."
)

Result = TypeVar("Result")


class Clients:
    """One attribute per SQL function. Each asks for the right of the calling role first."""

    def __init__(self, guard: Guard, host: Host, link: Link, loader: Loader) -> None:
        self._host, self._link, self._loader = host, link, loader
        self.field = guard.plain(self._field)
        self.named = guard.plain(self._named)
        self.search = guard.plain(self._search)
        self.key = guard.plain(self._key)
        secrets = ClientSecrets(host, link)
        self.secret = guard.plain(secrets.newest)
        self.secrets = guard.plain(secrets.names)
        self.store_secret = guard.plain(secrets.store)
        self.messages = guard.plain(self._messages)

    def _field(self, rel: str | None, column: str | None) -> str:
        return self._of_table(FIELD, rel, column)

    def _search(self, rel: str | None, column: str | None) -> str:
        return self._of_table(SEARCH, rel, column)

    def _of_table(self, query: str, rel: str | None, column: str | None) -> str:
        if rel is None or column is None:
            raise errors.NotPermitted(hint=HINT)
        return self._layout(query, ["oid", "oid", "text"], self._host.relation(rel), column)

    def _named(self, name: str | None) -> str:
        return self._layout(NAMED, ["oid", "text"], name)

    def _layout(self, query: str, types: list[str], *what: object) -> str:
        role = server().GetUserId()
        row = self._host.as_owner(lambda: self._host.row(query, types, [role, *what]))
        if row is None:
            raise errors.NotPermitted(hint=HINT)
        return json.dumps({**row, "row_key": json.loads(row.get("row_key") or "[]")})

    def _key(self, field: str | None, key_id: int | None, scope: str | None) -> str | None:
        row = self._granted(field, lambda owner: self._find(str(field), key_id, scope, owner))
        return None if row is None else json.dumps(dict(row))

    def _find(self, field: str, key_id: int | None, scope: str | None, owner: Row) -> Row | None:
        wanted = self._active(field, scope, owner) if key_id is None else key_id
        return None if wanted is None else self._host.row(KEY, ["int8", "uuid"], [wanted, field])

    def _active(self, field: str, scope: str | None, owner: Row) -> int | None:
        if owner["scope"] == "table":
            row = self._host.row(ACTIVE, ["uuid"], [field])
            return None if row is None else int(row["key_id"])
        if scope is None:
            raise errors.BadInput("the value has no tenant or subject whose key could encrypt it")
        found = self._scope_keys.active(owner["owner"], scope)
        return self._scope_keys.make(owner["owner"], scope, owner["label"]) if found is None else found

    def _messages(self, field: str | None, key_id: int | None, blocks: int | None) -> int:
        if key_id is None or blocks is None or not 0 < blocks <= MOST_BLOCKS:
            raise errors.BadInput(f"a client reserves 1 to {MOST_BLOCKS} blocks of messages under one key")
        return self._granted(field, lambda _: self._reserve(str(field), key_id, blocks))

    def _reserve(self, field: str, key_id: int, blocks: int) -> int:
        row = self._host.row(KEY, ["int8", "uuid"], [key_id, field])
        if row is None or row["state"] != "active" or row["bind"] == "search":
            raise errors.NotConfigured(
                "this key is not active, or it is a search key", hint="Read the key catalog again."
            )
        self._loader.budget.reserve_blocks(key_id, blocks)
        return blocks * BLOCK

    def _granted(self, field: str | None, step: Callable[[Row], Result]) -> Result:
        """Runs a step as the extension's owner, for a role that was granted the field. Raises NotPermitted."""
        role = server().GetUserId()

        def checked() -> Result:
            owner = self._host.row(OWNER, ["oid", "uuid"], [role, field])
            if owner is None:
                raise errors.NotPermitted(hint=HINT)
            return step(owner)

        return self._loader.as_owner(checked)

    @cached_property
    def _scope_keys(self) -> ScopeKeys:
        return ScopeKeys(self._host, self._link)
