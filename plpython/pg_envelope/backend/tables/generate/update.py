"""Writes UPDATE through the view. It changes the row that its statement read, and never a later one."""

from __future__ import annotations

from collections.abc import Callable

from pg_envelope.backend.sqltext import commas, ident, literal
from pg_envelope.backend.tables.generate import refused
from pg_envelope.backend.tables.generate.blocks import NEXT, block, fail, loop, when
from pg_envelope.backend.tables.generate.expressions import (
    SAME,
    TEXT,
    all_bound,
    differ,
    is_null,
    joined_texts,
    record,
    same,
    shows,
    this_row,
)
from pg_envelope.backend.tables.generate.insert import changed_below, new_value, returning
from pg_envelope.backend.tables.generate.layout import Layout, Protected
from pg_envelope.backend.tables.generate.view import selected
from pg_envelope.backend.tables.inspect import Column

INT8 = "pg_catalog.int8"
_OURS = f"pg_catalog.pg_current_xact_id()::{TEXT}::{INT8}"
_AHEAD = f"((t.xmin::{TEXT}::{INT8} OPERATOR(pg_catalog.-) {_OURS}) OPERATOR(pg_catalog.&) 4294967295)"
# True for a row version that another transaction wrote. Subtransactions have ids of their own, greater than the
# transaction's. So a greater id may belong to this transaction. The row is visible: if the transaction of that id has
# not ended, it is this one. The test is only for rows that changed since the statement began, because an older id could
# be taken for one of the future.
THEIRS = (
    f"CASE WHEN {_AHEAD} OPERATOR(pg_catalog.>) 2147483647 THEN true"
    f" ELSE pg_catalog.pg_xact_status(({_OURS} OPERATOR(pg_catalog.+) {_AHEAD})::{TEXT}::pg_catalog.xid8)"
    " OPERATOR(pg_catalog.<>) 'in progress' END"
)
DECLARED = (
    f"row_key {TEXT};",
    "seen pg_catalog.xid;",
    "version pg_catalog.tid;",
    "current pg_catalog.record;",
    "stored pg_catalog.record;",
    "unreadable pg_catalog.uuid[];",
)
# Variables have their block's label in front, because a column may have any name.
V = "pg_envelope"

Assign = Callable[[Column], str]


def update(layout: Layout) -> str:
    """Returns the body of the trigger function."""
    checks = refused.checks_of_update(layout, f"{V}.version")
    before, after = ([], checks) if layout.as_caller else (checks, [])
    refusals = [*refused.generated(layout, "update"), *refused.not_nulls(layout, "update")]
    refusals += refused.losses(layout, "update")
    statements = [
        # This is apart from the next line, which must run without a snapshot of its own. A text can need one.
        *_row_key(layout),
        f"{V}.seen := envelope_internal.reading(TG_RELID, {V}.row_key);",
        when(f"{V}.seen IS NULL", "RETURN NULL;"),
        _unreadable(layout),
        *refusals,
        *before,
        loop(*_tries(layout)),
        *(f"NEW.{name} := {V}.stored.{name};" for name in changed_below(layout)),
        *after,
        "RETURN NEW;",
    ]
    return block(statements, DECLARED, label=V)


def _row_key(layout: Layout) -> list[str]:
    """Stores what tells the row from others: its key, or its ctid where another row may have that key, too."""
    if layout.key_is_deferrable:
        gone = when(f"{V}.version IS NULL", "RETURN NULL;")
        return [_version_of(layout), gone, f"{V}.row_key := {V}.version::{TEXT};"]
    return [f"{V}.row_key := {joined_texts(layout, layout.row_key, 'OLD')};"]


def _unreadable(layout: Layout) -> str:
    """Finds the values of OLD that are NULL because their envelopes do not open.

    To write NULL there is a change, too.
    """
    missing = " OR ".join(is_null(f"OLD.{ident(name)}") for name in layout.protected)
    return when(missing, f"{V}.unreadable := envelope_internal.unreadable(TG_RELID);")


