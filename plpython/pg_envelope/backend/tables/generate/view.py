"""Writes the decrypting view, and the relation that hands it the table's capabilities."""

from __future__ import annotations

from collections.abc import Iterable

from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables.generate.expressions import decrypted, decrypted_carefully, either
from pg_envelope.backend.tables.generate.layout import Layout, Protected
from pg_envelope.backend.tables.generate.search import shown
from pg_envelope.backend.tables.inspect import Column


def selected(layout: Layout) -> str:
    """Returns the query of the view."""
    values = [_value(layout, column.name) for column in layout.columns]
    items = zip(values, layout.columns, strict=True)
    columns = ",\n    ".join(f"{value} AS {ident(column.name)}" for value, column in items)
    return f"SELECT\n    {columns}\nFROM {layout.base} t"


def _value(layout: Layout, name: str) -> str:
    if name in layout.searches:
        return shown(layout.searches[name])
    return _read(layout, layout.protected[name]) if name in layout.protected else f"t.{ident(name)}"


def _read(layout: Layout, protected: Protected) -> str:
    opened = decrypted_carefully(layout, protected) if protected.careful else decrypted(layout, protected)
    return either(layout, protected, opened)


def view(layout: Layout) -> str:
    return f"{_with_options(layout)} AS {selected(layout)}"


def emptied(layout: Layout, columns: Iterable[Column]) -> str:
    """Returns the view with the columns that it has now and nothing behind them, so that these can change."""
    return f"{_with_options(layout)} AS SELECT {commas(map(_nothing, columns))}"


def _with_options(layout: Layout) -> str:
    # The options are given explicitly, because CREATE OR REPLACE VIEW would otherwise drop them without a word.
    options = commas([f"security_invoker = {'true' if layout.by_role else 'false'}", *layout.view_options])
    return f"CREATE OR REPLACE VIEW {layout.view} WITH ({options})"


def stub(view: str, columns: Iterable[Column]) -> str:
    """Returns a view with these columns and nothing behind them.

    PostgreSQL reads a view's whole query again for each column default that is set or dropped. With hundreds of
    decrypting expressions that takes minutes. With these columns it takes seconds.
    """
    return f"CREATE OR REPLACE VIEW {view} AS SELECT {commas(map(_nothing, columns))}"


def _nothing(column: Column) -> str:
    collation = f" COLLATE {column.collation}" if column.collation else ""
    return f"NULL::{column.type}{collation} AS {ident(column.name)}"


def rights(layout: Layout) -> dict[str, str]:
    """Returns statements by the relation that each makes: one row, a column for each field.

    The relations are materialized views, because LOCK TABLE on the decrypting view passes over them, and a dump does
    not hold their rows. A restored database fills them with capabilities of its own.
    """
    return {name: _rights(name, page) for name, page in layout.rights.items()}


def _rights(name: str, page: list[Protected]) -> str:
    columns = commas(
        f"(SELECT c.capability FROM envelope_private.capability c"
        f" WHERE c.field_uuid OPERATOR(pg_catalog.=) '{protected.field_uuid}'::pg_catalog.uuid)"
        f" AS {ident(protected.field_uuid)}"
        for protected in page
    )
    return f"CREATE MATERIALIZED VIEW {name} AS SELECT {columns} WITH NO DATA"
