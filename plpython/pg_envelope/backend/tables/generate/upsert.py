"""Writes the upsert relation: a view that PostgreSQL itself can write to, so that ON CONFLICT DO UPDATE works.

Each protected column has an input column beside it. A value that is written there becomes a draft in the protected
column, and the guard seals it as ever. What stays in the input column is a mark: it says that there is a value, and
not which. The mark is what `excluded.email` gives, and an UPDATE that takes over such a mark takes over its value.
"""

from __future__ import annotations

from pg_envelope.backend.sqltext import commas, ident, literal, qualified
from pg_envelope.backend.tables import canonical
from pg_envelope.backend.tables.generate import refused
from pg_envelope.backend.tables.generate.blocks import NEXT, block, fail, trigger, when
from pg_envelope.backend.tables.generate.expressions import (
    TEXT,
    content,
    decrypted,
    differ,
    is_draft,
    is_null,
    kind_of,
    loses,
)
from pg_envelope.backend.tables.generate.layout import Layout, Protected, upsert_name
from pg_envelope.backend.tables.inspect import INPUT, ONLY_MARKS, TAKES, Check, Column

# The mark of a value that did not come through the upsert relation. All marks differ, so that a value that is copied
# from another row or column is told from a value that stays.
_DRAWN = f"pg_catalog.replace(pg_catalog.gen_random_uuid()::{TEXT}, '-', '')"
STORED = rf"pg_catalog.concat(E'\x01', pg_catalog.substr({_DRAWN}, 1, 12), E'\x02')::{INPUT}"
ON_INSERT, ON_UPDATE = f"{TAKES}_insert", f"{TAKES}_update"
TRIGGERS = (ON_INSERT, ON_UPDATE)
IS_MARK = r"OPERATOR(pg_catalog.~) E'^\x01[A-Za-z0-9_-]{12}\x02$'"
DECLARED = ("mark pg_catalog.text;",)
V = "pg_envelope"
INSERTED = "TG_OP OPERATOR(pg_catalog.=) 'INSERT'"


def relation(layout: Layout) -> str:
    return qualified(layout.schema, upsert_name(layout.view_name))


def view(layout: Layout) -> str:
    """Returns the statement that makes the upsert relation, of plain columns only."""
    shown = [column for column in layout.columns if column.name not in layout.searches]
    columns = commas(f"t.{ident(layout.inputs.get(c.name, c.name))} AS {ident(c.name)}" for c in shown)
    invoker = "true" if layout.by_role else "false"
    options = f"security_invoker = {invoker}"
    return f"CREATE OR REPLACE VIEW {relation(layout)} WITH ({options}) AS SELECT {columns} FROM {layout.base} t"


def default(layout: Layout, column: Column) -> str:
    """Returns the part of an ALTER VIEW that gives the upsert relation the default of a protected column."""
    if column.default is None:
        return f"ALTER {ident(column.name)} DROP DEFAULT"
    typed = f"({column.default})::{layout.protected[column.name].column.type}"
    # A function, because the owner sets it, and newer servers let nobody name envelope.plaintext.
    return f"ALTER {ident(column.name)} SET DEFAULT envelope_internal.canonical({typed})::{INPUT}"


def takes(layout: Layout) -> str:
    """Returns the body of the trigger function that runs before all others of the base table."""
    parts = [_take(layout, layout.protected[name], given) for name, given in layout.inputs.items()]
    return block([*parts, "RETURN NEW;"], DECLARED, label=V)


def _take(layout: Layout, found: Protected, given: str) -> str:
    name, mark = f"NEW.{ident(found.column.name)}", f"NEW.{ident(given)}"
    field = literal(found.field_uuid)
    # An envelope that comes with a mark comes from a dump.
    is_new = f"{is_null(name)} AND NOT ({is_null(mark)})"
    written = f"(CASE WHEN {INSERTED} THEN {is_new} ELSE {differ([given])} END)"
    value = when(f"{is_null(name)} AND {V}.mark IS NOT NULL", *_fitting(layout, found), f"{name} := {_drafted(found)};")
    return when(
        written,
        f"{V}.mark := {mark}::{TEXT};",
        f"{name} := envelope_internal.marked({V}.mark, {field});",
        value,
        f"{V}.mark := envelope_internal.mark({name}, {field});",
        f"{mark} := {V}.mark::{INPUT};",
    )


