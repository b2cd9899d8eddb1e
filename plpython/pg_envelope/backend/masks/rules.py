"""Carries out mask() and unmask(): what the readers of a protected column see."""

from __future__ import annotations

import json
from collections.abc import Callable

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.masks import kinds
from pg_envelope.backend.masks.session import COLUMN, column_of
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.sqltext import commas, literal
from pg_envelope.backend.tables import upsert
from pg_envelope.backend.tables.canonical import restored
from pg_envelope.backend.tables.generate import Protected
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.backend.tables.refresh import refresh
from pg_envelope.typed import Any

PUBLIC = "public"
# A dropped role is the number that envelope.masks shows.
ROLE = """
SELECT CASE WHEN $1 = 'public' THEN 0::oid ELSE coalesce((SELECT oid FROM pg_roles WHERE rolname = $1),
    (SELECT role::oid FROM envelope_private.mask WHERE role::text = $1 AND role <> 0::oid LIMIT 1)) END AS oid"""
# grant_client() takes the same lock.
LOCK = "SELECT field_uuid FROM envelope_private.field WHERE field_uuid = $1 FOR NO KEY UPDATE"
CLIENTS = """
SELECT string_agg(role::text, ', ') AS roles FROM envelope_private.client_grant
WHERE field_uuid = $1 OR field_uuid IN (SELECT search_uuid FROM envelope_private.search WHERE field_uuid = $1)"""
FOUND = f"SELECT {COLUMN} WHERE p.field_uuid = $1"
RULES = "SELECT role::oid AS role, kind, arguments::text FROM envelope_private.mask WHERE field_uuid = $1"
SET = """
INSERT INTO envelope_private.mask AS m (field_uuid, role, kind, arguments) VALUES ($1, $2, $3, $4::jsonb)
ON CONFLICT (field_uuid, role)
    DO UPDATE SET mask_uuid = excluded.mask_uuid, kind = excluded.kind, arguments = excluded.arguments"""
DROP = "DELETE FROM envelope_private.mask WHERE field_uuid = $1 AND role = coalesce($2, role)"
VERSION = """
SELECT max(s.version) AS version FROM envelope_private.key k JOIN envelope_private.secret s USING (key_uuid)
WHERE k.name = $1"""
# A shorter secret could be guessed by a reader of hashes.
LEAST_SECRET_BYTES = 16
FIRST_HINT = (
    "SELECT envelope.mask(..., 'public', ...) says what all others see. Begin with it, in one transaction with the"
    " other rules."
)


class NoSuchRole(errors.BadInput):
    sqlstate = "42704"


