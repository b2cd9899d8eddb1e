"""Looks at a sample of a column's values, before anything is changed. It shows no value to anybody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.generate.expressions import with_parts
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.foreign.detection import Opened, kinds, trial, trial_of
from pg_envelope.foreign.keys import LegacyKey
from pg_envelope.foreign.reader import Value
from pg_envelope.typed import Any

# How many rows the server believes a table to have.
ROWS = "SELECT greatest(reltuples, 0)::bigint AS rows FROM pg_catalog.pg_class WHERE oid = $1"
MOST = 100_000
# These types can hold what other software encrypted.
TYPES = ("text", "varchar", "bytea", "jsonb", "json")
NO_TEXTS = "are no texts in UTF-8: they need charset, or type => 'bytea'"
UNAUTHENTICATED = "does not notice altered values: see accept_unauthenticated"


def column_of(table: Table, name: str | None) -> Column:
    """Raises BadInput, and Unsupported for a type that holds no ciphertext."""
    found = table.column(name or "")
    if found is None:
        raise errors.BadInput(f"{table.sql} has no such column", hint="Names are case-sensitive here.")
    if found.base_type not in TYPES or found.generated or found.identity:
        raise errors.Unsupported(
            f"column {found.name} cannot hold values that other software encrypted",
            detail=f"Its type is {found.type}.",
            hint=f"Types: {', '.join(TYPES)}; no generated columns.",
        )
    return found


def sample(host: Host, table: Table, column: Column, wanted: int, beside: Sequence[str] = ()) -> list[Value]:
    """Returns values from all over the table, and at most `wanted`, which are not NULL. `beside` are the columns that
    hold parts of them.
    """
    if not 0 < wanted <= MOST:
        raise errors.BadInput(f"sample must be a number from 1 to {MOST}")
    row = host.row(ROWS, ["oid"], [table.oid])
    rows = int(row["rows"]) if row else 0
    spread = f" TABLESAMPLE SYSTEM ({max(100 * 3 * wanted / rows, 0.01):.2f})" if rows > 10 * wanted else ""
    value = _value(column, columns_of(table, column, beside))
    found = _values(host, table, column, value, wanted, spread)
    return found or _values(host, table, column, value, wanted, "")


def columns_of(table: Table, column: Column, beside: Sequence[str]) -> list[Column]:
    """Returns the columns that hold parts of values. Raises BadInput."""
    found = [table.column(name) for name in beside]
    for name, other in zip(beside, found, strict=True):
        if other is None or other.generated or name == column.name:
            raise errors.BadInput(
                f"column {name} cannot hold parts of the values of column {column.name}",
                hint="The specification names it. A * in it stands for the name of the column that has the value. "
                "It must be another column of the same table, and not a generated one.",
            )
    return [other for other in found if other]


def _value(column: Column, beside: list[Column]) -> str:
    if beside:
        return with_parts(column, beside, "t")
    return f"t.{ident(column.name)}" + ("" if column.is_bytes else "::pg_catalog.text")


def _values(host: Host, table: Table, column: Column, value: str, wanted: int, spread: str) -> list[Value]:
    query = (
        f"SELECT {value} AS value FROM ONLY {table.sql} t{spread}"
        f" WHERE t.{ident(column.name)} IS NOT NULL LIMIT {wanted}"
    )
    return [row["value"] for row in AsOwner(host, table.owner_oid).rows(query)]


def report(values: list[Value], key: LegacyKey | None, rows: int) -> Iterator[Row]:
    """Yields what the values look like. With a key it yields the formats that open them first."""
    opened = trial(values, key) if key else []
    for found in opened:
        yield _row(
            found.name, found.tried and found.opened / found.tried, found.opened / found.tried, _about(found, rows)
        )
    for kind, count in kinds(values).most_common():
        yield _row(kind, count / len(values), None, None)


def report_of(values: list[Value], key: LegacyKey, rows: int, form: str | Mapping[str, Any]) -> Iterator[Row]:
    """Yields how many values one format opens. Raises BadLayout for a specification or key that does not fit."""
    found = trial_of(form, values, key)
    if found:
        name = form if isinstance(form, str) else "specification"
        fraction = found.opened / found.tried
        yield _row(name, fraction, fraction, _about(found, rows))


def _row(form: str, fraction: float, opens: float | None, detail: str | None) -> Row:
    return {"format": form, "fraction": round(fraction, 4), "opens": opens and round(opens, 4), "detail": detail}


def _about(found: Opened, rows: int) -> str | None:
    told = [] if found.authenticates else [UNAUTHENTICATED]
    if found.texts < found.opened:
        told.append(f"{100 * (1 - found.texts / found.opened):.0f} % of those that open {NO_TEXTS}")
    if found.is_slow:
        hours = found.seconds_a_value * rows / 3600
        told.append(
            f"each value has a key of its own: {found.seconds_a_value * 1000:.0f} ms a value, {hours:.1f} hours"
        )
    return "; ".join(told) or None