def _tries(layout: Layout) -> list[str]:
    """Tries twice. The third try is for a row that this transaction changed below the statement."""
    return [
        _split(layout, _fresh(layout)),
        "EXIT WHEN FOUND;",
        when(f"{V}.version IS NOT NULL", *_missed(layout)),
        _version_of(layout),
        when(f"{V}.version IS NULL", "RETURN NULL;"),
    ]


def _fresh(layout: Layout) -> str:
    """Returns the condition for the row that the statement read, among the rows with this key."""
    version = f"t.ctid OPERATOR(pg_catalog.=) {V}.version"
    if layout.key_is_deferrable:
        return version
    return f"(pg_catalog.age(t.xmin) OPERATOR(pg_catalog.>) pg_catalog.age({V}.seen) OR {version})"


def _version_of(layout: Layout) -> str:
    return f"{V}.version := {layout.function('version')}({commas(f'OLD.{ident(name)}' for name in _found_by(layout))});"


def _found_by(layout: Layout) -> list[str]:
    """Returns the key's columns. Where two rows may have that key, the other columns in the clear tell them apart."""
    others = [column.name for column in layout.plain_columns if column.name not in layout.row_key]
    return [*layout.row_key, *(others if layout.key_is_deferrable else [])]


def _split(layout: Layout, fresh: str) -> str:
    """Splits the statement: most updates change neither a protected column nor the row's key, and need neither.

    A statement that sets a key column calls the guard, and takes a lock that new rows of other tables wait for.
    """
    bound = [name for name in {**layout.row_key, **dict.fromkeys(all_bound(layout))} if name not in layout.protected]
    free = [column for column in layout.stored_columns if column.name not in bound]
    made = layout.protected.keys() | layout.searches.keys() | layout.sources.keys()
    opened = [column for column in free if column.name not in made and _writable(column)]
    values = _statement(layout, fresh, free, _new_or_kept(layout))
    whole = _statement(layout, fresh, layout.stored_columns, _new_or_kept(layout))
    more = when(differ(bound), whole, otherwise=[values])
    if not opened:
        return more
    # One condition for the usual case: PL/pgSQL makes each of them ready anew in each transaction.
    touched = differ(dict.fromkeys([*bound, *layout.protected]))
    unread = f"pg_catalog.cardinality({V}.unreadable) OPERATOR(pg_catalog.>) 0"
    return when(f"{touched} OR {unread}", more, otherwise=[_statement(layout, fresh, opened, _new)])


def _writable(column: Column) -> bool:
    return not column.generated and column.identity != "a"


def _changed(protected: Protected) -> str:
    name = protected.column.name
    bad = f"'{protected.field_uuid}'::pg_catalog.uuid OPERATOR(pg_catalog.=) ANY ({V}.unreadable)"
    return f"{differ([name])} OR {bad}"


def _statement(layout: Layout, which: str, columns: tuple[Column, ...] | list[Column], assign: Assign) -> str:
    assigned = [f"{ident(column.name)} = {assign(column)}" for column in columns if _writable(column)]
    values = f",{NEXT}    ".join(assigned)
    where = f"WHERE {this_row(layout)} AND {which}"
    # The result does not go into NEW, which must stay as it is if no row is found.
    returned = returning(changed_below(layout), f"{V}.stored")
    return f"UPDATE {layout.base} AS t SET{NEXT}    {values}{NEXT}{where}{returned};"


def _new(column: Column) -> str:
    return f"NEW.{ident(column.name)}"


def _new_or_kept(layout: Layout) -> Assign:
    def assign(column: Column) -> str:
        search = layout.searches.get(column.name)
        source = search.source if search else layout.sources.get(column.name, column.name)
        protected = layout.protected.get(source)
        if protected is None:
            return _new(column)
        # A value that stays is bound anew by the guard of the base table if the row key changes.
        return f"CASE WHEN {_changed(protected)} THEN {new_value(layout, column)} ELSE t.{ident(column.name)} END"

    return assign


