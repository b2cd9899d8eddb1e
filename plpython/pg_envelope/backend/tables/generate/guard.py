"""Writes the base table's own trigger. It keeps every row readable when a write changes a key below the view, or passes
the view.

It runs after every other BEFORE trigger, so it meets the row as it will be stored.
"""

from __future__ import annotations

from functools import partial

from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.generate import expressions, upsert
from pg_envelope.backend.tables.generate.blocks import block, fail, when
from pg_envelope.backend.tables.generate.expressions import (
    all_bound,
    bound_columns,
    clear_value,
    differ,
    encrypted,
    in_the_clear,
    is_draft,
    is_null,
    kind_of,
    legacy_as_role,
    legacy_opens,
    row_key,
    same,
    scope,
    seal,
)
from pg_envelope.backend.tables.generate.layout import Layout, Protected
from pg_envelope.backend.tables.generate.search import guarded, is_long, of_clients, received
from pg_envelope.backend.tables.inspect import NO_DRAFTS

# In the order of names, this trigger is the last of the BEFORE triggers.
NAME = "~envelope_guard"
# In the guard itself the depth is one more. The limit stands for a statement of its own, not for one of a trigger.
DIRECT = "pg_catalog.pg_trigger_depth() OPERATOR(pg_catalog.=) "
PAST_THE_VIEW = f"{DIRECT}0"
APPLIED = "pg_catalog.current_setting('session_replication_role') OPERATOR(pg_catalog.=) 'replica'"


def guard(layout: Layout) -> str:
    """Returns the body of the trigger function, which runs as the table's owner."""
    sealed = [_seal_clear(layout, found) for found in layout.in_rollout.values() if layout.rollout == "protect"]
    if layout.adopts:
        sealed = [line for found in layout.protected.values() for line in _of_adoption(layout, found)]
    admitted = [_admit(layout, protected) for protected in layout.protected.values()]
    moved = [_move(layout, protected) for protected in layout.protected.values() if _moves(layout, protected)]
    needed = [*all_bound(layout), *_not_null(layout)]
    given = [received(layout, search) for search in of_clients(layout)]
    tokens = [guarded(layout, search) for search in layout.searches.values()]
    checks, marks = upsert.guarded(layout), upsert.marked(layout)
    needs = map(partial(_needs, layout), needed)
    return block([*needs, *sealed, *given, *tokens, *moved, *checks, *admitted, *marks, "RETURN NEW;"])


def past_the_view(layout: Layout) -> str:
    """Returns when the guard must look at a write. A token with its key id comes from a client, at any depth."""
    return " OR ".join([PAST_THE_VIEW, *map(is_long, of_clients(layout))])


def _not_null(layout: Layout) -> list[str]:
    """Returns the columns whose NOT NULL is checked here, because the table's own triggers run before."""
    return [name for name, protected in layout.protected.items() if protected.column.not_null and layout.as_caller]


def _needs(layout: Layout, name: str) -> str:
    """Refuses NULL in a column that values are bound to. The base table would refuse it only after they are sealed."""
    message = f'null value in column "{name}" of relation "{layout.view_name}" violates not-null constraint'
    nulls = [is_null(f"NEW.{ident(column)}") for column in [name, *_clear_column(layout, name)]]
    return when(" AND ".join(nulls), fail(message, "23502", layout, column=name))


def _clear_column(layout: Layout, name: str) -> list[str]:
    """Returns the column that may have the value of a protected column in the clear, during a roll-out."""
    return [plain for plain, source in layout.sources.items() if source == name]


def _seal_clear(layout: Layout, protected: Protected) -> str:
    """Seals a value in the clear. So every write of a row brings it to its last form, whatever the write changes."""
    plain = clear_value(protected, "NEW")
    sealed = encrypted(layout, in_the_clear(protected), seal(protected))
    return when(f"NOT ({is_null(plain)})", f"NEW.{ident(protected.column.name)} := {sealed};", f"{plain} := NULL;")


def _of_adoption(layout: Layout, protected: Protected) -> list[str]:
    """Opens what an application has encrypted by itself, before anything else looks at the value."""
    name, beside = f"NEW.{ident(protected.column.name)}", expressions.beside(layout, protected)
    others = f", {expressions.parts(beside, 'NEW')}" if beside else ""
    opened = f"{name} := envelope_internal.adopted_draft({name}, {seal(protected)}{others});"
    return [when(is_draft(name), opened), *([_seal_whole(layout, protected)] if beside else [])]


