"""Carries out search_advice(), and lets protect() refuse tokens and equal envelopes that are as good as the values."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

from pg_envelope import buckets, errors
from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs.faulty import fault
from pg_envelope.backend.search.column import of_function, plain_type, searchable, written_text
from pg_envelope.backend.search.functions import drop_unused, settle
from pg_envelope.backend.search.leakage import Group, Leakage, Value, in_buckets, leakage
from pg_envelope.backend.search.leakage import beside as leakage_beside
from pg_envelope.backend.search.normalize import newest, unfit
from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables import catalog, generate, inspect
from pg_envelope.backend.tables.canonical import canonical
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.normalizers import EXACT, is_in_parts, kind_of, normalizer
from pg_envelope.records import dataclass, replace
from pg_envelope.typed import TypeVar

# What a normaliser leaves of a value: of a range search, its buckets.
Content = TypeVar("Content", bound=Hashable)
SAMPLE = 100_000
# A hash of the row's number draws the halves, so that the same table always gets the same advice.
BY_VALUE = """
    SELECT {value} AS value, pg_catalog.count(*) FILTER (WHERE half = 0) AS known,
        pg_catalog.count(*) FILTER (WHERE half <> 0) AS attacked
    FROM (SELECT value, pg_catalog.hashint8(pg_catalog.row_number() OVER ()) & 1 AS half
        FROM (SELECT v.value FROM ({values}) v WHERE v.value IS NOT NULL LIMIT {sample}) s) h
    GROUP BY h.value"""
# A line for each value of another column, without that value.
BY_OTHER = """
SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(h.value, h.known, h.attacked))::pg_catalog.text AS cells,
    h.is_null
FROM (SELECT {value} AS value, h.other IS NULL AS is_null, pg_catalog.dense_rank() OVER (ORDER BY h.other) AS place,
        pg_catalog.count(*) FILTER (WHERE half = 0) AS known, pg_catalog.count(*) FILTER (WHERE half <> 0) AS attacked
    FROM (SELECT value, other, pg_catalog.hashint8(pg_catalog.row_number() OVER ()) & 1 AS half
        FROM (SELECT v.value, v.other FROM ({values}) v WHERE v.value IS NOT NULL LIMIT {sample}) s) h
    GROUP BY h.value, h.other) h
GROUP BY h.place, h.is_null"""
COUNTS = f"""
SELECT known, attacked, pg_catalog.count(*) AS values FROM ({BY_VALUE}) g GROUP BY known, attacked"""
FORCE = 'With the option "force": true of the search it is made all the same.'
FORCE_SUITE = 'With the option "force": true of the column it is encrypted so all the same.'
# What a deterministic suite takes for equal: values with one canonical text.
SEALED = "sealed"
WHOLE = (EXACT, SEALED)


@dataclass(frozen=True)
class Beside:
    """Another column that the attacker sees, too: its tokens, or its values if it `is_open`."""

    column: Column
    is_open: bool = False


def measure(host: Host, table: Table, column: Column, normalize: str = EXACT, beside: Beside | None = None) -> Leakage:
    """Measures a column of a plain table, or of a protected one by its view. Runs as the table's owner."""
    seen = "envelopes" if normalize == SEALED else "tokens"
    alone = replace(_measure(host, table, column, normalize), in_parts=is_in_parts(normalize), seen=seen)
    if beside is None:
        return alone
    values = _values(host, table, column, normalize, beside.column.name)
    written = "NULL::pg_catalog.text" if normalize in WHOLE else _text(column, normalize)
    query = BY_OTHER.format(value=written, values=values, sample=SAMPLE)
    rows = AsOwner(host, table.owner_oid).rows(query)
    groups = [Group(_cells(row["cells"], normalize), row["is_null"] or beside.is_open) for row in rows]
    return leakage_beside(beside.column.name, alone, groups)


def _text(column: Column, normalize: str) -> str:
    return of_function(normalize, written_text(column, "h.value"))


def _cells(cells: str, normalize: str) -> list[Value]:
    found = [{"value": value, "known": known, "attacked": attacked} for value, known, attacked in json.loads(cells)]
    if normalize in WHOLE:
        return [Value(row["known"], row["attacked"]) for row in found]
    return list(_merged(found, normalizer(normalize)).values())


def _measure(host: Host, table: Table, column: Column, normalize: str) -> Leakage:
    owner, values = AsOwner(host, table.owner_oid), _values(host, table, column, normalize)
    if normalize in WHOLE:
        rows = owner.rows(COUNTS.format(value="NULL::pg_catalog.text", values=values, sample=SAMPLE))
        return leakage(value for row in rows for value in [Value(row["known"], row["attacked"])] * row["values"])
    rows = owner.rows(BY_VALUE.format(value=_text(column, normalize), values=values, sample=SAMPLE))
    if kind_of(normalize) == "range":
        paths = _merged(rows, lambda value: tuple(reversed(buckets.scale(normalize).of_value(value))))
        return in_buckets(leakage(paths.values()), paths)
    return leakage(_merged(rows, normalizer(normalize)).values())


def _merged(rows: Iterable[Row], normalized: Callable[[str], Content]) -> dict[Content, Value]:
    """Groups the values by their normalised text, because rows with equal texts have equal tokens."""
    found: dict[Content, Value] = {}
    for row in rows:
        content = normalized(row["value"])
        before = found.get(content, Value(0, 0))
        found[content] = Value(before.known + row["known"], before.attacked + row["attacked"])
    return found


