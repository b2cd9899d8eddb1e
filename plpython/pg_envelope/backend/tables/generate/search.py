"""Writes the tokens of search columns, in the place where the envelope is made: FORMAT.md section 8."""

from __future__ import annotations

from pg_envelope.backend.search.column import SearchColumn, of_function, written_text
from pg_envelope.backend.sqltext import ident, literal
from pg_envelope.backend.tables.canonical import restored
from pg_envelope.backend.tables.generate.blocks import fail, when
from pg_envelope.backend.tables.generate.expressions import (
    adopted,
    before_as_role,
    clear_value,
    decrypted,
    differ,
    is_draft,
    is_null,
    key_of,
    kind_of,
    row_key,
    same,
    seal,
)
from pg_envelope.backend.tables.generate.layout import Layout, Protected
from pg_envelope.backend.tables.inspect import Column
from pg_envelope.tokens import TOKEN_BYTES


def shown(search: SearchColumn) -> str:
    """Returns the search column of `t` as the view shows it: comparable, and without a text."""
    return f"t.{ident(search.name)}::{search.type}"


def of_value(layout: Layout, search: SearchColumn, value: str) -> str:
    """Returns the token of a value of the protected column, for code that runs as the table's owner."""
    arguments = f"{_text(layout, search, value)}, {key_of(search.search_uuid)}, {_normalize(search)}"
    return f"envelope_internal.{_maker(search)}({arguments})"


def of_value_as_role(layout: Layout, search: SearchColumn, value: str) -> str:
    """Returns the same by the current role's right, where no sub-select is allowed."""
    uuid = f"'{search.search_uuid}'::pg_catalog.uuid"
    return f"envelope_internal.{_maker(search)}_as_role({_text(layout, search, value)}, {uuid}, {_normalize(search)})"


def _maker(search: SearchColumn) -> str:
    return "search_grams" if search.has_grams else "search_token"


def _text(layout: Layout, search: SearchColumn, value: str) -> str:
    return of_function(search.normalizer, written_text(layout.protected[search.source].column, value))


def _normalize(search: SearchColumn) -> str:
    return literal(search.normalizer)


def made(layout: Layout, search: SearchColumn) -> str:
    """Returns the token of NEW, for the view's trigger.

    Where the guard makes the envelopes, it also makes the tokens.
    """
    return "NULL" if layout.as_caller else of_value(layout, search, _written(layout, layout.protected[search.source]))


def _written(layout: Layout, protected: Protected) -> str:
    """Returns the value that NEW has for a protected column. An application may have encrypted it."""
    if layout.adopts:
        return f"({restored(protected.column, adopted(layout, protected, seal(protected)))})"
    return f"NEW.{ident(protected.column.name)}"


def of_clients(layout: Layout) -> list[SearchColumn]:
    """Returns the search columns whose tokens a client can make, too."""
    return [search for search in layout.searches.values() if search.is_filled and not search.has_grams]


def is_long(search: SearchColumn) -> str:
    """Returns the condition that NEW's token is not one as the table stores it: a client sends its key id with it."""
    length = f"envelope_internal.token_length(NEW.{ident(search.name)})"
    return f"{length} OPERATOR(pg_catalog.<>) {TOKEN_BYTES}"


def received(layout: Layout, search: SearchColumn) -> str:
    """Takes the key id off a client's token. A token of a key that was replaced would never be found."""
    token = f"NEW.{ident(search.name)}"
    refused = fail(
        f'the token for column "{search.name}" is under a key that is not active',
        "55000",
        layout,
        column=search.name,
        hint="Read the key catalog again, or write through the view.",
    )
    given = f"{token} := envelope_internal.given_token({token}, '{search.search_uuid}'::pg_catalog.uuid);"
    return when(is_long(search), given, when(is_null(token), refused))


def guarded(layout: Layout, search: SearchColumn) -> str:
    """Returns, for the guard, the token of a value that it seals, or of an envelope that came without its token.

    A dump and a publisher send both. In a roll-out the value may be in its form of before.
    """
    protected = layout.protected[search.source]
    value, token = f"NEW.{ident(search.source)}", f"NEW.{ident(search.name)}"
    sealed = f"CASE WHEN {_opens(layout, protected)} THEN {of_value(layout, search, _opened(layout, protected))} END"
    missing = f"{is_null(token)} OR TG_OP OPERATOR(pg_catalog.=) 'UPDATE' AND {same([search.name])}"
    drafted = of_value(layout, search, _of_draft(protected.column, value))
    stored = when(missing, f"{token} := {sealed};")
    given = when(is_draft(value), f"{token} := {drafted};", otherwise=[stored])
    made_anew = when(is_null(value), f"{token} := NULL;", otherwise=[given])
    looked_at = [search.source]
    if protected.in_rollout:
        before = clear_value(protected, "NEW")
        of_before = of_value(layout, search, f"({before_as_role(layout, protected, 'NEW')})")
        made_anew = when(f"NOT ({is_null(before)})", when(missing, f"{token} := {of_before};"), otherwise=[made_anew])
        looked_at.append(protected.plain or "")
    return when(f"TG_OP OPERATOR(pg_catalog.=) 'INSERT' OR {differ(looked_at)}", made_anew)


def _of_draft(column: Column, draft: str) -> str:
    return restored(column, f"envelope_internal.clear_{kind_of(column)}({draft})")


def _opens(layout: Layout, protected: Protected) -> str:
    key = row_key(layout, protected, "NEW")
    return f"envelope_internal.opens(NEW.{ident(protected.column.name)}, {seal(protected)}, {key})"


def _opened(layout: Layout, protected: Protected) -> str:
    return decrypted(layout, protected, "NEW")
