"""Runs statements that meet code of a table's owner (casts, domains, indexes, triggers) with the owner's rights only.

It is the server's own construction, as in VACUUM and REINDEX: the user changes, and the operation is restricted. In it
no code can SET ROLE back, nor leave anything that would run later as the superuser: no deferred trigger, no cursor WITH
HOLD, no prepared statement, no temporary table. Its SETs, search_path above all, end with it. `leftovers` removes or
refuses the rest.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.server import server, settings_kept
from pg_envelope.backend.tables.leftovers import nothing_left
from pg_envelope.typed import Any

# miscadmin.h: SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION
RESTRICTED = 1 | 2


class AsOwner:
    """Runs statements as a role, given by its OID."""

    def __init__(self, host: Host, role: int) -> None:
        self._host = host
        self._role = role

    def run(self, statement: str) -> int:
        """Runs a statement. Returns the number of rows that it touched."""
        with self._owner():
            return self._host.run(statement)

    def rows(self, query: str, types: Sequence[str] = (), values: Sequence[Any] = ()) -> list[Row]:
        """Returns rows that the owner may read. The owner's code may have made them up."""
        with self._owner():
            return self._host.rows(query, types, values) if types else self._host.once(query)

    def count(self, query: str, types: Sequence[str] = (), values: Sequence[Any] = ()) -> int:
        """Returns the column `found` of the first row as a number, or 0 without a row."""
        found = self.rows(query, types, values)
        return int(found[0]["found"]) if found else 0

    @contextmanager
    def _owner(self) -> Iterator[None]:
        with nothing_left(self._host), _restricted(self._role):
            yield


@contextmanager
def _restricted(role: int) -> Iterator[None]:
    """Neither function can raise. An error of the statement comes as an exception, after its subtransaction's end."""
    user, context = ctypes.c_uint32(), ctypes.c_int()
    server().GetUserIdAndSecContext(ctypes.byref(user), ctypes.byref(context))
    server().SetUserIdAndSecContext(ctypes.c_uint32(role), context.value | RESTRICTED)
    try:
        with settings_kept():
            yield
    finally:
        server().SetUserIdAndSecContext(user, context)
