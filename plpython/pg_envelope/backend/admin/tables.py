"""Protected tables: what makes them, renews them and makes them plain again."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.backend.admin.tools import AdminTools
from pg_envelope.backend.caller import is_superuser
from pg_envelope.backend.host import Row
from pg_envelope.backend.jobs.walker import pace_of
from pg_envelope.backend.keys import chosen_kek
from pg_envelope.backend.tables import catalog, options, upsert
from pg_envelope.records import replace
from pg_envelope.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pg_envelope.backend.rollout.rollout import Rollout


class TableRoutines:
    """A relation comes as text, in the form in which regclass writes it."""

    def __init__(self, tools: AdminTools) -> None:
        self._tools, self._host, self._link = tools, tools.host, tools.link
        self.truncate = tools.plain(self._truncate)
        self.protect = tools.plain(tools.alone(self._protect))
        self.protect_tables = tools.plain(tools.alone(self._protect_tables))
        self.plan = tools.plain(tools.alone(self._plan))
        self.unprotect = tools.plain(tools.alone(self._unprotect))
        self.refresh = tools.plain(tools.alone(self._refresh))
        self.adopt_restored = tools.plain(tools.alone(self._adopt_restored))
        self.allow_upsert = tools.plain(tools.alone(self._allow_upsert))
        self.drop_upsert = tools.plain(tools.alone(self._drop_upsert))

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
            from pg_envelope.backend.tables import plan

            plan.tell(self._host, self._plan(rel, columns, scope, scope_column, scope_of, keep_copies))
            return
        oid, asked = self._asked("protect", rel, columns, scope, scope_column, scope_of, erased, keep_copies)
        asked = replace(asked, kek=chosen_kek(kek), store=store)
        if online:
            self._rollout().protect(oid, asked, pace_of(batch_size, pause_ms, max_lag_mb=max_lag_mb))
        else:
            self._protect_together({oid: asked})

    def _protect_tables(self, tables: str | None, kek: str | None, store: str | None, keep_copies: bool | None) -> None:
        columns = options.parse_tables(tables)
        asked = {}
        for rel, wanted in columns.items():
            oid = self._tools.table(rel, "protect_tables")
            if oid in asked:
                raise errors.BadInput("protect_tables() takes each table once", detail=rel)
            asked[oid] = options.ProtectArguments(
                wanted, options.Scoping(), chosen_kek(kek), store, keep_copies=bool(keep_copies)
            )
        self._protect_together(asked)

    def _protect_together(self, asked: dict[int, options.ProtectArguments]) -> None:
        from pg_envelope.backend.tables.together import protect_together

        protect_together(self._host, self._tools.keys, asked)

    def _plan(
        self,
        rel: str | None,
        columns: str | None,
        scope: str | None,
        scope_column: str | None,
        scope_of: str | None,
        keep_copies: bool | None,
    ) -> list[Row]:
        from pg_envelope.backend.tables import plan

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
        oid = self._tools.table(rel, what)
        other = None if scope_of is None else self._tools.table(scope_of, what)
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
        oid = self._tools.table(rel, "unprotect")
        catalog.refuse_adoption(self._host, oid, "unprotect")
        some = None if columns is None else options.parse_names(columns)
        if online:
            pace = pace_of(batch_size, pause_ms, max_lag_mb=max_lag_mb)
            self._rollout().unprotect(oid, damaged or "error", some, pace)
        elif some is not None:
            raise errors.Unsupported(
                "single columns can be unprotected with online => true only; nothing was changed",
                hint="Without columns => ..., the whole table becomes plain.",
            )
        else:
            from pg_envelope.backend.tables.unprotect import unprotect

            unprotect(self._host, oid, damaged or "error")

    def _rollout(self) -> Rollout:
        from pg_envelope.backend.rollout.rollout import Rollout

        return Rollout(self._host, self._link, self._tools.keys, self._tools.fetch)

    def _refresh(self, rel: str | None) -> None:
        if rel is not None and not is_superuser(self._host):
            self._tools.exchanges().refresh(self._host.relation(rel))
        else:
            from pg_envelope.backend.tables.refresh import refresh

            refresh(self._host, self._tools.table(rel, "refresh"))

    def _adopt_restored(self, rel: str | None, key: str | None) -> None:
        from pg_envelope.backend.lifecycle.restored import adopt_restored

        adopt_restored(self._host, self._tools.table(rel, "adopt_restored"), key)

    def _truncate(self, rel: str | None, restart_identity: bool | None, cascade: bool | None) -> None:
        """Runs with the rights of the role that calls it, and needs no others."""
        if rel is None:
            raise errors.BadInput("truncate() needs a table")
        upsert.truncate(self._host, self._host.relation(rel), bool(restart_identity), bool(cascade))

    def _allow_upsert(self, rel: str | None) -> None:
        upsert.allow(self._host, self._tools.settled(rel, "allow_upsert"))

    def _drop_upsert(self, rel: str | None) -> None:
        upsert.drop(self._host, self._tools.settled(rel, "drop_upsert"))
