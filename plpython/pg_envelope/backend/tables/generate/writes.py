"""Every statement that makes what writes through the view, and what guards the base table."""

from __future__ import annotations

from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.generate import guard, update
from pg_envelope.backend.tables.generate.blocks import callers, owners, trigger
from pg_envelope.backend.tables.generate.clear import clear
from pg_envelope.backend.tables.generate.insert import insert
from pg_envelope.backend.tables.generate.layout import Layout, function_name
from pg_envelope.backend.tables.generate.refused import check_functions

EVENTS = ("insert", "update")
FUNCTIONS = (*EVENTS, "version", "guard", "clear")
GUARDS = {event: f"{guard.NAME}_{event}" for event in EVENTS}
# How the comment of each function begins, by which it is known.
COMMENTED = "pg_envelope: "
# A view's trigger with this state fires whatever session_replication_role says: ALTER TABLE gives it to no view, and a
# dump passes over it.
ALWAYS = "t"


def function_names(view_name: str, checks: int = 0) -> list[str]:
    """The functions behind a view and its base table."""
    return [function_name(view_name, what) for what in (*FUNCTIONS, *(f"check{n}" for n in range(checks)))]


def functions(layout: Layout) -> list[str]:
    """Trigger functions, and what they call."""
    make = callers if layout.as_caller else owners
    updated = update.update(layout) if layout.row_key else update.without_key(layout)
    made = [
        *check_functions(layout),
        *make(layout.function("insert"), "", "pg_catalog.trigger", insert(layout)),
        *make(layout.function("update"), "", "pg_catalog.trigger", updated),
        *owners(layout.function("guard"), "", "pg_catalog.trigger", guard.guard(layout)),
    ]
    return [*made, *_clear(layout), *(_version(layout) if layout.row_key else [])]


def _clear(layout: Layout) -> list[str]:
    """For whoever writes, whose role the table's triggers have; it reads as that role."""
    name = layout.function("clear")
    made = callers(name, layout.base, "pg_catalog.jsonb", clear(layout))
    return [*made, f"GRANT EXECUTE ON FUNCTION {name}({layout.base}) TO PUBLIC"] if layout.as_caller else made


def _version(layout: Layout) -> list[str]:
    arguments = update.version_arguments(layout)
    name = layout.function("version")
    made = owners(name, arguments, "pg_catalog.tid", update.version(layout), "IMMUTABLE")
    # It tells where a row is, and nothing of it.
    return [*made, f"GRANT EXECUTE ON FUNCTION {name}({arguments}) TO PUBLIC"] if layout.as_caller else made


def triggers(layout: Layout) -> list[str]:
    return [
        *(_instead(layout, event) for event in EVENTS),
        *_statement_triggers(layout),
        *_guards(layout),
    ]


def trigger_names(layout: Layout) -> set[str]:
    """All that triggers() makes, on the view and on the base table."""
    names = {*GUARDS.values(), *(f"envelope_{event}" for event in EVENTS)}
    if layout.row_key:
        names |= {"envelope_mend", "envelope_mended"}
    return names | {"envelope_erased"} if _passes_erased(layout) else names


def _passes_erased(layout: Layout) -> bool:
    return bool(layout.row_key and layout.scope_column and layout.erased == "error")


def _instead(layout: Layout, event: str) -> str:
    return trigger(f"envelope_{event}", f"INSTEAD OF {event.upper()}", layout.view, "ROW", layout.function(event))


def _statement_triggers(layout: Layout) -> list[str]:
    """Who replaces a value that does not open, or cleans up beside an erased one, must not have to read it."""
    if not layout.row_key:
        return []
    names = ", ".join(ident(name) for name in layout.protected)
    made = [
        trigger("envelope_mend", f"BEFORE UPDATE OF {names}", layout.view, "STATEMENT", "envelope.mend_begins"),
        trigger("envelope_mended", f"AFTER UPDATE OF {names}", layout.view, "STATEMENT", "envelope.mend_ends"),
    ]
    if _passes_erased(layout):
        made.append(trigger("envelope_erased", "BEFORE UPDATE", layout.view, "STATEMENT", "envelope.erased_pass"))
    return made


def _guards(layout: Layout) -> list[str]:
    function = layout.function("guard")
    conditions = {"insert": guard.insert_condition(layout), "update": guard.update_condition(layout)}
    made = []
    for event, name in GUARDS.items():
        made += [
            trigger(name, f"BEFORE {event.upper()}", layout.base, "ROW", function, conditions[event]),
            f"ALTER TABLE {layout.base} ENABLE ALWAYS TRIGGER {ident(name)}",
        ]
    return made
