"""Carries out search_advice(), and lets protect() refuse to search a column whose tokens are as good as its values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs.faulty import fault
from pg_envelope.backend.keys import FieldOptions
from pg_envelope.backend.search.column import plain_type, searchable, written_text
from pg_envelope.backend.search.leakage import Leakage, Value, leakage
from pg_envelope.backend.search.normalize import EXACT, Normalize, newest, normalizer, unfit
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import catalog, generate, inspect
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.backend.tables.owner import AsOwner

SAMPLE = 100_000
# A hash of the row's number draws the halves, so that the same table always gets the same advice.
BY_VALUE = """
    SELECT {value} AS value, pg_catalog.count(*) FILTER (WHERE half = 0) AS known,
        pg_catalog.count(*) FILTER (WHERE half <> 0) AS attacked
    FROM (SELECT value, pg_catalog.hashint8(pg_catalog.row_number() OVER ()) & 1 AS half
        FROM (SELECT v.value FROM ({values}) v WHERE v.value IS NOT NULL LIMIT {sample}) s) h
    GROUP BY h.value"""
COUNTS = f"""
SELECT known, attacked, pg_catalog.count(*) AS values FROM ({BY_VALUE}) g GROUP BY known, attacked"""
FORCE = '{{"{}": {{"search": {{"exact": {{"force": true}}}}}}}} searches it all the same.'


def measure(host: Host, table: Table, column: Column, normalize: str = EXACT) -> Leakage:
    """Measures a column of a plain table, or of a protected one by its view. Runs as the table's owner."""
    owner, values = AsOwner(host, table.owner_oid), _values(host, table, column.name)
    if normalize == EXACT:
        rows = owner.rows(COUNTS.format(value="NULL::pg_catalog.text", values=values, sample=SAMPLE))
        return leakage(value for row in rows for value in [Value(row["known"], row["attacked"])] * row["values"])
    rows = owner.rows(BY_VALUE.format(value=written_text(column, "h.value"), values=values, sample=SAMPLE))
    return leakage(_merged(rows, normalizer(normalize)).values())


def _merged(rows: Iterable[Row], normalized: Normalize) -> dict[str, Value]:
    """Groups the values by their normalised text, because rows with equal texts have equal tokens."""
    found: dict[str, Value] = {}
    for row in rows:
        content = normalized(row["value"])
        before = found.get(content, Value(0, 0))
        found[content] = Value(before.known + row["known"], before.attacked + row["attacked"])
    return found


def _values(host: Host, table: Table, name: str) -> str:
    """Returns a query for the values; in a protected table, for those that open."""
    key = host.row(catalog.KEY, ["oid"], [table.oid])
    if key is None:
        return f"SELECT t.{ident(name)} AS value FROM {table.sql} t"
    layout = catalog.layout_of(host, key, inspect.inspect(host, key["base"]))
    if name not in layout.protected:
        return f"SELECT t.{ident(name)} AS value FROM {layout.base} t"
    opened = generate.opened_as_role(layout, layout.protected[name], "t")
    opens = f"{fault(layout, name, careful=True)} IS NULL"
    return f"SELECT CASE WHEN t.{ident(name)} IS NOT NULL AND {opens} THEN {opened} END AS value FROM {layout.base} t"


def advice(host: Host, table: Table, name: str | None, normalize: str | None) -> list[Row]:
    """Returns the row of envelope.search_advice(). Raises BadInput and Unsupported."""
    column = table.column(name or "")
    if column is None:
        raise errors.BadInput(f"{table.sql} has no such column", hint="Names are case-sensitive here.")
    if not searchable(host, column):
        raise errors.Unsupported(f"column {column.name} cannot be searched", hint="docs/search.md lists the types.")
    if problem := unfit(column, chosen := newest(normalize or "exact")):
        raise errors.BadInput(problem)
    found = measure(host, table, column, chosen)
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
    """Yields the columns that protect() makes searchable only with `force`. Warns about some others."""
    for name, options in wanted.items():
        column = table.column(name)
        unforced = {search.normalize for search in options.search if not search.force}
        if column is None or not unforced or not searchable(host, column):
            continue
        if plain_type(column) == "bool":
            yield f"column {name}: the tokens of two values are as good as the values. {FORCE.format(name)}"
            continue
        yield from filter(None, (_obstacle(host, table, column, normalize) for normalize in sorted(unforced)))


def _obstacle(host: Host, table: Table, column: Column, normalize: str) -> str | None:
    found = measure(host, table, column, normalize)
    if found.verdict == "REFUSE":
        return f"column {column.name}: {found.sentence} {FORCE.format(column.name)}"
    if found.verdict == "WARN":
        host.warning(f"search of column {column.name}: {found.sentence}", hint="docs/search.md says what tokens tell.")
    return None
