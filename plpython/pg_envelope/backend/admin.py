"""Carries out the routines that DBAs call: protect, unprotect, refresh, rotate, reencrypt, status and others.

It is imported at its first use, so that a session that only reads does not pay for it. Parts that few sessions need are
imported by the routines that need them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from pg_envelope import errors
from pg_envelope.backend.caller import is_superuser, refuse_others
from pg_envelope.backend.commits import begin
from pg_envelope.backend.ddl.begin import Exchanges
from pg_envelope.backend.guard import Guard
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs.walker import Pace
from pg_envelope.backend.keys import Keys, chosen_kek
from pg_envelope.backend.lifecycle import sequences
from pg_envelope.backend.lifecycle.erasure import Erasure, check_scope
from pg_envelope.backend.lifecycle.kek_versions import kms_versions
from pg_envelope.backend.lifecycle.keys_backup import KeysBackup
from pg_envelope.backend.lifecycle.rotation import Rewrap
from pg_envelope.backend.lifecycle.schedule import RotateDue, tell_overdue
from pg_envelope.backend.lifecycle.signing import Signing
from pg_envelope.backend.link import Link
from pg_envelope.backend.masks.session import Masks
from pg_envelope.backend.search import place
from pg_envelope.backend.search.options import parse_one
from pg_envelope.backend.status import Status
from pg_envelope.backend.tables import catalog, options, plan, upsert
from pg_envelope.backend.tables.audit import Auditing, LimitWanted
from pg_envelope.backend.tables.follow import follow
from pg_envelope.backend.tables.inspect import inspect
from pg_envelope.backend.tables.refresh import refresh
from pg_envelope.backend.tables.scope_values import ScopeColumn
from pg_envelope.backend.tables.together import protect_together
from pg_envelope.backend.tables.types import Types
from pg_envelope.backend.tables.unprotect import unprotect
from pg_envelope.backend.unreadable import verify

if TYPE_CHECKING:
    from pg_envelope.backend.jobs.reencrypt import Reencryption
    from pg_envelope.backend.masks.rules import Rules
    from pg_envelope.backend.rollout.ready_keys import Fetch
    from pg_envelope.backend.rollout.rollout import Rollout

# Guard.plain: it wraps a function that SQL calls.
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
Result = TypeVar("Result")
WHY = "It makes row policies and replaces tables. What an owner can call: docs/migrations.md#without-a-superuser"
COMMITS = "It writes the key catalog, and commits."


def _pace(
    batch_size: int | None, pause_ms: int | None, *, newest_first: bool = False, max_lag_mb: int | None = None
) -> Pace:
    pace = Pace(1000 if batch_size is None else batch_size, (pause_ms or 0) / 1000, newest_first)
    return pace if max_lag_mb is None else pace._replace(max_lag_mb=max_lag_mb)


class Admin:
    """One method per SQL routine. A relation comes as text, in the form in which regclass writes it.

    `exchanges` serves DDL on a protected table's own name. `masks` returns the session's masks.
    `fetch` fetches keys of tenants and subjects.
    """

    def __init__(
        self,
        host: Host,
        exchanges: Exchanges,
        guard: Guard,
        link: Link,
        masks: Callable[[], Masks],
        fetch: Fetch,
    ) -> None:
        self._host = host
        self._link = link
        self._keys = Keys(host, link)
        self._exchanges = exchanges
        self._masks = masks
        self._fetch = fetch
        self._changing_tables = False
        self._offer_tables(guard.plain)
        self._offer_values(guard.plain)
        self._offer_keys(guard.plain)
        self._offer_erasure(guard.plain)
        self._offer_backups(guard.plain)
        self._offer_reports(guard.plain)

    def _offer_tables(self, plain: Wrap) -> None:
        self.protect = plain(self.alone(self._protect))
        self.protect_tables = plain(self.alone(self._protect_tables))
        self.plan = plain(self.alone(self._plan))
        self.unprotect = plain(self.alone(self._unprotect))
        self.refresh = plain(self.alone(self._refresh))
        self.adopt_restored = plain(self.alone(self._adopt_restored))
        self.follow = plain(self.alone(self._follow))
        self.begin_command = plain(self.alone(self._begin_command))
        self.begin_ddl = plain(self.alone(self._begin_ddl))
        self.end_command = plain(self.alone(self._end_command))
        self.set_audit = plain(self.alone(self._set_audit))
        self.set_limit = plain(self._set_limit)
        self.mask = plain(self.alone(self._mask))
        self.unmask = plain(self.alone(self._unmask))
        self.set_audit_key = plain(self._set_audit_key)
        types = Types(self._host)
        self.type_changing = plain(types.changing)
        self.type_changed = plain(types.changed)
        self.search_advice = plain(self._search_advice)
        self.slow_reads = plain(self._slow_reads)
        self.grant_search = plain(self._grant_search)
        self.add_search = plain(self.alone(self._add_search))
        self.drop_search = plain(self.alone(self._drop_search))
        self.rotate_search = plain(self.alone(self._rotate_search))
        self.truncate = plain(self._truncate)
        self.allow_upsert = plain(self.alone(self._allow_upsert))
        self.drop_upsert = plain(self.alone(self._drop_upsert))

    def _offer_values(self, plain: Wrap) -> None:
        self.reencrypt = plain(self._reencrypt)
        self.receipt = plain(self._receipt)
        self.verify = plain(self._verify)

    def _offer_keys(self, plain: Wrap) -> None:
        self.create_key = plain(self._create_key)
        self.rotate = plain(self._rotate)
        self.rotate_key = plain(self._rotate_key)
        self.rotate_field = plain(self._rotate_field)
        self.rotate_kek = plain(self._rotate_kek)
        self.rewrap = plain(self._rewrap)
        self.rotate_emergency = plain(self._rotate_emergency)
        self.rotate_due = plain(self._rotate_due)
        self.compromise = plain(self._compromise)
        self.compromise_key = plain(self._compromise_key)
        self.retire = plain(self._retire)
        self.flush = plain(self._flush)

    def _offer_erasure(self, plain: Wrap) -> None:
        self.affected = plain(self._affected)
        self.shred = plain(self._shred)
        self.shred_key = plain(self._shred_key)
        self.shred_dropped = plain(self._shred_dropped)
        self.replay_erasures = plain(self._replay_erasures)
        self.forget_all_keys = plain(self._forget_all_keys)

    def _offer_backups(self, plain: Wrap) -> None:
        keys_backup = KeysBackup(self._host, self._link, self._keys)
        self.keys_backup_place = plain(keys_backup.place)
        self.keys_backup = plain(keys_backup.keys_backup)
        self.keys_return_key = plain(keys_backup.keys_return_key)
        self.keys_return = plain(keys_backup.keys_return)
        self.rekey = plain(self._rekey)
        self.this_is_the_original = plain(self._this_is_the_original)
        self.mend_sequences = plain(self._mend_sequences)

    def _offer_reports(self, plain: Wrap) -> None:
        host, link = self._host, self._link
        self.status = plain(Status(host, link).rows)
        self.sign_report = plain(self._sign_report)
        self.signing_keys = plain(Signing(host, link, self._keys).public_keys)
        self.access = plain(self.alone(self._access))
        self.is_harmless = plain(self._is_harmless)
        self.verify_keys = plain(lambda: list(verify(host, link)))
        self.kms_versions = plain(lambda: kms_versions(host, link))

    def _sign_report(self, report: str | None) -> list[Row]:
        """Signs it as a report and nothing else: so it cannot pass for a receipt."""
        content = json.loads(report or "null")
        if not isinstance(content, dict):
            raise errors.BadInput("sign_report() needs a JSON object")
        signed = Signing(self._host, self._link, self._keys).sign({"what": "report", "report": content})
        return [{"statement": signed.text, "signature": signed.signature, "public_key": signed.public_key}]

    def _refuse_exchanged(self, what: str) -> None:
        """Raises NotConfigured while a base table has the name of its view."""
        self._exchanges.refuse_open(what)

    def table(self, rel: str | None, what: str, why: str = WHY) -> int:
        """The relation's OID. `why` tells why `what` is for superusers only. Raises BadInput, NotPermitted."""
        if rel is None:
            raise errors.BadInput(f"{what}() needs a table")
        refuse_others(self._host, what, why)
        self._refuse_exchanged(what)
        return self._host.relation(rel)

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
        keep_copies: bool | None,
        dry_run: bool | None,
        online: bool | None,
        batch_size: int | None,
        pause_ms: int | None,
        max_lag_mb: int | None,
    ) -> None:
        if dry_run and online:
            raise errors.BadInput(
                "a plan is that of protect() without online", hint="docs/online.md has the steps of a roll-out."
            )
        if dry_run:
            plan.tell(self._host, self._plan(rel, columns, scope, scope_column, scope_of, keep_copies))
            return
        oid, asked = self._asked("protect", rel, columns, scope, scope_column, scope_of, erased, keep_copies)
        asked = replace(asked, kek=chosen_kek(kek), store=store)
        if online:
            self._rollout().protect(oid, asked, _pace(batch_size, pause_ms, max_lag_mb=max_lag_mb))
        else:
            protect_together(self._host, self._keys, {oid: asked})

    def _protect_tables(self, tables: str | None, kek: str | None, store: str | None, keep_copies: bool | None) -> None:
        columns = options.parse_tables(tables)
        asked = {}
        for rel, wanted in columns.items():
            oid = self.table(rel, "protect_tables")
            if oid in asked:
                raise errors.BadInput("protect_tables() takes each table once", detail=rel)
            asked[oid] = options.ProtectArguments(
                wanted, options.Scoping(), chosen_kek(kek), store, keep_copies=bool(keep_copies)
            )
        protect_together(self._host, self._keys, asked)

    def _plan(
        self,
        rel: str | None,
        columns: str | None,
        scope: str | None,
        scope_column: str | None,
        scope_of: str | None,
        keep_copies: bool | None,
    ) -> list[Row]:
        oid, asked = self._asked("plan", rel, columns, scope, scope_column, scope_of, None, keep_copies)
        return plan.plan(self._host, oid, asked)

    def _asked(
        self,
        what: str,
        rel: str | None,
        columns: str | None,
        scope: str | None,
        scope_column: str | None,
        scope_of: str | None,
        erased: str | None,
        keep_copies: bool | None,
    ) -> tuple[int, options.ProtectArguments]:
        wanted = options.parse(columns)
        oid = self.table(rel, what)
        other = None if scope_of is None else self.table(scope_of, what)
        scoping = options.parse_scope(scope, scope_column, other, erased)
        return oid, options.ProtectArguments(wanted, scoping, keep_copies=bool(keep_copies))

    def _unprotect(
        self,
        rel: str | None,
        damaged: str | None,
        online: bool | None,
        batch_size: int | None,
        pause_ms: int | None,
        max_lag_mb: int | None,
        columns: str | None,
    ) -> None:
        oid = self.table(rel, "unprotect")
        catalog.refuse_adoption(self._host, oid, "unprotect")
        some = None if columns is None else options.parse_names(columns)
        if online:
            pace = _pace(batch_size, pause_ms, max_lag_mb=max_lag_mb)
            self._rollout().unprotect(oid, damaged or "error", some, pace)
        elif some is not None:
            raise errors.Unsupported(
                "single columns can be unprotected with online => true only; nothing was changed",
                hint="Without columns => ..., the whole table becomes plain.",
            )
        else:
            unprotect(self._host, oid, damaged or "error")

    def alone(self, call: Callable[..., Result]) -> Callable[..., Result | None]:
        """Switches off the following of DDL while the package itself changes the table: its own steps keep view
        and base in step.
        """

        def called(*arguments: Any) -> Result | None:
            if self._changing_tables and call in (self._follow, self._begin_command, self._end_command):
                return None
            before, self._changing_tables = self._changing_tables, True
            try:
                return call(*arguments)
            finally:
                self._changing_tables = before

        return called

    def _follow(self, view: int, touched: int, attnum: int) -> None:
        follow(self._host, view, touched, attnum)

    def _begin_command(self, tag: str, context: str) -> None:
        self._exchanges.begin_command(tag, context)

    def _begin_ddl(self, rel: str | None) -> None:
        if rel is None:
            raise errors.BadInput("begin_ddl() needs a table")
        self._exchanges.begin(self._host.relation(rel))

    def _end_command(self) -> None:
        self._exchanges.end()

    def _set_audit(self, rel: str | None, column: str | None, level: str | None) -> None:
        oid = self.table(rel, "set_audit")
        begin(self._host, "set_audit")
        Auditing(self._host, self._link, self._keys).of_column(oid, column, level)

    def _set_limit(
        self, rel: str | None, column: str | None, rows: int | None, per: str | None, action: str | None
    ) -> None:
        oid = self.table(rel, "set_limit")
        begin(self._host, "set_limit")
        Auditing(self._host, self._link, self._keys).limit_column(oid, column, LimitWanted(rows, per, action))

    def _set_audit_key(self, name: str | None, level: str | None) -> None:
        refuse_others(self._host, "set_audit_key", COMMITS)
        begin(self._host, "set_audit_key")
        Auditing(self._host, self._link, self._keys).of_key(name, level)

    def _mask(
        self, rel: str | None, column: str | None, role: str | None, kind: str | None, arguments: str | None
    ) -> None:
        found = place.find(self._host, self._settled(rel, "mask"))
        self._rules().mask(found, column, role, kind, json.loads(arguments or "{}"))

    def _unmask(self, rel: str | None, column: str | None, role: str | None) -> None:
        self._rules().unmask(place.find(self._host, self._settled(rel, "unmask")), column, role)

    def _rules(self) -> Rules:
        from pg_envelope.backend.masks.rules import Rules

        return Rules(self._host, self._keys, self._masks().secret)

    def _refresh(self, rel: str | None) -> None:
        if rel is not None and not is_superuser(self._host):
            self._exchanges.refresh(self._host.relation(rel))
        else:
            refresh(self._host, self.table(rel, "refresh"))

    def _adopt_restored(self, rel: str | None, key: str | None) -> None:
        from pg_envelope.backend.lifecycle.restored import adopt_restored

        adopt_restored(self._host, self.table(rel, "adopt_restored"), key)

    def _access(self, proof: bool | None) -> list[Row]:
        from pg_envelope.backend.access.report import access

        refuse_others(self._host, "access", "It reads as each role.")
        return access(self._host, proof=bool(proof))

    def _is_harmless(self, rel: str | None) -> bool:
        from pg_envelope.backend.access.code import is_harmless

        return is_harmless(self._host, self._host.relation(rel or ""))

    def _reencryption(self, rel: str | None, what: str) -> Reencryption:
        return self._reencryption_of(self.table(rel, what))

    def _rollout(self) -> Rollout:
        from pg_envelope.backend.rollout.rollout import Rollout

        return Rollout(self._host, self._link, self._keys, self._fetch)

    def _reencryption_of(self, oid: int) -> Reencryption:
        from pg_envelope.backend.jobs.reencrypt import Reencryption

        return Reencryption(self._host, Signing(self._host, self._link, self._keys), oid)

    def _reencrypt(
        self,
        rel: str | None,
        batch_size: int | None,
        pause_ms: int | None,
        part: int | None,
        parts: int | None,
        newest_first: bool | None,
    ) -> None:
        pace = _pace(batch_size, pause_ms, newest_first=bool(newest_first))
        self._reencryption(rel, "reencrypt").run(pace, 1 if part is None else part, 1 if parts is None else parts)

    def _verify(self, rel: str | None, batch_size: int | None, pause_ms: int | None, anew: bool | None) -> None:
        from pg_envelope.backend.jobs.verify import Verification, verify_all

        # It writes next to nothing.
        pace = _pace(batch_size, pause_ms, max_lag_mb=0)
        oid = self.table("pg_catalog.pg_class" if rel is None else rel, "verify")
        if rel is None:
            verify_all(self._host, pace, bool(anew))
        else:
            Verification(self._host, oid).run(pace, bool(anew))

    def _settled(self, rel: str | None, what: str) -> int:
        """The same of a table that no roll-out is changing. Raises NotPermitted, Conflict."""
        oid = self.table(rel, what)
        catalog.refuse_rollout(self._host, oid, what)
        return oid

    def _receipt(self, rel: str | None) -> str:
        return self._reencryption(rel, "receipt").receipt()

    def _search_advice(
        self, rel: str | None, column: str | None, normalize: str | None, beside: str | None
    ) -> list[Row]:
        from pg_envelope.backend.search.advice import advice

        return advice(self._host, inspect(self._host, self.table(rel, "search_advice")), column, normalize, beside)

    def _slow_reads(self) -> list[Row]:
        from pg_envelope.backend.search.slow_reads import slow_reads

        refuse_others(self._host, "slow_reads", "It shows the statements of all roles.")
        return slow_reads(self._host)

    def _grant_search(self, rel: str | None, column: str | None, role: str | None) -> None:
        from pg_envelope.backend.search.granting import grant_search

        grant_search(self._host, self.table(rel, "grant_search"), column, role)

    def _add_search(
        self, rel: str | None, column: str | None, spec: str | None, batch_size: int | None, pause_ms: int | None
    ) -> None:
        from pg_envelope.backend.search.adding import add_search

        wanted = parse_one(column or "", json.loads(spec or "null"))
        oid, pace = self._settled(rel, "add_search"), _pace(batch_size, pause_ms)
        add_search(self._host, self._keys, oid, column, wanted, pace)

    def _drop_search(self, rel: str | None, column: str | None, name: str | None) -> None:
        from pg_envelope.backend.search.dropping import drop_search

        drop_search(self._host, self._settled(rel, "drop_search"), column, name)

    def _rotate_search(
        self,
        rel: str | None,
        column: str | None,
        name: str | None,
        normalize: str | None,
        batch_size: int | None,
        pause_ms: int | None,
    ) -> None:
        from pg_envelope.backend.search.rotating import rotate_search

        oid, pace = self._settled(rel, "rotate_search"), _pace(batch_size, pause_ms)
        rotate_search(self._host, self._keys, oid, column, name, normalize, pace)

    def _truncate(self, rel: str | None, restart_identity: bool | None, cascade: bool | None) -> None:
        """Runs with the rights of the role that calls it, and needs no others."""
        if rel is None:
            raise errors.BadInput("truncate() needs a table")
        upsert.truncate(self._host, self._host.relation(rel), bool(restart_identity), bool(cascade))

    def _allow_upsert(self, rel: str | None) -> None:
        upsert.allow(self._host, self._settled(rel, "allow_upsert"))

    def _drop_upsert(self, rel: str | None) -> None:
        upsert.drop(self._host, self._settled(rel, "drop_upsert"))

    def _rotate(self, oid: int, scope: str | None) -> int:
        from pg_envelope.backend.scope_keys import rotate_scopes

        key = catalog.key_of(self._host, oid)
        if key["scope"] != "table":
            scopes = None if scope is None else ScopeColumn.of(self._host, oid).known(scope)
            return rotate_scopes(self._host, self._link, key, scopes)
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
        scopes = None if scope is None else ScopeColumn.of(self._host, oid).known(scope)
        self._keys.compromise(str(key["scope_key"]), version or 0, reason or "", scopes, of_all=of_all)

    def _compromise_key(self, name: str | None, version: int | None, reason: str | None) -> None:
        self._keys.compromise(self._named(name), version or 0, reason or "")

    def _rotate_kek(self, kek: str | None) -> None:
        rewrap = self._rewrapping(kek, "rotate_kek")
        rewrap.rotate()
        rewrap.run()

    def _rewrap(self, kek: str | None) -> None:
        self._rewrapping(kek, "rewrap").run()

    def _retire(self, rel: str | None, version: int | None, destroy: bool | None) -> None:
        from pg_envelope.backend.lifecycle.retire import Retirement

        oid = self.table(rel, "retire")
        begin(self._host, "retire")
        Retirement(self._host, self._link).retire(oid, version, bool(destroy))

    def _rotate_due(self, dry_run: bool | None) -> None:
        refuse_others(self._host, "rotate_due", COMMITS)
        begin(self._host, "rotate_due")
        try:
            RotateDue(self._host, self._keys, self._rotate_kek, self._reencrypt_due).run(bool(dry_run))
        finally:
            tell_overdue(self._host, self._link)

    def _reencrypt_due(self, oid: int) -> None:
        self._reencryption_of(oid).run(Pace())

    def _rewrapping(self, kek: str | None, what: str) -> Rewrap:
        refuse_others(self._host, what, COMMITS)
        begin(self._host, what)
        self._keys.kek(kek or "")
        return Rewrap(self._host, self._link, kek or "", what)

    def _rotate_emergency(self, rel: str | None, reason: str | None, scope: str | None) -> None:
        from pg_envelope.backend.lifecycle.emergency import rotate_emergency

        oid = self.table(rel, "rotate_emergency")
        rotate_emergency(self._host, self._link, self._keys, oid, scope, reason or "")

    def _rekey(self, from_environment: str | None, from_kek: str | None, to_kek: str | None) -> None:
        from pg_envelope.backend.lifecycle.rekey import Rekey

        refuse_others(self._host, "rekey", COMMITS)
        begin(self._host, "rekey")
        Rekey(self._host, self._link, self._keys).run(from_environment or "", from_kek, to_kek)

    def _shred(self, rel: str | None, subject: str | None, reason: str | None) -> None:
        oid = self._settled(rel, "shred")
        catalog.refuse_shared_rollout(self._host, oid, "shred")
        begin(self._host, "shred")
        erasure = Erasure(self._host, self._link)
        key = erasure.of_table(oid)
        check_scope(key, subject)
        for scope in [None] if subject is None else ScopeColumn.of(self._host, oid).known(subject):
            erasure.shred("shred", key, scope, reason or "")

    def _affected(self, rel: str | None, subject: str | None) -> list[Row]:
        from pg_envelope.backend.lifecycle.affected import affected

        return affected(self._host, self.table(rel, "affected"), subject)

    def _shred_key(self, name: str | None, reason: str | None) -> None:
        self.table("pg_catalog.pg_class", "shred_key")
        begin(self._host, "shred_key")
        erasure = Erasure(self._host, self._link)
        erasure.shred("shred_key", erasure.of_name(name), None, reason or "")

    def _shred_dropped(self, key: str | None, reason: str | None, subject: str | None) -> None:
        """`subject` is the text that envelope.keys shows. No column is left whose type could give it another one."""
        self.table("pg_catalog.pg_class", "shred_dropped")
        begin(self._host, "shred_dropped")
        erasure = Erasure(self._host, self._link)
        found = erasure.of_dropped(key)
        check_scope(found, subject)
        erasure.shred("shred_dropped", found, subject, reason or "")

    def _forget_all_keys(self, database: str | None) -> int:
        from pg_envelope.backend.lifecycle.forgetting import Forgetting

        self.table("pg_catalog.pg_class", "forget_all_keys")
        return Forgetting(self._host, self._link).forget_all(database)

    def _replay_erasures(self, destroy_active: bool | None) -> list[Row]:
        from pg_envelope.backend.lifecycle.replay import Replay

        return Replay(self._host, self._link, bool(destroy_active)).run()

    def _mend_sequences(self) -> int:
        return sequences.mend(self._host)

    def _this_is_the_original(self) -> None:
        from pg_envelope.backend.lifecycle.identity import Claim

        Claim(self._host, self._link).run()

    def _create_key(self, name: str | None, kek: str | None, store: str | None) -> str:
        return self._keys.create_named(name or "", chosen_kek(kek), store)

    def _flush(self, reason: str | None) -> int:
        return int(self._link.ask("flush", reason=reason or "")["epoch"])