def _values(host: Host, table: Table, column: Column, normalize: str, other: str | None = None) -> str:
    """Returns a query for what counts as a value of the column, and for the values of another one."""
    names = {"value": column.name} | ({} if other is None else {"other": other})
    query = _opening(host, table, names)
    if normalize != SEALED:
        return query
    rest = "" if other is None else ", h.other"
    return f"SELECT {_sealed_text(column)} AS value{rest} FROM ({query}) h"


def _sealed_text(column: Column) -> str:
    return "pg_catalog.encode(h.value, 'hex')" if column.is_bytes else canonical(replace(column, name="value"), "h")


def _opening(host: Host, table: Table, names: Mapping[str, str]) -> str:
    """Returns a query for the values of columns, by the names that it gives them; in a protected table, for those that
    open.
    """
    layout = layout_if_protected(host, table)
    if layout is None:
        return f"SELECT {commas(f't.{ident(name)} AS {alias}' for alias, name in names.items())} FROM {table.sql} t"
    opened = commas(f"{_opened(layout, name)} AS {alias}" for alias, name in names.items())
    return f"SELECT {opened} FROM {layout.base} t"


def layout_if_protected(host: Host, table: Table) -> Layout | None:
    key = host.row(catalog.KEY, ["oid"], [table.oid])
    return None if key is None else catalog.layout_of(host, key, inspect.inspect(host, key["base"]))


def _opened(layout: Layout, name: str) -> str:
    if name not in layout.protected:
        return f"t.{ident(name)}"
    opened = generate.opened_as_role(layout, layout.protected[name], "t")
    opens = f"{fault(layout, name, careful=True)} IS NULL"
    return f"CASE WHEN t.{ident(name)} IS NOT NULL AND {opens} THEN {opened} END"


def advice(host: Host, table: Table, name: str | None, normalize: str | None, beside: str | None) -> list[Row]:
    """Returns the row of envelope.search_advice(). Raises BadInput and Unsupported."""
    column = _column(host, table, name)
    other = None if beside is None else _beside(host, table, _column(host, table, beside))
    if other is not None and other.column == column:
        raise errors.BadInput("beside must be another column than the one that is measured")
    if problem := unfit(column, chosen := settle(host, newest(normalize or "exact"))):
        raise errors.BadInput(problem)
    found = measure(host, table, column, chosen, other)
    drop_unused(host)
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


def _beside(host: Host, table: Table, column: Column) -> Beside:
    layout = layout_if_protected(host, table)
    return Beside(column, is_open=layout is not None and column.name not in layout.protected)


def _column(host: Host, table: Table, name: str | None) -> Column:
    """Raises BadInput and Unsupported."""
    column = table.column(name or "")
    if column is None:
        raise errors.BadInput(f"{table.sql} has no such column", hint="Names are case-sensitive here.")
    if not searchable(host, column):
        raise errors.Unsupported(f"column {column.name} cannot be searched", hint="docs/search.md lists the types.")
    return column


def obstacles(host: Host, table: Table, wanted: Mapping[str, FieldOptions]) -> Iterator[str]:
    """Yields the columns that protect() makes searchable, or seals by a deterministic suite, only with `force`. Warns
    about some others.
    """
    for name, options in wanted.items():
        column = table.column(name)
        unforced = {search.normalize for search in options.search if not search.force}
        if column is None:
            continue
        if not searchable(host, column):
            unforced = set()
        if options.is_deterministic and not options.force:
            unforced.add(SEALED)
        yield from _of_column(host, table, wanted, column, unforced)


def _of_column(
    host: Host, table: Table, wanted: Mapping[str, FieldOptions], column: Column, unforced: set[str]
) -> Iterator[str]:
    if unforced and plain_type(column) == "bool":
        seen, way = ("envelopes", FORCE_SUITE) if SEALED in unforced else ("tokens", FORCE)
        yield f"column {column.name}: the {seen} of two values are as good as the values. {way}"
        return
    others = _others(host, table, wanted, column.name) if unforced else []
    for normalize in sorted(unforced):
        yield from filter(None, [_obstacle(host, table, column, normalize, others)])


def _others(host: Host, table: Table, wanted: Mapping[str, FieldOptions], name: str) -> list[Beside]:
    """Returns the other columns that have tokens or equal envelopes, or will have."""
    layout = layout_if_protected(host, table)
    there = {search.source for search in layout.searches.values()} if layout else set()
    sealed = {other for other, one in layout.protected.items() if one.options.is_deterministic} if layout else set()
    asked = {other for other, options in wanted.items() if options.search or options.is_deterministic}
    names = {*there, *sealed, *asked} - {name}
    columns = (table.column(other) for other in sorted(names))
    return [Beside(column) for column in columns if column is not None and searchable(host, column)]


def _obstacle(host: Host, table: Table, column: Column, normalize: str, others: Iterable[Beside]) -> str | None:
    found = measure(host, table, column, normalize)
    if found.verdict in ("FINE", "WARN"):
        together = [measure(host, table, column, normalize, other) for other in others]
        found = max([found, *together], key=lambda one: one.matched)
    if found.verdict == "REFUSE":
        return f"column {column.name}: {found.sentence} {FORCE_SUITE if normalize == SEALED else FORCE}"
    if found.verdict == "WARN" and normalize == SEALED:
        host.warning(
            f"equal envelopes of column {column.name}: {found.sentence}",
            hint="docs/deterministic.md says what they tell.",
        )
    elif found.verdict == "WARN":
        host.warning(f"search of column {column.name}: {found.sentence}", hint="docs/search.md says what tokens tell.")
    return None