def _changed_only(layout: Layout) -> Assign:
    kept = _new_or_kept(layout)

    def assign(column: Column) -> str:
        if column.name in layout.protected or column.name in layout.searches or column.name in layout.sources:
            return kept(column)
        name = ident(column.name)
        return f"CASE WHEN {same([column.name])} THEN t.{name} ELSE NEW.{name} END"

    return assign


def _missed(layout: Layout) -> list[str]:
    """Handles a row that was not found. A row that is gone, or withheld by a trigger or row policy, is skipped, as
    PostgreSQL does.

    A row that another transaction changed is an error, so no update is lost. So is a row that this transaction changed
    after the statement began, through an earlier row.
    """
    read = f"t.ctid, t.ctid OPERATOR(pg_catalog.=) {V}.version AS withheld, {THEIRS} AS theirs"
    return [
        f"SELECT {read} INTO {V}.current FROM {layout.base} t WHERE {this_row(layout)};",
        when(f"NOT FOUND OR {V}.current.withheld", "RETURN NULL;"),
        when(
            f"{V}.current.theirs",
            # The row was written, and is still what the statement read: reencrypt() does so, and an UPDATE that changes
            # nothing.
            *_still_the_same(layout),
            fail(
                "could not serialize access due to concurrent update",
                "40001",
                layout,
                hint="Another transaction changed the row after this statement read it. Run the transaction again.",
            ),
        ),
        when(
            f"NOT envelope_internal.acts_on_itself({literal(layout.base)}::pg_catalog.regclass)",
            fail(
                "tuple to be updated was already modified by an operation triggered by the current command",
                "27000",
                layout,
                hint="A function that this statement calls changed the row, too.",
            ),
        ),
        _statement(layout, "true", layout.stored_columns, _changed_only(layout)),
        when("NOT FOUND", "RETURN NULL;"),
        "EXIT;",
    ]


def _still_the_same(layout: Layout) -> list[str]:
    masked = [] if layout.as_caller else [found for found in layout.protected.values() if found.is_masked]
    compared = [column.name for column in layout.columns if column.name not in {found.column.name for found in masked}]
    old, seen = (record(f"{source}.{ident(name)}" for name in compared) for source in ("OLD", "v"))
    # The owner reads from the base table. The caller reads only rows that the caller may see.
    relation = layout.view if layout.as_caller else f"({selected(layout)})"
    key = " AND ".join(f"v.{ident(name)} {equals} OLD.{ident(name)}" for name, equals in layout.row_key.items())
    same_row = f"EXISTS (SELECT FROM {relation} v WHERE {key} AND {seen} {SAME} {old})"
    if masked:
        shown = " AND ".join(shows(layout, found) for found in masked)
        same_row += f" AND EXISTS (SELECT FROM {layout.base} t WHERE {this_row(layout)} AND {shown})"
    again = when(same_row, f"{V}.version := {V}.current.ctid;", "CONTINUE;")
    if layout.as_caller:
        again = when(f"pg_catalog.has_table_privilege({literal(layout.view)}, 'SELECT')", again)
    return [again]


def version(layout: Layout) -> str:
    """Returns the body of a function that finds a row as the calling statement sees it.

    It is IMMUTABLE, so it has no snapshot of its own.
    """
    numbered = dict(zip(_found_by(layout), range(1, 1 + len(layout.columns)), strict=False))
    found = [f"t.{ident(name)} {equals} ${numbered.pop(name)}" for name, equals in layout.row_key.items()]
    if numbered:
        stored = record(f"t.{ident(name)}" for name in numbered)
        found.append(f"{stored} {SAME} {record(f'${number}' for number in numbered.values())}")
    return block([f"RETURN (SELECT t.ctid FROM {layout.base} t WHERE {' AND '.join(found)});"])


def version_arguments(layout: Layout) -> str:
    return commas(layout.column(name).type for name in _found_by(layout))


def without_key(layout: Layout) -> str:
    return block(
        [
            fail(
                f"cannot update {layout.view_name}: it has no primary key",
                "55000",
                layout,
                hint=f"Add a primary key to {layout.base_name}, then CALL envelope.refresh({literal(layout.view)}).",
            )
        ]
    )