def _seal_whole(layout: Layout, protected: Protected) -> str:
    """Seals an old value before a part of it changes in another column, which would make it unreadable for ever."""
    plain = clear_value(protected, "NEW")
    stays = f"NOT ({is_null(plain)}) AND {same([protected.plain or ''])} AND {differ(protected.beside)}"
    opened = legacy_as_role(layout, protected, "OLD")
    bound = f"{row_key(layout, protected, 'NEW')}{scope(layout, 'NEW')}"
    sealed = f"envelope_internal.encrypt_{kind_of(protected.column)}({opened}, {seal(protected)}, {bound})"
    moved = when(
        legacy_opens(layout, protected, "OLD"),
        f"NEW.{ident(protected.column.name)} := {sealed};",
        f"{plain} := NULL;",
    )
    return when("TG_OP OPERATOR(pg_catalog.=) 'UPDATE'", when(stays, moved))


def watched(layout: Layout) -> list[str]:
    """Returns the columns whose changes the guard must see: what values are bound to, and what holds parts of them."""
    beside = [name for found in layout.protected.values() for name in found.beside]
    return list(dict.fromkeys([*all_bound(layout), *beside]))


def _moves(layout: Layout, protected: Protected) -> bool:
    return bool(bound_columns(layout, protected) or layout.scope_column)


def _names(layout: Layout, protected: Protected) -> list[str]:
    return list(dict.fromkeys([*bound_columns(layout, protected), *filter(None, [layout.scope_column])]))


def _move(layout: Layout, protected: Protected) -> str:
    """Seals an envelope anew when it stays while the row's key changes."""
    name = ident(protected.column.name)
    moved = (
        f"envelope_internal.rebind(envelope_internal.readable(NEW.{name}), {seal(protected)},"
        f" {row_key(layout, protected, 'OLD')}, {row_key(layout, protected, 'NEW')}{scope(layout, 'NEW')})"
    )
    kept = f"{differ(_names(layout, protected))} AND NOT {_written(protected.column.name)}"
    return when(f"TG_OP OPERATOR(pg_catalog.=) 'UPDATE' AND {kept}", f"NEW.{name} := coalesce({moved}, NEW.{name});")


def _written(column: str) -> str:
    """Returns the condition that an UPDATE gives a column another envelope. The server may be unable to read a TOASTed
    one.
    """
    name = ident(column)
    inside = is_inside(f"OLD.{name}")
    stays = f"envelope_internal.stays(NEW.{name}, OLD.{name})"
    return f"(CASE WHEN {inside} THEN {differ([column])} ELSE NOT {stays} END)"


def _admit(layout: Layout, protected: Protected) -> str:
    """Turns a draft into an envelope. An envelope that was written directly must be under a key that is in use."""
    name = ident(protected.column.name)
    bound = f"{row_key(layout, protected, 'NEW')}{scope(layout, 'NEW')}"
    sealed = f"envelope_internal.seal_draft(NEW.{name}, {seal(protected)}, {bound})"
    # An envelope that does not open is bad under any key. reencrypt() and verify() name it.
    fits = f"envelope_internal.fits(NEW.{name}, {seal(protected)}, {row_key(layout, protected, 'NEW')})"
    retired = f"{DIRECT}1 AND NOT {APPLIED} AND envelope_internal.is_retired(NEW.{name}) AND {fits}"
    written = f"TG_OP OPERATOR(pg_catalog.=) 'INSERT' OR {_written(protected.column.name)}"
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


def is_inside(value: str) -> str:
    """Returns the condition that a value lies in its row and not in the TOAST relation. The server reads no value to
    know it.
    """
    return f"pg_catalog.pg_column_size({value}) OPERATOR(pg_catalog.>) pg_catalog.octet_length({value})"


def no_drafts(layout: Layout) -> str:
    """Returns a CHECK of the base table: it refuses to store a draft that no guard has met.

    It is there only where there are drafts, because PostgreSQL reads a CHECK anew for each statement. So it is short.
    """
    found = " OR ".join(f"envelope_internal.is_draft({ident(name)})" for name in layout.protected)
    return f"CONSTRAINT {ident(NO_DRAFTS)} CHECK (({found}) IS NOT TRUE) NOT VALID"
