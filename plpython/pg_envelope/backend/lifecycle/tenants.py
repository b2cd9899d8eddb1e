"""Carries out the routines for tenants: suspend, unsuspend, a KEK of their own, and moves between KEKs."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.caller import refuse_others
from pg_envelope.backend.commits import begin
from pg_envelope.backend.guard import Guard
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.lifecycle import moving
from pg_envelope.backend.lifecycle.moving import Move, Wanted
from pg_envelope.backend.lifecycle.suspension import Suspension
from pg_envelope.backend.link import Link
from pg_envelope.backend.tables import catalog
from pg_envelope.backend.tables.scope_values import ScopeColumn

KEY = "SELECT coalesce(scope_of, key_uuid)::text AS owner, scope FROM envelope_private.key WHERE key_uuid = $1"
NAMED = "SELECT envelope_private.named_key($1)::text AS key_uuid"
SET_PLACE = """
INSERT INTO envelope_private.tenant (key_uuid, scope, kek, store) VALUES ($1, $2, $3, $4)
ON CONFLICT (key_uuid, scope) DO UPDATE SET kek = excluded.kek, store = excluded.store, since = now()"""


class Tenants:
    """One method per SQL routine."""

    def __init__(self, host: Host, guard: Guard, link: Link) -> None:
        self._host, self._link = host, link
        self._keys = Suspension(host, link)
        self.suspend = guard.plain(self._suspend)
        self.unsuspend = guard.plain(self._unsuspend)
        self.suspend_key = guard.plain(self._suspend_key)
        self.unsuspend_key = guard.plain(self._unsuspend_key)
        self.move_kek = guard.plain(self._move_kek)
        self.tenant_kek = guard.plain(self._tenant_kek)

    def _suspend(self, rel: str | None, tenant: str | None, reason: str | None) -> None:
        oid = self._begin("suspend", rel)
        owner = self._key(oid, tenant)["owner"]
        for scope in self._scopes(oid, tenant):
            self._keys.suspend("suspend", owner, scope, reason or "")

    def _unsuspend(self, rel: str | None, tenant: str | None, version: int | None) -> None:
        oid = self._begin("unsuspend", rel)
        owner = self._key(oid, tenant)["owner"]
        for scope in self._scopes(oid, tenant):
            self._keys.unsuspend("unsuspend", owner, scope, version)

    def _suspend_key(self, name: str | None, reason: str | None) -> None:
        self._begin("suspend_key", None)
        self._keys.suspend("suspend_key", self._named(name), None, reason or "")

    def _unsuspend_key(self, name: str | None) -> None:
        self._begin("unsuspend_key", None)
        self._keys.unsuspend("unsuspend_key", self._named(name), None)

    def _move_kek(
        self, from_kek: str | None, to_kek: str | None, store: str | None, rel: str | None, tenant: str | None
    ) -> None:
        oid = self._begin("move_kek", rel)
        if tenant is not None and rel is None:
            raise errors.BadInput("move_kek() needs the tenant's table")
        values = {"from_kek": from_kek, "to_kek": to_kek, "to_store": store, "rel": rel, "tenant": tenant}
        owner = None if rel is None else str(self._key(oid, tenant)["owner"])
        scopes = [None] if tenant is None else ScopeColumn.of(self._host, oid).known_or_new(tenant)
        for scope in scopes:
            wanted = Wanted(from_kek or "", to_kek or "", store, owner, scope, moving.again(values))
            Move(self._host, self._link, self._keys, wanted).run()

    def _tenant_kek(
        self, oid: int, tenant: str | None, kek: str | None, store: str | None, new_tenant: bool | None
    ) -> None:
        if tenant is None:
            raise errors.BadInput("tenant_kek() needs a tenant")
        owner, scopes = self._key(oid, tenant)["owner"], self._scopes_to_place(oid, tenant, bool(new_tenant))
        place = kek or "", self._keys.store(kek or "", store)
        self._keys.try_kek(*place)
        for scope in scopes:
            self._host.rows(SET_PLACE, ["uuid", "text", "text", "text"], [owner, scope, *place])

    def _scopes_to_place(self, oid: int, tenant: str, is_new: bool) -> list[str]:
        column = ScopeColumn.of(self._host, oid)
        try:
            return column.known_or_new(tenant) if is_new or column.known(tenant) else []
        except errors.KeyNotFound:
            raise errors.KeyNotFound(
                "the table has no key of such a tenant yet",
                detail="Nothing was changed.",
                hint="Is it written as in the table? For a tenant that has no row yet: new_tenant => true.",
            ) from None

    def _scopes(self, oid: int, tenant: str | None) -> list[str] | list[None]:
        """Returns the texts under which a tenant's keys are; None for the one key of a table."""
        return [None] if tenant is None else ScopeColumn.of(self._host, oid).known(tenant)

    def _begin(self, what: str, rel: str | None) -> int:
        """Returns the relation's OID, in a transaction of this procedure's own. Raises NotPermitted."""
        refuse_others(self._host, what, "It writes the key catalog, and commits.")
        oid = 0 if rel is None else self._host.relation(rel)
        begin(self._host, what)
        return oid

    def _key(self, oid: int, tenant: str | None) -> Row:
        """Returns the key and scope of a table's values. Raises BadInput for a tenant in a table without tenants."""
        row = self._host.row(KEY, ["uuid"], [catalog.key_of(self._host, oid)["key_uuid"]])
        assert row is not None
        if tenant is not None and row["scope"] == "table":
            raise errors.BadInput(
                "this table has one key for all its rows",
                hint="Tenants have keys of their own in tables that were protected with scope => 'tenant'.",
            )
        return row

    def _named(self, name: str | None) -> str:
        row = self._host.row(NAMED, ["text"], [name])
        assert row is not None
        return str(row["key_uuid"])
