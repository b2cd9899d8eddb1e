"""Tries what each role reads. The statement runs with that role's rights alone, in a restricted operation: no code that
it meets becomes the superuser again. As a role that such code could harm, nothing is tried.
"""

from __future__ import annotations

from pg_envelope.backend.access.code import harmless_roles
from pg_envelope.backend.access.levels import CLEAR, MASKED, NONE, SEARCH_ONLY
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.server import settings_kept
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.typed import Any

NO_VALUE = "no value"
NOT_TRIED = "not tried"
ERROR = "error {}"
DENIED = "42501"
# The class of a cancelled statement and of a server that stops.
ENDS = "57"
FEW = 5
# Row policies can show a role other rows than the first ones: values are compared with so many.
MANY = 1000


class ColumnProof:
    """The values of a column, to compare with what roles read. No value leaves it."""

    def __init__(self, host: Host, column: Row, searches: list[str]) -> None:
        self._host, self._column, self._searches = host, column, searches
        self._harmless = harmless_roles(host, column["view_oid"], column["base_oid"])
        self._values: list[Any] = []
        self._refused = NOT_TRIED
        if column["owner_oid"] in self._harmless:
            self._values, self._refused = self._tried(column["owner_oid"], MANY if column["by_role"] else FEW)

    def of(self, role: Row) -> str:
        """Returns clear, masked, search only or none, `no value` where the role sees none, an error's SQLSTATE, or
        `not tried`.
        """
        if self._refused or role["role_oid"] not in self._harmless:
            return self._refused or NOT_TRIED
        seen, refused = self._tried(role["role_oid"], FEW)
        if refused == ERROR.format(DENIED):
            return self._search(role["role_oid"])
        return refused or self._compared(seen)

    def _tried(self, role: int, limit: int) -> tuple[list[Any], str]:
        """Returns what a role reads, and the error in its place."""
        try:
            return _values(self._as(role, self._query(limit))), ""
        except Exception as error:
            sqlstate = getattr(error, "sqlstate", None)
            if sqlstate is None or sqlstate.startswith(ENDS):
                raise
            return [], ERROR.format(sqlstate)

    def _compared(self, seen: list[Any]) -> str:
        if self._column["by_role"]:
            some = [value for value in seen if value is not None]
            known = all(value in self._values for value in some)
            return NO_VALUE if not some else CLEAR if known else MASKED
        first = self._values[: len(seen)]
        if all(value is None for value in first):
            return NO_VALUE
        return CLEAR if seen == first else MASKED

    def _search(self, role: int) -> str:
        for name in self._searches:
            try:
                self._as(role, f"SELECT FROM {self._column['view_name']} WHERE {ident(name)} IS NOT NULL LIMIT 1")
            except Exception as error:
                if getattr(error, "sqlstate", None) != DENIED:
                    raise
            else:
                return SEARCH_ONLY
        return NONE

    def _query(self, limit: int) -> str:
        return f"SELECT {ident(self._column['column'])} AS value FROM {self._column['view_name']} LIMIT {limit}"

    def _as(self, role: int, query: str) -> list[Row]:
        with settings_kept():
            # Two scans shall begin at the same row.
            self._host.setting("SET LOCAL synchronize_seqscans = off")
            return AsOwner(self._host, role).rows(query)


def _values(rows: list[Row]) -> list[Any]:
    return [row["value"] for row in rows]
