"""Keys and their versions."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.admin.tools import AdminTools
from pg_envelope.backend.commits import begin
from pg_envelope.backend.keys import chosen_kek
from pg_envelope.backend.tables import catalog
from pg_envelope.backend.tables.scope_values import ScopeColumn


class KeyRoutines:
    """SQL has looked at the caller's rights before it calls a routine that takes an OID."""

    def __init__(self, tools: AdminTools) -> None:
        self._tools, self._host, self._link = tools, tools.host, tools.link
        self.create_key = tools.plain(self._create_key)
        self.rotate = tools.plain(self._rotate)
        self.rotate_key = tools.plain(self._rotate_key)
        self.rotate_field = tools.plain(self._rotate_field)
        self.rotate_emergency = tools.plain(self._rotate_emergency)
        self.compromise = tools.plain(self._compromise)
        self.compromise_key = tools.plain(self._compromise_key)
        self.retire = tools.plain(self._retire)
        self.flush = tools.plain(self._flush)

    def _create_key(self, name: str | None, kek: str | None, store: str | None) -> str:
        return self._tools.keys.create_named(name or "", chosen_kek(kek), store)

    def _rotate(self, oid: int, scope: str | None) -> int:
        from pg_envelope.backend.scope_keys import rotate_scopes

        key = catalog.key_of(self._host, oid)
        if key["scope"] != "table":
            scopes = None if scope is None else ScopeColumn.of(self._host, oid).known(scope)
            return rotate_scopes(self._host, self._link, key, scopes)
        if scope is not None:
            raise errors.BadInput("the table has one key for all rows", hint="SELECT envelope.rotate('<table>')")
        return self._tools.keys.rotate(str(key["key_uuid"]))

    def _rotate_key(self, name: str | None) -> int:
        return self._tools.keys.rotate(self._named(name))

    def _rotate_field(self, oid: int, column: str | None) -> int:
        key = catalog.key_of(self._host, oid)
        catalog.refuse_scoped(key, "rotate_field")
        return self._tools.keys.rotate_field(str(key["key_uuid"]), column)

    def _rotate_emergency(self, rel: str | None, reason: str | None, scope: str | None) -> None:
        from pg_envelope.backend.lifecycle.emergency import rotate_emergency

        oid = self._tools.table(rel, "rotate_emergency")
        rotate_emergency(self._host, self._link, self._tools.keys, oid, scope, reason or "")

    def _compromise(self, oid: int, version: int | None, reason: str | None, scope: str | None) -> None:
        key = catalog.key_of(self._host, oid)
        if scope is not None and key["scope"] == "table":
            raise errors.BadInput("the table has one key for all rows", hint="Leave the tenant or subject out.")
        of_all = key["scope"] != "table" and scope is None
        scopes = None if scope is None else ScopeColumn.of(self._host, oid).known(scope)
        self._tools.keys.compromise(str(key["scope_key"]), version or 0, reason or "", scopes, of_all=of_all)

    def _compromise_key(self, name: str | None, version: int | None, reason: str | None) -> None:
        self._tools.keys.compromise(self._named(name), version or 0, reason or "")

    def _retire(self, rel: str | None, version: int | None, destroy: bool | None) -> None:
        from pg_envelope.backend.lifecycle.retire import Retirement

        oid = self._tools.table(rel, "retire")
        begin(self._host, "retire")
        Retirement(self._host, self._link).retire(oid, version, bool(destroy))

    def _flush(self, reason: str | None) -> int:
        return int(self._link.ask("flush", reason=reason or "")["epoch"])

    def _named(self, name: str | None) -> str:
        row = self._host.row("SELECT key_uuid FROM envelope_private.key WHERE name = $1", ["text"], [name])
        if row is None:
            raise errors.KeyNotFound("there is no key of this name", hint="envelope.keys lists the keys.")
        return str(row["key_uuid"])
