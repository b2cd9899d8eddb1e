"""Begins and ends commands: decides which protected tables exchange names for a command, and for whom."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from pg_envelope import errors
from pg_envelope.backend.ddl import commands, exchange, refused, settle
from pg_envelope.backend.ddl.commands import Command
from pg_envelope.backend.ddl.open import refuse_open
from pg_envelope.backend.host import Host, Row, Undone
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import catalog
from pg_envelope.backend.tables.refresh import refresh

RIGHTS = """
SELECT pg_has_role($1, b.relowner, 'USAGE') AS owns, has_table_privilege($1, v.oid, 'REFERENCES')
    OR has_any_column_privilege($1, v.oid, 'REFERENCES') AS refers
FROM envelope_private.key k JOIN pg_catalog.pg_class b ON b.oid = k.base JOIN pg_catalog.pg_class v ON v.oid = k.view
WHERE k.view = $2::oid"""
# Each session waits here for the other one, and reads names only then. Who has no right holds nobody up.
LOCK = f"""
WITH may AS ({RIGHTS})
SELECT key_uuid FROM envelope_private.key WHERE view = $2::oid AND (SELECT owns OR refers FROM may) FOR UPDATE"""
OF_VIEW = "SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = $1::oid AND tgname = ANY ($2::name[])"
DEEPER = "UPDATE envelope_private.exchange SET depth = depth + 1"
ENDED = "SELECT * FROM envelope_private.exchange WHERE depth = 1 ORDER BY base"
LESS_DEEP = "UPDATE envelope_private.exchange SET depth = depth - 1 WHERE depth > 1"
# Of a partition, it may be named by the table above it.
WHOLE = """
SELECT view_name FROM envelope_private.protected_table
WHERE $1::oid IN (base, view) OR base = pg_partition_root($1::oid)"""
TRIES = 5


class Exchanges:
    """The exchanges of a session. Their state is in the database, and ends with the transaction or a savepoint.

    `caller` is whoever gives a command. It lets a step run with the rights of the extension's owner.
    """

    def __init__(self, host: Host, caller: Host) -> None:
        self._host = host
        self._caller = caller

    def begin_command(self, tag: str, context: str) -> None:
        """Called as who gives the command, under the search_path of the command."""
        text = commands.running(context, self._caller.query())
        found = list(commands.find(text, tag))
        for oid in self._meant(command for command in found if command.detaches):
            self._caller.as_owner(partial(self._refuse_detached, oid))
        self._caller.as_owner(lambda: self._host.rows(DEEPER))
        for view, named in self._settled(found).items():
            self._caller.as_owner(partial(self._begin, view, named))

    def begin(self, view: int) -> None:
        """Begins for all commands until end(). Raises NotProtected, NotPermitted, Locked, Conflict."""
        self._caller.as_owner(lambda: self._begin_by_hand(view))

    def refresh(self, oid: int) -> None:
        """Carries out refresh() for the owner of a table, who could begin() and end() as well.

        Raises NotProtected, NotPermitted, Locked, Conflict.
        """
        self._caller.as_owner(lambda: self._refresh(oid))

    def end(self) -> None:
        """Ends a command, or what begin() began."""
        ended = self._host.rows(ENDED)
        self._host.rows(LESS_DEEP)
        for row in ended:
            settle.settle(self._host, row)

    def _refuse_detached(self, oid: int) -> None:
        """Raises Unsupported: no view opens what is in a detached partition, and no job brings it to new keys."""
        row = self._host.row(WHOLE, ["oid"], [oid])
        if row is not None:
            raise errors.Unsupported(
                f"{row['view_name']} is protected: the values of a detached partition could not be read any more",
                hint="Copy its rows from the view to another table, then DROP TABLE the partition:"
                " docs/protected-tables.md has an example.",
            )

    def _settled(self, found: list[Command]) -> dict[int, list[Command]]:
        """Returns what the names in a command mean, with the protected ones locked: from then on they stay."""
        meant = self._meant(found)
        for _ in range(TRIES):
            self._caller.as_owner(partial(self._lock, list(meant)))
            before, meant = meant, self._meant(found)
            if meant == before:
                break
        return meant

    def _meant(self, found: Iterable[Command]) -> dict[int, list[Command]]:
        meant: dict[int, list[Command]] = {}
        for command in found:
            oid = self._caller.named(".".join(map(ident, command.name)))
            if oid is not None:
                meant.setdefault(oid, []).append(command)
        return meant

    def _lock(self, views: Iterable[int]) -> None:
        for view in sorted(views):
            self._host.rows(LOCK, ["name", "oid"], [self._caller.acting, view])
        # A session hears of names that others have changed when it takes a lock on a relation, and a lock on a row is
        # none. The lock is given back, so that the next one is taken again.
        with suppress(Undone), self._host.subtransaction():
            self._host.run("LOCK TABLE envelope_private.exchange IN ROW SHARE MODE")
            raise Undone

    def _begin(self, view: int, named: list[Command]) -> None:
        uses = {command.use for command in named}
        rights = self._host.row(RIGHTS, ["name", "oid"], [self._caller.acting, view])
        if rights is None or "shape" in uses or not (rights["owns"] or (uses == {"refers"} and rights["refers"])):
            return
        triggers = [command.trigger for command in named if command.trigger]
        if triggers and self._host.row(OF_VIEW, ["oid", "text[]"], [view, triggers]) is not None:
            return
        key = catalog.key_of(self._host, view)
        refused.check(self._host, key, named)
        exchange.begin(self._host, key)

    def _begin_by_hand(self, view: int) -> None:
        self._lock([view])
        key = self._key(view)
        self._refuse_others(key)
        exchange.begin(self._host, key)

    def _refresh(self, oid: int) -> None:
        refuse_open(self._host, "refresh")
        key = catalog.key_of(self._host, oid)
        self._lock([key["view"]])
        self._refuse_others(key)
        refresh(self._host, key["base"])

    def _refuse_others(self, key: Row) -> None:
        """Refuses who is not the owner, as PostgreSQL does. Where the view is gone, it refuses everybody."""
        rights = self._host.row(RIGHTS, ["name", "oid"], [self._caller.acting, key["view"]])
        if rights is None or not rights["owns"]:
            raise errors.NotPermitted(f"must be owner of {key['view_name'] or key['base_name']}")

    def _key(self, view: int) -> Row:
        key = catalog.key_of(self._host, view)
        if self._host.row("SELECT base FROM envelope_private.exchange WHERE base = $1", ["oid"], [key["base"]]):
            raise errors.NotConfigured("the names are exchanged already", hint="SELECT envelope.end_ddl() ends it.")
        return key
