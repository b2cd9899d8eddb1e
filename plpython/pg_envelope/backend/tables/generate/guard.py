"""The base table's own trigger: what changes a row's key below the view, or writes without it, leaves no row that
cannot be read.

It runs after every other BEFORE trigger, so it meets the row as it will be stored.
"""

from __future__ import annotations

from functools import partial

from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.generate.blocks import block, fail, when
from pg_envelope.backend.tables.generate.expressions import (
    all_bound,
    bound_columns,
    differ,
    is_null,
    row_key,
    same,
    scope,
    seal,
)
from pg_envelope.backend.tables.generate.layout import Layout, Protected

# By the order of names this is the last of the BEFORE triggers.
NAME = "~envelope_guard"
NO_DRAFTS = "envelope_no_drafts"
# In the guard itself the depth is one more. The limit means a statement of its own, not one of a trigger.
DIRECT = "pg_catalog.pg_trigger_depth() OPERATOR(pg_catalog.=) "
PAST_THE_VIEW = f"{DIRECT}0"
APPLIED = "pg_catalog.current_setting('session_replication_role') OPERATOR(pg_catalog.=) 'replica'"


def guard(layout: Layout) -> str:
    """The body of the trigger function; it runs as the table's owner."""
    admitted = [_admit(layout, protected) for protected in layout.protected.values()]
    moved = [_move(layout, protected) for protected in layout.protected.values() if _moves(layout, protected)]
    needed = [*all_bound(layout), *_not_null(layout)]
    return block([*map(partial(_needs, layout), needed), *moved, *admitted, "RETURN NEW;"])


def _not_null(layout: Layout) -> list[str]:
    """Asked here where the table's own triggers come before."""
    return [name for name, protected in layout.protected.items() if protected.column.not_null and layout.as_caller]


def _needs(layout: Layout, name: str) -> str:
    """What values are bound to; the base table would say so later, when they are sealed."""
    message = f'null value in column "{name}" of relation "{layout.view_name}" violates not-null constraint'
    return when(is_null(f"NEW.{ident(name)}"), fail(message, "23502", layout, column=name))


def _moves(layout: Layout, protected: Protected) -> bool:
    return bool(bound_columns(layout, protected) or layout.scope_column)


def _names(layout: Layout, protected: Protected) -> list[str]:
    return list(dict.fromkeys([*bound_columns(layout, protected), *filter(None, [layout.scope_column])]))


def _move(layout: Layout, protected: Protected) -> str:
    """An envelope that stays while the row's key changes is sealed anew for the new one."""
    name = ident(protected.column.name)
    moved = (
        f"envelope_internal.rebind(NEW.{name}, {seal(protected)}, {row_key(layout, protected, 'OLD')},"
        f" {row_key(layout, protected, 'NEW')}{scope(layout, 'NEW')})"
    )
    kept = f"{same([protected.column.name])} AND {differ(_names(layout, protected))}"
    return when(f"TG_OP OPERATOR(pg_catalog.=) 'UPDATE' AND {kept}", f"NEW.{name} := {moved};")


def _admit(layout: Layout, protected: Protected) -> str:
    """A draft becomes an envelope. An envelope that was written directly must be under a key that is in use."""
    name = ident(protected.column.name)
    bound = f"{row_key(layout, protected, 'NEW')}{scope(layout, 'NEW')}"
    sealed = f"envelope_internal.seal_draft(NEW.{name}, {seal(protected)}, {bound})"
    # What does not open is as bad under any key; reencrypt() and verify() name it.
    opens = f"envelope_internal.opens(NEW.{name}, {seal(protected)}, {row_key(layout, protected, 'NEW')})"
    retired = f"{DIRECT}1 AND NOT {APPLIED} AND envelope_internal.is_retired(NEW.{name}) AND {opens}"
    written = f"TG_OP OPERATOR(pg_catalog.=) 'INSERT' OR {differ([protected.column.name])}"
    return when(
        f"{written}",
        when(
            is_draft(f"NEW.{name}"),
            f"NEW.{name} := {sealed};",
            otherwise=[
                when(
                    retired,
                    fail(
                        f'the envelope for column "{protected.column.name}" is under a key that is not active',
                        "55000",
                        layout,
                        column=protected.column.name,
                        hint="Read the key catalog again, or write through the view. To load an old backup into the"
                        " base table: SET session_replication_role = replica, then CALL envelope.reencrypt(...).",
                    ),
                )
            ],
        ),
    )


def is_draft(value: str) -> str:
    # An escape string, whatever standard_conforming_strings says.
    return f"pg_catalog.substr({value}, 3, 4) OPERATOR(pg_catalog.=) E'\\\\x00000000'::pg_catalog.bytea"


def no_drafts(layout: Layout) -> str:
    """A CHECK of the base table: a draft that no guard has met is refused, never stored.

    Only where there are drafts: PostgreSQL reads a CHECK anew for each statement, which takes 5 µs a column.
    """
    found = " OR ".join(is_draft(ident(name)) for name in layout.protected)
    return f"CONSTRAINT {ident(NO_DRAFTS)} CHECK (({found}) IS NOT TRUE) NOT VALID"