def _typed(column: Column) -> str:
    return f"(SELECT {canonical.written(column, f'{V}.mark')} AS {ident(column.name)}) AS v"


def _drafted(found: Protected) -> str:
    return (
        f"(SELECT envelope_internal.draft_{kind_of(found.column)}({content(found, 'v')}) FROM {_typed(found.column)})"
    )


def _fitting(layout: Layout, found: Protected) -> list[str]:
    """Refuses what a cast would shorten, and what the type's own text would not give back."""
    column = found.column
    refusals = []
    if (whole := canonical.fits(column, f"{V}.mark")) != "true":
        message = f"value too long for column {column.name}, whose type is {column.type}"
        refusals.append(when(f"NOT ({whole})", fail(message, "22001", layout, column=column.name)))
    if canonical.may_lose(column):
        lost = f"(SELECT {loses(column, 'v')} FROM {_typed(column)})"
        refusals.append(when(lost, refused.loss(layout, column)))
    return refusals


def guarded(layout: Layout) -> list[str]:
    """Returns the guard's part before it seals: CHECKs, which the base table does not have."""
    return [_check(layout, check) for check in layout.checks if check.enforced] if layout.inputs else []


def _check(layout: Layout, check: Check) -> str:
    names = [c.name for c in layout.columns if c.name in check.columns and not c.generated]
    touched = f"{INSERTED} OR {differ(names)}" if "" not in check.columns and names else "true"
    return when(touched, when(refused.violated(layout, check, _clear), refused.check_error(layout, check)))


def _clear(layout: Layout, column: Column) -> str:
    """Returns the value of a column of NEW in the clear."""
    found = layout.protected.get(column.name)
    value = f"NEW.{ident(column.name)}"
    if found is None:
        return value
    fresh = canonical.restored(column, f"envelope_internal.clear_{kind_of(column)}({value})")
    return f"CASE WHEN {is_draft(value)} THEN {fresh} ELSE {decrypted(layout, found, 'NEW')} END"


def marked(layout: Layout) -> list[str]:
    """Returns the guard's last part: a mark wherever there is a value, and nowhere else."""
    return [_mark(layout, name, given) for name, given in layout.inputs.items()]


def _mark(layout: Layout, name: str, given: str) -> str:
    mark = f"NEW.{ident(given)}"
    missing = when(f"{mark} IS NULL", f"{mark} := {STORED};")
    # The CHECK would show its failing row, with the value.
    untaken = fail(
        f'a value for column "{name}" was not encrypted',
        "55000",
        layout,
        column=name,
        hint=f"The triggers {TAKES}_... of {layout.base_name} are off, or session_replication_role is replica.",
    )
    return NEXT.join(
        [
            when(f"NOT ({mark}::{TEXT} {IS_MARK})", untaken),
            when(is_null(f"NEW.{ident(name)}"), f"{mark} := NULL;", otherwise=[missing]),
        ]
    )


def triggers(layout: Layout) -> list[str]:
    if not layout.inputs:
        return []
    given = [ident(name) for name in layout.inputs.values()]
    some = " OR ".join(f"NEW.{name} IS NOT NULL" for name in given)
    function = layout.function("upsert")
    return [
        trigger(ON_INSERT, "BEFORE INSERT", layout.base, "ROW", function, some),
        trigger(ON_UPDATE, f"BEFORE UPDATE OF {commas(given)}", layout.base, "ROW", function),
    ]


def filled(layout: Layout) -> str:
    """Returns the statement that gives a mark to each stored value. It rewrites the base table once.

    Its CHECK holds where no trigger fires.
    """
    parts = commas(
        f"ALTER {ident(given)} TYPE {INPUT} USING CASE WHEN {ident(name)} IS NOT NULL THEN {STORED} END"
        for name, given in layout.inputs.items()
    )
    marks = " AND ".join(f"{ident(given)}::{TEXT} {IS_MARK}" for given in layout.inputs.values())
    return f"ALTER TABLE {layout.base} {parts}, ADD CONSTRAINT {ident(ONLY_MARKS)} CHECK ({marks})"
