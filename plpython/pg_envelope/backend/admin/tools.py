"""What the routines for DBAs share: the checks of who calls, and the knowledge of who changes tables now."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from pg_envelope import errors
from pg_envelope.backend import caller
from pg_envelope.backend.ddl.open import refuse_open
from pg_envelope.backend.guard import Guard
from pg_envelope.backend.host import Host
from pg_envelope.backend.link import Link
from pg_envelope.typed import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pg_envelope.backend.ddl.begin import Exchanges
    from pg_envelope.backend.keys import Keys
    from pg_envelope.backend.masks.session import Masks
    from pg_envelope.backend.rollout.ready_keys import Fetch

Result = TypeVar("Result")
WHY = "It makes row policies and replaces tables. What an owner can call: docs/migrations.md#without-a-superuser"
COMMITS = "It writes the key catalog, and commits."


class AdminTools:
    """One for a session. A relation comes as text, in the form in which regclass writes it."""

    def __init__(
        self,
        host: Host,
        exchanges: Callable[[], Exchanges],
        guard: Guard,
        link: Link,
        masks: Callable[[], Masks],
        fetch: Fetch,
    ) -> None:
        """`exchanges` serves DDL on a protected table's own name. `masks` returns the session's masks. `fetch` fetches
        keys of tenants and subjects.
        """
        self.host, self.link, self.guard, self.plain = host, link, guard, guard.plain
        self.exchanges, self.masks, self.fetch = exchanges, masks, fetch
        self.changes_tables = False

    @cached_property
    def keys(self) -> Keys:
        from pg_envelope.backend.keys import Keys

        return Keys(self.host, self.link)

    def refuse_others(self, what: str, why: str = WHY) -> None:
        """Raises NotPermitted for who is no superuser, and NotConfigured while a base table has the name of its view.

        `why` tells why `what` is for superusers only.
        """
        caller.refuse_others(self.host, what, why)
        refuse_open(self.host, what)

    def table(self, rel: str | None, what: str, why: str = WHY) -> int:
        """The relation's OID, for a superuser. Raises BadInput, NotPermitted, NotConfigured."""
        if rel is None:
            raise errors.BadInput(f"{what}() needs a table")
        self.refuse_others(what, why)
        return self.host.relation(rel)

    def settled(self, rel: str | None, what: str) -> int:
        """The same of a table that no roll-out is changing. Raises Conflict as well."""
        from pg_envelope.backend.tables import catalog

        oid = self.table(rel, what)
        catalog.refuse_rollout(self.host, oid, what)
        return oid

    def alone(self, call: Callable[..., Result]) -> Callable[..., Result]:
        """Wraps a routine that changes tables. Its own steps keep view and base in step, so that what follows DDL
        has nothing to do until it ends: `unless_alone`.
        """

        def called(*arguments: Any) -> Result:
            before, self.changes_tables = self.changes_tables, True
            try:
                return call(*arguments)
            finally:
                self.changes_tables = before

        return called

    def unless_alone(self, call: Callable[..., None]) -> Callable[..., None]:
        """Wraps what follows DDL. It does nothing while the package itself changes the table."""

        def called(*arguments: Any) -> None:
            if not self.changes_tables:
                self.alone(call)(*arguments)

        return called
