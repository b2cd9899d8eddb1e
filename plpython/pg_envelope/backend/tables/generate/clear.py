"""Writes the function that shows the table's own triggers a row in the clear, as far as their role may read it.

A value that was just written is a draft, which its session may open. A stored value is read through the view.
"""

from __future__ import annotations

from pg_envelope.backend.sqltext import commas, ident, literal
from pg_envelope.backend.tables.canonical import restored
from pg_envelope.backend.tables.generate.blocks import block
from pg_envelope.backend.tables.generate.expressions import JOINED, is_draft, kind_of
from pg_envelope.backend.tables.generate.layout import Layout, Protected


def clear(layout: Layout) -> str:
    """Returns the body of a function from a row of the base table to jsonb."""
    # Each value becomes jsonb, because values with collations of their own cannot be arguments of one function.
    values = commas(
        f"{literal(name)}, pg_catalog.to_jsonb({_value(layout, found)})" for name, found in layout.protected.items()
    )
    return block([f"RETURN {_row(layout)}{JOINED}pg_catalog.jsonb_build_object({values});"])


def _row(layout: Layout) -> str:
    """Returns the row as jsonb, without columns that the view does not have."""
    row = "pg_catalog.to_jsonb($1)"
    return row + "".join(f" OPERATOR(pg_catalog.-) {literal(name)}::pg_catalog.text" for name in _hidden(layout))


def _hidden(layout: Layout) -> list[str]:
    return [*layout.plains, *(search.reference for search in layout.searches.values())]


def _value(layout: Layout, protected: Protected) -> str:
    name = protected.column.name
    envelope = f"($1).{ident(name)}"
    fresh = restored(protected.column, f"envelope_internal.clear_{kind_of(protected.column)}({envelope})")
    if layout.adopts:
        # The view opens what is stored, in whichever form.
        return f"CASE WHEN {is_draft(envelope)} THEN {fresh} ELSE {_stored(layout, name)} END"
    if protected.in_rollout:
        plain = f"($1).{ident(protected.plain or '')}"
        return f"CASE WHEN {envelope} IS NULL THEN {plain} ELSE {_stored(layout, name)} END"
    return f"CASE WHEN {envelope} IS NULL OR {is_draft(envelope)} THEN {fresh} ELSE {_stored(layout, name)} END"


def _stored(layout: Layout, name: str) -> str:
    """Returns the expression for a value that is in the table already, if the role that asks may read it."""
    if not layout.row_key:
        return "NULL"
    key = " AND ".join(f"v.{ident(column)} {equals} ($1).{ident(column)}" for column, equals in layout.row_key.items())
    return f"(SELECT v.{ident(name)} FROM {layout.view} v WHERE {key})"
