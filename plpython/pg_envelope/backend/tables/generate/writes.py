"""Writes every statement that makes the triggers and functions behind the view, and the guard of the base table."""

from __future__ import annotations

from functools import partial

from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables.generate import guard, update, upsert
from pg_envelope.backend.tables.generate.blocks import callers, owners, trigger
from pg_envelope.backend.tables.generate.clear import clear
from pg_envelope.backend.tables.generate.insert import insert
from pg_envelope.backend.tables.generate.layout import Layout, function_name

MEND_BEGINS = "envelope_internal.mend_begins"
MEND_ENDS = "envelope_internal.mend_ends"
INSERT_BEGINS = "envelope_internal.insert_begins"
# Most statements do not have the word. The trigger reads the others exactly.
HAS_CONFLICT = "pg_catalog.lower(pg_catalog.current_query()) OPERATOR(pg_catalog.~~) '%conflict%'"
PASS_ERASED = "envelope_internal.erased_pass"  # noqa: S105
EVENTS = ("insert", "update")
FUNCTIONS = (*EVENTS, "version", "guard", "clear")
UPSERT = "upsert"
GUARDS = {what: f"{guard.NAME}_{what}" for what in ("insert", "update", "write")}
# The comment of each function begins so. The comment tells the functions from others.
COMMENTED = "pg_envelope: "
# A view's trigger with this state fires whatever session_replication_role says. ALTER TABLE gives the state to no view,
# and a dump leaves it out.
ALWAYS = "t"


def function_names(view_name: str, checks: int = 0, *, upsert: bool = True) -> list[str]:
    """Returns the names of the functions behind a view and its base table."""
    further = [*([UPSERT] if upsert else []), *(f"check{n}" for n in range(checks))]
    return [function_name(view_name, what) for what in (*FUNCTIONS, *further)]


def functions(layout: Layout) -> list[str]:
    """Returns the statements that make the trigger functions, and the functions that they call."""
    # All generated text is qualified. The text of a CHECK is as PostgreSQL shows it under a pinned path.
    make = callers if layout.as_caller else partial(owners, pinned=bool(layout.checks))
    updated = update.update(layout) if layout.row_key else update.without_key(layout)
    made = [
        *make(layout.function("insert"), "", "pg_catalog.trigger", insert(layout)),
        *make(layout.function("update"), "", "pg_catalog.trigger", updated),
        *owners(layout.function("guard"), "", "pg_catalog.trigger", guard.guard(layout)),
    ]
    if layout.inputs:
        made += callers(layout.function(UPSERT), "", "pg_catalog.trigger", upsert.takes(layout))
    return [*made, *_clear(layout), *(_version(layout) if layout.row_key else [])]


def _clear(layout: Layout) -> list[str]:
    """The function is for the writing role, as which the table's triggers run. It reads as that role."""
    name = layout.function("clear")
    made = callers(name, layout.base, "pg_catalog.jsonb", clear(layout))
    return [*made, f"GRANT EXECUTE ON FUNCTION {name}({layout.base}) TO PUBLIC"] if layout.as_caller else made


def _version(layout: Layout) -> list[str]:
    arguments = update.version_arguments(layout)
    name = layout.function("version")
    made = owners(name, arguments, "pg_catalog.tid", update.version(layout), "IMMUTABLE")
    # The function tells where a row is, and nothing of its content.
    return [*made, f"GRANT EXECUTE ON FUNCTION {name}({arguments}) TO PUBLIC"] if layout.as_caller else made


def triggers(layout: Layout) -> list[str]:
    return [
        *(_instead(layout, event) for event in EVENTS),
        *_statement_triggers(layout),
        *_guards(layout),
        *upsert.triggers(layout),
    ]


def trigger_names(layout: Layout) -> set[str]:
    """Returns the names of all triggers that triggers() makes, on the view and on the base table."""
    names = {f"envelope_{event}" for event in EVENTS} | {GUARDS[what] for what in _guarded(layout)} | {"envelope_soft"}
    if layout.inputs:
        names |= {*upsert.TRIGGERS}
    if layout.row_key:
        names |= {"envelope_mend", "envelope_mended"}
    return names | {"envelope_erased"} if _passes_erased(layout) else names


def _guarded(layout: Layout) -> list[str]:
    if _guards_every_write(layout):
        return ["insert", "update"]
    return ["insert", "update", "write"] if guard.watched(layout) else ["insert", "write"]


def _passes_erased(layout: Layout) -> bool:
    return bool(layout.row_key and layout.scope_column and layout.erased == "error")


def _instead(layout: Layout, event: str) -> str:
    return trigger(f"envelope_{event}", f"INSTEAD OF {event.upper()}", layout.view, "ROW", layout.function(event))


def _statement_triggers(layout: Layout) -> list[str]:
    """Returns statement triggers, so that an UPDATE need not read values that it replaces, or erased values beside
    them.
    """
    made = [trigger("envelope_soft", "BEFORE INSERT", layout.view, "STATEMENT", INSERT_BEGINS, HAS_CONFLICT)]
    if not layout.row_key:
        return made
    names = ", ".join(ident(name) for name in layout.protected)
    made += [
        trigger("envelope_mend", f"BEFORE UPDATE OF {names}", layout.view, "STATEMENT", MEND_BEGINS),
        trigger("envelope_mended", f"AFTER UPDATE OF {names}", layout.view, "STATEMENT", MEND_ENDS),
    ]
    if _passes_erased(layout):
        made.append(trigger("envelope_erased", "BEFORE UPDATE", layout.view, "STATEMENT", PASS_ERASED))
    return made


def _guards(layout: Layout) -> list[str]:
    return every_guard(layout) if _guards_every_write(layout) else _few_guards(layout)


def _guards_every_write(layout: Layout) -> bool:
    """Tells whether the guard makes the envelopes: where values come as drafts, and in a roll-out of protect(). In a
    roll-out it also makes the tokens of values in the clear.
    """
    return layout.has_drafts or layout.rollout == "protect" or (layout.writes_clear and bool(layout.searches))


def every_guard(layout: Layout) -> list[str]:
    """Makes the guard run at every write: drafts become envelopes then, and other triggers may change the key."""
    return [*_guard(layout, "insert", "INSERT"), *_guard(layout, "update", "UPDATE")]


def _few_guards(layout: Layout) -> list[str]:
    """Makes the guard run for changes of the key, and for writes past the view. The view's trigger seals by itself.

    The guard is limited by columns and not by WHEN, because PostgreSQL would read a WHEN anew for each row.
    """
    # The token of an old value that somebody mends in the base table is made anew.
    bound, protected = guard.watched(layout), [*layout.protected, *(layout.sources if layout.searches else [])]
    protected += [search.name for search in layout.searches.values() if search.is_filled]
    past_the_view = guard.past_the_view(layout)
    made = _guard(layout, "insert", "INSERT", past_the_view)
    if bound:
        made += _guard(layout, "update", f"UPDATE OF {commas(map(ident, bound))}")
    return [*made, *_guard(layout, "write", f"UPDATE OF {commas(map(ident, protected))}", past_the_view)]


def _guard(layout: Layout, what: str, event: str, condition: str = "") -> list[str]:
    """Returns a guard's trigger. A guard that only looks at keys past the view holds up neither replication nor
    reencrypt().
    """
    made = trigger(GUARDS[what], f"BEFORE {event}", layout.base, "ROW", layout.function("guard"), condition)
    fires = "ENABLE" if condition else "ENABLE ALWAYS"
    return [made, f"ALTER TABLE {layout.base} {fires} TRIGGER {ident(GUARDS[what])}"]
