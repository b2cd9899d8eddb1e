"""Expressions over a row of the table: its canonical texts, row key, rights, and values in the clear and encrypted.

They run under the caller's search_path, too, so that every function, type and operator is qualified.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables.canonical import canonical, restored
from pg_envelope.backend.tables.generate.layout import Layout, Protected
from pg_envelope.backend.tables.inspect import Column

# Equality of bytes: it exists for every type, and tells 1.0 from 1.00.
SAME = "OPERATOR(pg_catalog.*=)"
JOINED = " OPERATOR(pg_catalog.||) "
TEXT = "pg_catalog.text"


def bound_columns(layout: Layout, protected: Protected) -> list[str]:
    """What an envelope's row key is made of, in its order: FORMAT.md section 1.1."""
    if protected.options.bind != "row":
        return [layout.scope_column] if layout.scope_column else []
    scope = [layout.scope_column] if layout.scope_column and layout.scope_column not in layout.row_key else []
    return [*scope, *layout.row_key]


def all_bound(layout: Layout) -> list[str]:
    """Every column that some envelope of a row is bound to, or that names the key which encrypts it."""
    names = [name for protected in layout.protected.values() for name in bound_columns(layout, protected)]
    return list(dict.fromkeys([*names, *filter(None, [layout.scope_column])]))


def row_key(layout: Layout, protected: Protected, source: str) -> str:
    """The row key of a row of `source`."""
    return joined_texts(layout, bound_columns(layout, protected), source)


def joined_texts(layout: Layout, names: Iterable[str], source: str) -> str:
    """Columns as one text: one alone as it is, more of them each after its length."""
    texts = [canonical(layout.column(name), source) for name in names]
    if len(texts) < 2:
        return texts[0] if texts else "''"
    return JOINED.join(f"pg_catalog.length({text})::{TEXT}{JOINED}':'{JOINED}{text}" for text in texts)


def scope(layout: Layout, source: str) -> str:
    """A last argument: the tenant or subject whose key encrypts."""
    return f", {canonical(layout.column(layout.scope_column), source)}" if layout.scope_column else ""


def _field(protected: Protected) -> str:
    return f"'{protected.field_uuid}'::pg_catalog.uuid"


def seal(protected: Protected) -> str:
    """The right to encrypt, for code that runs as the table's owner."""
    where = f"c.field_uuid OPERATOR(pg_catalog.=) {_field(protected)}"
    return f"(SELECT c.seal FROM envelope_private.capability c WHERE {where})"


def capability(layout: Layout, protected: Protected) -> str:
    """The right to decrypt: as the path of the view hands it over, or under row-level security the column's name."""
    if layout.by_role:
        return _field(protected)
    return f"(SELECT r.{ident(protected.field_uuid)} FROM {layout.right(protected)} r)"


def _kind(protected: Protected) -> str:
    return "bytea" if protected.column.is_bytes else "text"


def decrypted(layout: Layout, protected: Protected, source: str = "t") -> str:
    """The expression that reads a protected column of `source` with the column's own type and collation."""
    column = protected.column
    function = f"envelope_internal.decrypt_{_kind(protected)}{'_as_role' if layout.by_role else ''}"
    right = capability(layout, protected)
    call = f"{function}({source}.{ident(column.name)}, {right}, {row_key(layout, protected, source)})"
    return restored(column, call)


def content(protected: Protected, source: str) -> str:
    """What is encrypted: the bytes of a bytea, the canonical text of everything else."""
    column = protected.column
    return f"{source}.{ident(column.name)}" if column.is_bytes else canonical(column, source)


def encrypted(layout: Layout, protected: Protected, source: str = "NEW") -> str:
    """The expression that makes the envelope for a protected column of `source`, for code that runs as the owner."""
    bound = f"{row_key(layout, protected, source)}{scope(layout, source)}"
    return f"envelope_internal.encrypt_{_kind(protected)}({content(protected, source)}, {seal(protected)}, {bound})"


def encrypted_as_role(layout: Layout, protected: Protected, source: str) -> str:
    """The same by the current role's right, where no sub-select is allowed."""
    bound = f"{row_key(layout, protected, source)}{scope(layout, source)}"
    function = f"envelope_internal.encrypt_{_kind(protected)}_as_role"
    return f"{function}({content(protected, source)}, {_field(protected)}, {bound})"


def drafted(protected: Protected) -> str:
    """What stands for an envelope of NEW until the base table's guard knows the row key."""
    return f"envelope_internal.draft_{_kind(protected)}({content(protected, 'NEW')})"


def resealed(layout: Layout, name: str) -> str:
    """The expression that brings a protected column of `t` to the newest key; for the table's owner."""
    protected = layout.protected[name]
    bound = f"{row_key(layout, protected, 't')}{scope(layout, 't')}"
    return f"envelope_internal.reseal(t.{ident(name)}, {seal(protected)}, {bound})"


def opened_as_role(layout: Layout, protected: Protected, source: str) -> str:
    """decrypted() by the current role's right, where no sub-select is allowed."""
    return decrypted(replace(layout, by_role=True), protected, source)


def record(values: Iterable[str]) -> str:
    """A row as one value; without the cast PostgreSQL would compare its columns one by one."""
    return f"ROW({commas(values)})::pg_catalog.record"


def same(names: Iterable[str], left: str = "NEW", right: str = "OLD") -> str:
    """Whether columns of two rows hold the same bytes."""
    names = list(names)
    rows = (record(f"{source}.{ident(name)}" for name in names) for source in (left, right))
    return f" {SAME} ".join(rows)


def differ(names: Iterable[str], left: str = "NEW", right: str = "OLD") -> str:
    """Whether some column of two rows holds other bytes."""
    return f"NOT ({same(names, left, right)})"


def loses(column: Column, source: str) -> str:
    """Whether a column of `source` would be another value after its way through the canonical text."""
    value = f"{source}.{ident(column.name)}"
    return f"NOT ({record([restored(column, canonical(column, source))])} {SAME} {record([value])})"


def is_null(value: str) -> str:
    """Also for composite values, of which IS NULL asks each part."""
    return f"{value} IS NOT DISTINCT FROM NULL"
