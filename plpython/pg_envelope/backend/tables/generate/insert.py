"""Writes INSERT through the view."""

from __future__ import annotations

from collections.abc import Callable

from pg_envelope.backend.sqltext import commas, ident, literal
from pg_envelope.backend.tables.generate import refused
from pg_envelope.backend.tables.generate.blocks import NEXT, block, fail, when
from pg_envelope.backend.tables.generate.expressions import drafted, encrypted, is_null, seal, seal_at_hand
from pg_envelope.backend.tables.generate.layout import Layout, Protected
from pg_envelope.backend.tables.generate.search import made
from pg_envelope.backend.tables.inspect import Column

SOFTLY = f"{NEXT}ON CONFLICT DO NOTHING"


def insert(layout: Layout) -> str:
    """Returns the body of the trigger function."""
    refusals = [*_identities(layout), *refused.generated(layout, "insert"), *refused.not_nulls(layout, "insert")]
    refusals += refused.losses(layout, "insert")
    checks = refused.checks(layout)
    before, after = ([], checks) if layout.as_caller else (checks, [])
    withheld = when("NOT FOUND", "RETURN NULL;")
    loud, soft = (_as_caller(layout), _as_caller(layout, SOFTLY)) if layout.as_caller else _as_owner(layout)
    stored = when("envelope_internal.inserts_softly(TG_RELID)", soft, otherwise=[loud])
    seen = [_seen(layout)] if layout.by_role and layout.plain_columns and layout.row_key else []
    declare = ["stored pg_catalog.record;"] if seen else []
    return block([*refusals, *before, stored, withheld, *seen, *after, "RETURN NEW;"], declare)


def _identities(layout: Layout) -> list[str]:
    return [_identity(layout, column) for column in layout.columns if column.identity]


def _identity(layout: Layout, column: Column) -> str:
    name = f"NEW.{ident(column.name)}"
    drawn = f"{name} := pg_catalog.nextval({literal(column.sequence or '')}::pg_catalog.regclass);"
    if column.identity == "d":
        return when(f"{name} IS NULL", drawn)
    given = fail(
        f'cannot insert a non-DEFAULT value into column "{column.name}"',
        "428C9",
        layout,
        detail=f'Column "{column.name}" is an identity column defined as GENERATED ALWAYS.',
    )
    return f"{when(f'{name} IS NOT NULL', given)}{NEXT}{drawn}"


def changed_below(layout: Layout) -> list[str]:
    """Returns the columns whose values may differ from NEW's: the base table's triggers and expressions change them.

    Search columns are among them, because tokens are made of other columns.
    """
    plain = [ident(column.name) for column in layout.plain_columns if layout.as_caller or column.generated]
    return [*plain, *(ident(search.name) for search in layout.shown_searches)]


def returning(names: list[str], into: str) -> str:
    if not names:
        return ""
    return f"{NEXT}RETURNING {commas(f't.{name}' for name in names)} INTO {into}"


def _into_new(layout: Layout) -> str:
    names = changed_below(layout)
    return returning(names, commas(f"NEW.{name}" for name in names))


def _statement(layout: Layout, returned: str, at_hand: str | None = None) -> str:
    """`at_hand`: the table that the seals come from, if not from sub-selects. Without its row nothing is stored.

    `returned` is what comes at the end, ON CONFLICT included.
    """
    written = layout.written_columns
    names = commas(ident(column.name) for column in written)
    seal_of = seal_at_hand if at_hand else seal
    values = f",{NEXT}    ".join(new_value(layout, column, seal_of) for column in written)
    row = f"SELECT{NEXT}    {values}{NEXT}FROM {at_hand} s" if at_hand else f"VALUES ({NEXT}    {values})"
    return f"INSERT INTO {layout.base} AS t ({names}){NEXT}OVERRIDING SYSTEM VALUE {row}{returned};"


def _as_owner(layout: Layout) -> tuple[str, str]:
    """Returns the INSERT, and the soft one. Nothing withholds the row of the first: if it is not found, the seals are
    not at hand.
    """
    returned = _into_new(layout)
    loud, soft = (_statement(layout, how + returned) for how in ("", SOFTLY))
    if layout.seals is None:
        return loud, soft
    return NEXT.join([_statement(layout, returned, layout.seals), when("NOT FOUND", loud)]), soft


def new_value(layout: Layout, column: Column, seal_of: Callable[[Protected], str] = seal) -> str:
    """Returns what a write stores in a column. In a roll-out that is a value in the clear, for the guard to seal.

    No write stores foreign ciphertext.
    """
    if column.name in layout.sources and layout.adopts:
        return "NULL"
    if column.name in layout.sources:
        return f"NEW.{ident(layout.sources[column.name])}"
    if column.name in layout.searches:
        return made(layout, layout.searches[column.name])
    protected = layout.protected.get(column.name)
    if protected is None:
        return f"NEW.{ident(column.name)}"
    if layout.writes_clear and protected.in_rollout:
        return "NULL"
    return drafted(protected) if layout.as_caller else encrypted(layout, protected, seal_of(protected))


def may_read(layout: Layout) -> str:
    return f"pg_catalog.has_table_privilege({literal(layout.base)}, 'SELECT')"


def _as_caller(layout: Layout, how: str = "") -> str:
    """Returns the INSERT as the caller.

    RETURNING needs the right to read, and under row-level security a readable row.
    """
    quiet = _statement(layout, how)
    drawn = [is_null(f"NEW.{ident(name)}") for name in layout.row_key]
    readable = " OR ".join(drawn) if layout.by_role else may_read(layout)
    if not layout.plain_columns or not readable:
        return quiet
    return when(readable, _statement(layout, how + _into_new(layout)), otherwise=[quiet])


def _seen(layout: Layout) -> str:
    """Reads the stored row back, for callers who may see it."""
    shown = [column.name for column in layout.plain_columns] + [search.name for search in layout.shown_searches]
    names = [*map(ident, shown)]
    key = " AND ".join(f"t.{ident(name)} {equals} NEW.{ident(name)}" for name, equals in layout.row_key.items())
    read = f"SELECT {commas(f't.{name}' for name in names)} INTO stored FROM {layout.base} t WHERE {key};"
    taken = [f"NEW.{name} := stored.{name};" for name in names]
    return when(may_read(layout), read, when("FOUND", *taken))
