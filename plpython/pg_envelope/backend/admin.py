"""What DBAs call: protect, unprotect, refresh, rotate, reencrypt, keys and status. Imported when first used."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.commits import begin, pin
from pg_envelope.backend.guard import Guard
from pg_envelope.backend.host import Host
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.link import Link
from pg_envelope.backend.loader import Loader
from pg_envelope.backend.rotation import Rewrap, rotate_emergency
from pg_envelope.backend.status import Status
from pg_envelope.backend.tables import catalog, options
from pg_envelope.backend.tables.protect import protect
from pg_envelope.backend.tables.reencrypt import reencrypt
from pg_envelope.backend.tables.refresh import refresh
from pg_envelope.backend.tables.unprotect import unprotect

# Read with the caller's search_path, so every name is qualified, operators too.
CALLER = """
SELECT $1::pg_catalog.regclass::pg_catalog.oid AS oid,
    (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user) AS superuser"""


class Admin:
    """One method per SQL routine; relations come as text, as regclass writes them."""

    def __init__(self, host: Host, guard: Guard, link: Link, loader: Loader) -> None:
        self._host = host
        self._link = link
        self._loader = loader
        self._keys = Keys(host, link, loader)
        self.protect = guard.plain(self._protect)
        self.unprotect = guard.plain(self._unprotect)
        self.refresh = guard.plain(self._refresh)
        self.reencrypt = guard.plain(self._reencrypt)
        self.rotate = guard.plain(self._rotate)
        self.rotate_key = guard.plain(self._rotate_key)
        self.rotate_field = guard.plain(self._rotate_field)
        self.rotate_kek = guard.plain(self._rotate_kek)
        self.rewrap = guard.plain(self._rewrap)
        self.rotate_emergency = guard.plain(self._rotate_emergency)
        self.compromise = guard.plain(self._compromise)
        self.compromise_key = guard.plain(self._compromise_key)
        self.create_key = guard.plain(self._create_key)
        self.status = guard.plain(Status(host, link, loader).rows)
        self.flush = guard.plain(self._flush)

    def _table(self, rel: str | None, what: str) -> int:
        """The relation's OID, by the caller's search_path where that is not pinned yet. Raises NotPermitted."""
        if rel is None:
            raise errors.BadInput(f"{what}() needs a table")
        caller = self._host.row(CALLER, ["text"], [rel])
        if not (caller and caller["superuser"]):
            raise errors.NotPermitted(f"{what}() needs a superuser", hint="It makes row policies and replaces tables.")
        return int(caller["oid"])

    def _protect(self, rel: str | None, columns: str | None, kek: str | None, store: str | None) -> None:
        wanted = options.parse(columns)
        protect(self._host, self._keys, self._table(rel, "protect"), wanted, kek or "default", store)

    def _unprotect(self, rel: str | None) -> None:
        unprotect(self._host, self._table(rel, "unprotect"))

    def _refresh(self, rel: str | None) -> None:
        refresh(self._host, self._table(rel, "refresh"))

    def _reencrypt(self, rel: str | None, batch_size: int | None) -> None:
        oid = self._table(rel, "reencrypt")
        pin(self._host)
        reencrypt(self._host, oid, 1000 if batch_size is None else batch_size)

    def _rotate(self, oid: int) -> int:
        return self._keys.rotate(str(catalog.key_of(self._host, oid)["key_uuid"]))

    def _rotate_key(self, name: str | None) -> int:
        return self._keys.rotate(self._named(name))

    def _named(self, name: str | None) -> str:
        row = self._host.row("SELECT key_uuid FROM envelope_private.key WHERE name = $1", ["text"], [name])
        if row is None:
            raise errors.KeyNotFound("there is no key of this name", hint="envelope.keys lists the keys.")
        return str(row["key_uuid"])

    def _rotate_field(self, oid: int, column: str | None) -> int:
        return self._keys.rotate_field(str(catalog.key_of(self._host, oid)["key_uuid"]), column)

    def _compromise(self, oid: int, version: int | None, reason: str | None) -> None:
        self._keys.compromise(str(catalog.key_of(self._host, oid)["key_uuid"]), version or 0, reason or "")

    def _compromise_key(self, name: str | None, version: int | None, reason: str | None) -> None:
        self._keys.compromise(self._named(name), version or 0, reason or "")

    def _rotate_kek(self, kek: str | None) -> None:
        rewrap = self._rewrapping(kek, "rotate_kek")
        rewrap.rotate()
        rewrap.run()

    def _rewrap(self, kek: str | None) -> None:
        self._rewrapping(kek, "rewrap").run()

    def _rewrapping(self, kek: str | None, what: str) -> Rewrap:
        caller = self._host.row(CALLER, ["text"], [None])
        if not (caller and caller["superuser"]):
            raise errors.NotPermitted(f"{what}() needs a superuser", hint="It writes the key catalog, and commits.")
        begin(self._host, what)
        self._keys.kek(kek or "")
        return Rewrap(self._host, self._link, self._loader, kek or "", what)

    def _rotate_emergency(self, rel: str | None, reason: str | None) -> None:
        oid = self._table(rel, "rotate_emergency")
        rotate_emergency(self._host, self._link, self._loader, self._keys, oid, reason or "")

    def _create_key(self, name: str | None, kek: str | None, store: str | None) -> str:
        return self._keys.create_named(name or "", kek or "default", store)

    def _flush(self, reason: str | None) -> int:
        return int(self._link.ask("flush", self._loader.who(), reason=reason or "")["epoch"])
