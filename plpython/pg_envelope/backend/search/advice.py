"""search_advice(), and what protect() makes of it: a column whose tokens are as good as its values is not searched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs.faulty import fault
from pg_envelope.backend.keys import FieldOptions
from pg_envelope.backend.search.column import plain_type, searchable
from pg_envelope.backend.search.leakage import Leakage, Value, leakage
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import catalog, generate, inspect
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.backend.tables.owner import AsOwner

SAMPLE = 100_000
# The halves are drawn by a hash of the row's number, so that the same table is always told the same.
COUNTS = """
SELECT known, attacked, pg_catalog.count(*) AS values FROM (
    SELECT pg_catalog.count(*) FILTER (WHERE half = 0) AS known,
        pg_catalog.count(*) FILTER (WHERE half <> 0) AS attacked
    FROM (SELECT value, pg_catalog.hashint8(pg_catalog.row_number() OVER ()) & 1 AS half
        FROM (SELECT v.value FROM ({values}) v WHERE v.value IS NOT NULL LIMIT {sample}) s) h
    GROUP BY value) g
GROUP BY known, attacked"""
FORCE = '{{"{}": {{"search": {{"exact": {{"force": true}}}}}}}} searches it all the same.'


def measure(host: Host, table: Table, column: Column) -> Leakage:
    """Of a plain table, or of a protected one by its view. Runs as the table's owner."""
    query = COUNTS.format(values=_values(host, table, column.name), sample=SAMPLE)
    rows = AsOwner(host, table.owner_oid).rows(query)
    return leakage(value for row in rows for value in [Value(row["known"], row["attacked"])] * row["values"])


def _values(host: Host, table: Table, name: str) -> str:
    """A query for them; of a protected table for those that open."""
    key = host.row(catalog.KEY, ["oid"], [table.oid])
    if key is None:
        return f"SELECT t.{ident(name)} AS value FROM {table.sql} t"
    layout = catalog.layout_of(host, key, inspect.inspect(host, key["base"]))
    if name not in layout.protected:
        return f"SELECT t.{ident(name)} AS value FROM {layout.base} t"
    opened = generate.opened_as_role(layout, layout.protected[name], "t")
    opens = f"{fault(layout, name, careful=True)} IS NULL"
    return f"SELECT CASE WHEN t.{ident(name)} IS NOT NULL AND {opens} THEN {opened} END AS value FROM {layout.base} t"


def advice(host: Host, table: Table, name: str | None) -> list[Row]:
    """The row of envelope.search_advice(). Raises BadInput and Unsupported."""
    column = table.column(name or "")
    if column is None:
        raise errors.BadInput(f"{table.sql} has no such column", hint="Names are case-sensitive here.")
    if not searchable(host, column):
        raise errors.Unsupported(f"column {column.name} cannot be searched", hint="docs/search.md lists the types.")
    found = measure(host, table, column)
    return [
        {
            "verdict": found.verdict,
            "advice": found.sentence,
            "sampled": found.rows,
            "different_values": found.values,
            "top_share": round(found.top, 4),
            "read_share": round(found.matched, 4),
            "min_entropy": round(found.entropy, 2),
        }
    ]


def obstacles(host: Host, table: Table, wanted: Mapping[str, FieldOptions]) -> Iterator[str]:
    """Columns that protect() does not make searchable unless it is told to; a warning for some others."""
    for name, options in wanted.items():
        column = table.column(name)
        unforced = [search for search in options.search if not search.force]
        if column is None or not unforced or not searchable(host, column):
            continue
        if plain_type(column) == "bool":
            yield f"column {name}: the tokens of two values are as good as the values. {FORCE.format(name)}"
            continue
        found = measure(host, table, column)
        if found.verdict == "REFUSE":
            yield f"column {name}: {found.sentence} {FORCE.format(name)}"
        elif found.verdict == "WARN":
            host.warning(f"search of column {name}: {found.sentence}", hint="docs/search.md says what tokens tell.")
