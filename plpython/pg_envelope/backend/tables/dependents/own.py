"""What a table has of its own that keeps the type of a column from being changed: triggers and publications.

They leave the table while its columns change their types, and come back to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables import grants
from pg_envelope.backend.tables.dependents.dependent import Dependent
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.records import dataclass

TRIGGERS = """
SELECT DISTINCT t.tgname AS name, pg_get_triggerdef(t.oid) AS text, t.tgqual IS NOT NULL AS has_condition,
    t.tgenabled AS state, obj_description(t.oid, 'pg_trigger') AS comment
FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.tgrelid AND a.attnum = ANY (t.tgattr)
WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND a.attname = ANY ($2::name[]) ORDER BY 1"""
PUBLICATIONS = """
SELECT p.pubname AS name, pg_get_expr(r.prqual, r.prrelid) AS condition,
    ARRAY(SELECT quote_ident(a.attname) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = $1 AND a.attnum = ANY (r.prattrs) ORDER BY a.attnum) AS columns
FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
WHERE r.prrelid = $1 AND EXISTS (SELECT FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = $1 AND a.attname = ANY ($2::name[]) AND a.attnum = ANY (r.prattrs)) ORDER BY 1"""
CONDITIONS = """
SELECT DISTINCT format('trigger %I', t.tgname) AS what, 'move it into the function of the trigger' AS way
FROM pg_catalog.pg_trigger t WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND t.tgqual::text LIKE $2
UNION ALL
SELECT format('publication %I', p.pubname), 'publish the table without it'
FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
WHERE r.prrelid = $1 AND r.prqual::text LIKE $2 ORDER BY 1"""
# Only columns of the table itself can be in the condition of a trigger or of a publication.
USED = "%:varattno {} %"
STATES = {"D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}


@dataclass(frozen=True)
class Own(Dependent):
    """`stub` takes it from the table. A text without a condition holds nothing that could run code of the owner."""

    stub: str
    settings: tuple[str, ...]
    has_condition: bool
    needs_create = False

    @property
    def leaves(self) -> str:
        return self.stub

    def back(self, host: Host) -> None:
        if self.has_condition:
            self.as_owner(host, self.text)
        else:
            host.run(self.text)
        for setting in self.settings:
            host.run(setting)


def read(host: Host, table: Table, columns: Collection[str]) -> list[Own]:
    """Returns what must leave the table before these columns can change their types."""
    return [*_triggers(host, table, columns), *_publications(host, table, columns)]


def obstacles(host: Host, table: Table, column: Column) -> Iterator[str]:
    """Yields a line for each condition that would meet an envelope in the column."""
    for row in host.rows(CONDITIONS, ["oid", "text"], [table.oid, USED.format(column.attnum)]):
        yield f"the condition of {row['what']} would meet an envelope in column {column.name}: {row['way']}"


def _triggers(host: Host, table: Table, columns: Collection[str]) -> Iterator[Own]:
    for row in host.rows(TRIGGERS, ["oid", "text[]"], [table.oid, list(columns)]):
        name, state = ident(row["name"]), STATES.get(row["state"])
        settings = [f"ALTER TABLE {table.sql} {state} TRIGGER {name}"] if state else []
        if row["comment"] is not None:
            settings.append(grants.comment_on(f"TRIGGER {name} ON {table.sql}", row["comment"]))
        stub = f"DROP TRIGGER {name} ON {table.sql}"
        yield _own(table, f"trigger {row['name']}", row["text"], stub, settings, row["has_condition"])


def _publications(host: Host, table: Table, columns: Collection[str]) -> Iterator[Own]:
    for row in host.rows(PUBLICATIONS, ["oid", "text[]"], [table.oid, list(columns)]):
        alter = f"ALTER PUBLICATION {ident(row['name'])}"
        condition = f" WHERE ({row['condition']})" if row["condition"] else ""
        text = f"{alter} ADD TABLE {table.sql} ({commas(row['columns'])}){condition}"
        # PostgreSQL lets nothing of a user into the condition of a publication.
        yield _own(
            table, f"publication {row['name']}", text, f"{alter} DROP TABLE {table.sql}", [], has_condition=False
        )


def _own(table: Table, what: str, text: str, stub: str, settings: list[str], has_condition: bool) -> Own:
    return Own(what, table.owner_oid, table.schema, text, stub, tuple(settings), has_condition)