class Rules:
    """Both methods run in the caller's transaction, and count in all sessions from its commit on."""

    def __init__(self, host: Host, keys: Keys, secret: Callable[[str, int], bytes]) -> None:
        self._host, self._keys, self._secret = host, keys, secret

    def mask(self, found: Place, column: str | None, role: str | None, kind: str | None, given: Any) -> None:
        """Raises BadInput, NotProtected, NotConfigured."""
        protected = self._protected(found, column)
        # A CHECK that a write through the upsert relation must meet would look at the writer's mask.
        upsert.refuse_allowed(found)
        grantee = self._role(role)
        kinds.check(kind, given, column_of(self._row(FOUND, protected)))
        before = self._rules(protected)
        self._refuse_order(before, grantee)
        self._refuse_clients(protected)
        if kind != kinds.CLEAR and not given.get(kinds.SEARCH):
            refuse_searched(found, protected)
        self._try(found, protected, str(kind), given)
        arguments = json.dumps(self._with_version(given))
        self._host.rows(SET, ["uuid", "oid", "text", "text"], [protected.field_uuid, grantee, kind, arguments])
        self._end(found, protected, f"mask: {role} {kind} {arguments}", is_first=not before)

    def unmask(self, found: Place, column: str | None, role: str | None) -> None:
        """Raises BadInput, NotProtected, NotConfigured."""
        protected = self._protected(found, column)
        grantee = None if role is None else self._role(role)
        before = self._rules(protected)
        if grantee == 0 and len(before) > 1:
            raise errors.NotConfigured(
                "the rule for public is the last of a column to go",
                hint="Give no role: then all rules go, and every reader sees the values.",
            )
        if not any(grantee in (None, rule["role"]) for rule in before):
            raise errors.NotProtected("there is no such rule", hint="envelope.masks lists the rules.")
        self._host.rows(DROP, ["uuid", "oid"], [protected.field_uuid, grantee])
        self._end(found, protected, f"unmask: {role or 'all roles'}", is_first=not self._rules(protected))

    def _end(self, found: Place, protected: Protected, change: str, *, is_first: bool) -> None:
        label = f"{found.key['view_name']}.{protected.column.name}"
        self._keys.record_audit("mask", found.layout.key_uuid, label, change)
        if is_first:
            refresh(self._host, found.oid)

    def _protected(self, found: Place, column: str | None) -> Protected:
        protected = found.layout.protected[found.source(column).name]
        self._host.rows(LOCK, ["uuid"], [protected.field_uuid])
        return protected

    def _row(self, query: str, protected: Protected) -> Row:
        (row,) = self._host.rows(query, ["uuid"], [protected.field_uuid])
        return row

    def _rules(self, protected: Protected) -> list[Row]:
        return self._host.rows(RULES, ["uuid"], [protected.field_uuid])

    def _role(self, role: str | None) -> int:
        row = self._host.row(ROLE, ["name"], [role])
        if row is None or row["oid"] is None:
            raise NoSuchRole("there is no such role", hint=f"A rule is for a role of this server, or for {PUBLIC}.")
        return int(row["oid"])

    def _refuse_order(self, before: list[Row], grantee: int) -> None:
        if not before and grantee:
            raise errors.NotConfigured("the first rule of a column is the one for public", hint=FIRST_HINT)

    def _refuse_clients(self, protected: Protected) -> None:
        clients = self._row(CLIENTS, protected)
        if clients["roles"]:
            raise errors.NotConfigured(
                "clients may open these values outside the server, where no mask is",
                detail=clients["roles"],
                hint="envelope.revoke_client(...) and revoke_client_search(...) first, then rotate: they keep"
                " their keys.",
            )

    def _try(self, found: Place, protected: Protected, kind: str, given: Any) -> None:
        """Raises PostgreSQL's own error for a constant that is none of the column's type."""
        if kinds.KINDS[kind].is_constant:
            content = literal(given["text"]) if "text" in given else "NULL"
            typed = f"{content}::pg_catalog.{'bytea' if protected.column.is_bytes else 'text'}"
            # OFFSET keeps the constant out of the planner, which would ask for a right to the type's functions.
            query = f"SELECT ({restored(protected.column, 'v.given')}) IS NULL FROM (SELECT {typed} OFFSET 0) v (given)"
            AsOwner(self._host, found.base.owner_oid).rows(query)

    def _with_version(self, given: Any) -> Any:
        """Adds the secret's newest version. The mask stays as it is when the secret gets another version."""
        name = given.get("secret")
        if name is None:
            return given
        row = self._host.row(VERSION, ["text"], [name])
        if row is None or row["version"] is None:
            raise errors.KeyNotFound(
                "there is no secret of this name", hint="SELECT envelope.create_secret(name) makes a random one."
            )
        if len(self._secret(name, row["version"])) < LEAST_SECRET_BYTES:
            raise errors.BadInput(f"the secret of a mask has at least {LEAST_SECRET_BYTES} bytes")
        return {**given, "version": row["version"]}


def hides(host: Host, protected: Protected) -> bool:
    """Tells whether a rule forbids its readers to find rows by a column's value."""
    rows = host.rows(RULES, ["uuid"], [protected.field_uuid])
    return any(row["kind"] != kinds.CLEAR and not json.loads(row["arguments"]).get(kinds.SEARCH) for row in rows)


def refuse_searched(found: Place, protected: Protected) -> None:
    """Raises NotConfigured for a column whose search columns, or equal envelopes, would tell more than a mask."""
    searches = [search.name for search in found.layout.searches.values() if search.source == protected.column.name]
    if searches:
        raise errors.NotConfigured(
            "who sees the mask could still find rows by the value",
            detail=f"search columns: {commas(searches)}",
            hint='Add "search": true to the arguments of the mask to allow that, or drop the search columns.',
        )
    if protected.options.is_deterministic:
        raise errors.NotConfigured(
            "who sees the mask could still see by the envelopes which values are equal",
            detail="The column has suite 4, and roles can have rights to the base table.",
            hint='Add "search": true to the arguments of the mask to allow that.',
        )
