"""Extended statistics on protected columns: they would say nothing of envelopes, and hold values in the clear.

protect() drops them, and unprotect() puts them back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import ident, qualified
from pg_envelope.backend.tables import grants
from pg_envelope.backend.tables.inspect import Table
from pg_envelope.records import dataclass, replace

FOUND = """
SELECT e.stxname AS name, n.nspname AS schema, pg_get_userbyid(e.stxowner) AS owner,
    obj_description(e.oid, 'pg_statistic_ext') AS comment,
    ARRAY(SELECT DISTINCT a.attname FROM pg_catalog.pg_depend p
        JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = p.refobjsubid
        WHERE p.classid = 'pg_statistic_ext'::regclass AND p.objid = e.oid AND p.refobjid = $1) AS columns,
    left(d.text, length(d.text) - length(format(' FROM %s', e.stxrelid::regclass))) AS made
FROM pg_catalog.pg_statistic_ext e JOIN pg_catalog.pg_namespace n ON n.oid = e.stxnamespace
CROSS JOIN LATERAL (SELECT pg_get_statisticsobjdef(e.oid) AS text) d
WHERE e.stxrelid = $1 AND EXISTS (
    SELECT FROM pg_catalog.pg_depend p JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = p.refobjsubid
    WHERE p.classid = 'pg_statistic_ext'::regclass AND p.objid = e.oid AND p.refobjid = $1
        AND a.attname = ANY ($2::name[])) ORDER BY 2, 1"""


@dataclass(frozen=True)
class Statistics:
    """`made` is the statement that made them, up to the table's name."""

    name: str
    schema: str
    made: str
    owner: str
    comment: str | None
    columns: tuple[str, ...] = ()

    def names(self) -> set[str]:
        return set(self.columns)

    def renamed(self, names: Mapping[str, str], _rewritten: Callable[[str], str]) -> Statistics:
        """Returns the same with new names of its columns. The statement that made them stays as it is."""
        return replace(self, columns=tuple(names.get(name, name) for name in self.columns))

    def restore(self, table: str) -> str:
        return f"{self.made} FROM {table}"

    def settings(self, _schema: str, _table: str) -> list[str]:
        """Returns what their restorer does with his own rights, because they need not belong to the table's owner."""
        name = f"STATISTICS {qualified(self.schema, self.name)}"
        comment = [] if self.comment is None else [grants.comment_on(name, self.comment)]
        return [f"ALTER {name} OWNER TO {ident(self.owner)}", *comment]

    def drop(self, _schema: str, _table: str) -> str:
        return f"DROP STATISTICS {qualified(self.schema, self.name)}"


def find(host: Host, table: Table, columns: Collection[str]) -> list[Statistics]:
    """Returns the statistics that use these columns."""
    return [
        Statistics(**{**row, "columns": tuple(row["columns"])})
        for row in host.rows(FOUND, ["oid", "text[]"], [table.oid, list(columns)])
    ]
