"""What DBAs call: protect, unprotect, refresh, rotate, reencrypt, keys and status. Imported when first used."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.commits import begin, pin
from pg_envelope.backend.guard import Guard
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs.reencrypt import Reencryption
from pg_envelope.backend.jobs.walker import Pace
from pg_envelope.backend.keys import Keys
from pg_envelope.backend.lifecycle.emergency import rotate_emergency
from pg_envelope.backend.lifecycle.erasure import Erasure
from pg_envelope.backend.lifecycle.escrow import Escrow
from pg_envelope.backend.lifecycle.kek_versions import kms_versions
from pg_envelope.backend.lifecycle.policy import RotateDue, tell_overdue
from pg_envelope.backend.lifecycle.rekey import Rekey
from pg_envelope.backend.lifecycle.replay import Replay
from pg_envelope.backend.lifecycle.restored import adopt_restored
from pg_envelope.backend.lifecycle.retire import Retirement
from pg_envelope.backend.lifecycle.rotation import Rewrap
from pg_envelope.backend.lifecycle.signing import Signing
from pg_envelope.backend.link import Link
from pg_envelope.backend.loader import Loader
from pg_envelope.backend.scope_keys import rotate_scopes
from pg_envelope.backend.status import Status
from pg_envelope.backend.tables import catalog, options
from pg_envelope.backend.tables.protect import protect
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
        self.adopt_restored = guard.plain(self._adopt_restored)
        self.reencrypt = guard.plain(self._reencrypt)
        self.receipt = guard.plain(self._receipt)
        self.rotate = guard.plain(self._rotate)
        self.rotate_key = guard.plain(self._rotate_key)
        self.rotate_field = guard.plain(self._rotate_field)
        self.rotate_kek = guard.plain(self._rotate_kek)
        self.rewrap = guard.plain(self._rewrap)
        self.rotate_emergency = guard.plain(self._rotate_emergency)
        self.retire = guard.plain(self._retire)
        self.rotate_due = guard.plain(self._rotate_due)
        self.compromise = guard.plain(self._compromise)
        self.compromise_key = guard.plain(self._compromise_key)
        self.create_key = guard.plain(self._create_key)
        self.shred = guard.plain(self._shred)
        self.shred_key = guard.plain(self._shred_key)
        self.shred_dropped = guard.plain(self._shred_dropped)
        self.replay_erasures = guard.plain(self._replay_erasures)
        self.signing_keys = guard.plain(Signing(host, link, loader, self._keys).public_keys)
        self.status = guard.plain(Status(host, link, loader).rows)
        self.flush = guard.plain(self._flush)
        self.kms_versions = guard.plain(lambda: kms_versions(host, link, loader))
        self.rekey = guard.plain(self._rekey)
        escrow = Escrow(host, link, loader, self._keys)
        self.escrow_place = guard.plain(escrow.place)
        self.escrow = guard.plain(escrow.escrow)
        self.adoption_key = guard.plain(escrow.adoption_key)
        self.adopt = guard.plain(escrow.adopt)

    def _table(self, rel: str | None, what: str) -> int:
        """The relation's OID, by the caller's search_path where that is not pinned yet. Raises NotPermitted."""
        if rel is None:
            raise errors.BadInput(f"{what}() needs a table")
        caller = self._host.row(CALLER, ["text"], [rel])
        if not (caller and caller["superuser"]):
            raise errors.NotPermitted(f"{what}() needs a superuser", hint="It makes row policies and replaces tables.")
        return int(caller["oid"])

    def _protect(
        self,
        rel: str | None,
        columns: str | None,
        kek: str | None,
        store: str | None,
        scope: str | None,
        scope_column: str | None,
        scope_of: str | None,
        erased: str | None,
    ) -> None:
        wanted = options.parse(columns)
        oid = self._table(rel, "protect")
        other = None if scope_of is None else self._table(scope_of, "protect")
        scoping = options.parse_scope(scope, scope_column, other, erased)
        protect(self._host, self._keys, oid, wanted, kek or "default", store, scoping)

    def _unprotect(self, rel: str | None) -> None:
        unprotect(self._host, self._table(rel, "unprotect"))

    def _refresh(self, rel: str | None) -> None:
        refresh(self._host, self._table(rel, "refresh"))

    def _adopt_restored(self, rel: str | None, key: str | None) -> None:
        adopt_restored(self._host, self._table(rel, "adopt_restored"), key)

    def _reencryption(self, rel: str | None, what: str) -> Reencryption:
        oid = self._table(rel, what)
        pin(self._host)
        return Reencryption(self._host, Signing(self._host, self._link, self._loader, self._keys), oid)

    def _reencrypt(
        self,
        rel: str | None,
        batch_size: int | None,
        pause_ms: int | None,
        part: int | None,
        parts: int | None,
        newest_first: bool | None,
    ) -> None:
        pace = Pace(1000 if batch_size is None else batch_size, (pause_ms or 0) / 1000, bool(newest_first))
        self._reencryption(rel, "reencrypt").run(pace, 1 if part is None else part, 1 if parts is None else parts)

    def _receipt(self, rel: str | None) -> str:
        return self._reencryption(rel, "receipt").receipt()

    def _rotate(self, oid: int, scope: str | None) -> int:
        key = catalog.key_of(self._host, oid)
        if key["scope"] != "table":
            return rotate_scopes(self._host, self._link, self._loader, key, scope)
        if scope is not None:
            raise errors.BadInput("the table has one key for all rows", hint="SELECT envelope.rotate('<table>')")
        return self._keys.rotate(str(key["key_uuid"]))

    def _rotate_key(self, name: str | None) -> int:
        return self._keys.rotate(self._named(name))

    def _named(self, name: str | None) -> str:
        row = self._host.row("SELECT key_uuid FROM envelope_private.key WHERE name = $1", ["text"], [name])
        if row is None:
            raise errors.KeyNotFound("there is no key of this name", hint="envelope.keys lists the keys.")
        return str(row["key_uuid"])

    def _rotate_field(self, oid: int, column: str | None) -> int:
        key = catalog.key_of(self._host, oid)
        catalog.refuse_scoped(key, "rotate_field")
        return self._keys.rotate_field(str(key["key_uuid"]), column)

    def _compromise(self, oid: int, version: int | None, reason: str | None, scope: str | None) -> None:
        key = catalog.key_of(self._host, oid)
        if scope is not None and key["scope"] == "table":
            raise errors.BadInput("the table has one key for all rows", hint="Leave the tenant or subject out.")
        of_all = key["scope"] != "table" and scope is None
        self._keys.compromise(str(key["scope_key"]), version or 0, reason or "", scope, of_all=of_all)

    def _compromise_key(self, name: str | None, version: int | None, reason: str | None) -> None:
        self._keys.compromise(self._named(name), version or 0, reason or "")

    def _rotate_kek(self, kek: str | None) -> None:
        rewrap = self._rewrapping(kek, "rotate_kek")
        rewrap.rotate()
        rewrap.run()

    def _rewrap(self, kek: str | None) -> None:
        self._rewrapping(kek, "rewrap").run()

    def _retire(self, rel: str | None, version: int | None, destroy: bool | None) -> None:
        oid = self._table(rel, "retire")
        begin(self._host, "retire")
        Retirement(self._host, self._link, self._loader).retire(oid, version, bool(destroy))

    def _rotate_due(self, dry_run: bool | None) -> None:
        caller = self._host.row(CALLER, ["text"], [None])
        if not (caller and caller["superuser"]):
            raise errors.NotPermitted("rotate_due() needs a superuser", hint="It writes the key catalog, and commits.")
        begin(self._host, "rotate_due")
        try:
            RotateDue(self._host, self._keys, self._rotate_kek, self._reencrypt_due).run(bool(dry_run))
        finally:
            tell_overdue(self._host, self._link, self._loader)

    def _reencrypt_due(self, oid: int) -> None:
        signing = Signing(self._host, self._link, self._loader, self._keys)
        Reencryption(self._host, signing, oid).run(Pace())

    def _rewrapping(self, kek: str | None, what: str) -> Rewrap:
        caller = self._host.row(CALLER, ["text"], [None])
        if not (caller and caller["superuser"]):
            raise errors.NotPermitted(f"{what}() needs a superuser", hint="It writes the key catalog, and commits.")
        begin(self._host, what)
        self._keys.kek(kek or "")
        return Rewrap(self._host, self._link, self._loader, kek or "", what)

    def _rotate_emergency(self, rel: str | None, reason: str | None, scope: str | None) -> None:
        oid = self._table(rel, "rotate_emergency")
        rotate_emergency(self._host, self._link, self._loader, self._keys, oid, scope, reason or "")

    def _rekey(self, from_environment: str | None, from_kek: str | None, to_kek: str | None) -> None:
        caller = self._host.row(CALLER, ["text"], [None])
        if not (caller and caller["superuser"]):
            raise errors.NotPermitted("rekey() needs a superuser", hint="It writes the key catalog, and commits.")
        begin(self._host, "rekey")
        Rekey(self._host, self._link, self._loader, self._keys).run(from_environment or "", from_kek, to_kek)

    def _shred(self, rel: str | None, subject: str | None, reason: str | None) -> None:
        oid = self._table(rel, "shred")
        begin(self._host, "shred")
        erasure = Erasure(self._host, self._link, self._loader)
        erasure.shred("shred", erasure.of_table(oid), subject, reason or "")

    def _shred_key(self, name: str | None, reason: str | None) -> None:
        self._table("pg_catalog.pg_class", "shred_key")
        begin(self._host, "shred_key")
        erasure = Erasure(self._host, self._link, self._loader)
        erasure.shred("shred_key", erasure.of_name(name), None, reason or "")

    def _shred_dropped(self, key: str | None, reason: str | None, subject: str | None) -> None:
        self._table("pg_catalog.pg_class", "shred_dropped")
        begin(self._host, "shred_dropped")
        erasure = Erasure(self._host, self._link, self._loader)
        erasure.shred("shred_dropped", erasure.of_dropped(key), subject, reason or "")

    def _replay_erasures(self) -> list[Row]:
        return Replay(self._host, self._link, self._loader).run()

    def _create_key(self, name: str | None, kek: str | None, store: str | None) -> str:
        return self._keys.create_named(name or "", kek or "default", store)

    def _flush(self, reason: str | None) -> int:
        return int(self._link.ask("flush", self._loader.who(), reason=reason or "")["epoch"])
