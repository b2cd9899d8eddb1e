"""Tries what each role reads. The statement runs with that role's rights alone, in a restricted operation: code of
others that it meets cannot become the superuser again.
"""

from __future__ import annotations

from typing import Any

from pg_envelope.backend.access.levels import CLEAR, MASKED, NONE, SEARCH_ONLY
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.server import settings_kept
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.owner import AsOwner

NO_VALUE = "no value"
DENIED = "42501"
FEW = 5
# Row policies can show a role other rows than the first ones: values are compared with so many.
MANY = 1000


class ColumnProof:
    """The values of a column, to compare with what roles read. No value leaves it."""

    def __init__(self, host: Host, column: Row, searches: list[str]) -> None:
        self._host, self._column, self._searches = host, column, searches
        # A column's domain can have a CHECK that is code of its owner, so no superuser reads here.
        self._values = _values(self._as(column["owner_oid"], self._query(MANY if column["by_role"] else FEW)))

    def of(self, role: Row) -> str:
        """Returns clear, masked, search only or none, `no value` where the role sees none, or an error's SQLSTATE."""
        try:
            seen = _values(self._as(role["role_oid"], self._query(FEW)))
        except Exception as error:
            sqlstate = getattr(error, "sqlstate", None)
            if sqlstate is None:
                raise
            return self._search(role["role_oid"]) if sqlstate == DENIED else f"error {sqlstate}"
        return self._compared(seen)

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
