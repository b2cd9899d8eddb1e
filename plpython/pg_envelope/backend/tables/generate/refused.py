"""Writes the refusals of a write, as the plain table has them and under its name: NULLs, CHECKs, generated values."""

from __future__ import annotations

from collections.abc import Callable

from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables.canonical import may_lose
from pg_envelope.backend.tables.generate.blocks import fail, when
from pg_envelope.backend.tables.generate.expressions import differ, is_null, loses, same, stored_value
from pg_envelope.backend.tables.generate.layout import Layout, Protected
from pg_envelope.backend.tables.inspect import Check, Column


def checks(layout: Layout) -> list[str]:
    """Returns CHECK constraints on NEW.

    In a table whose writes run its own code they are checked afterwards, when NEW is the row as stored. In the others
    they are checked before, with generated columns computed here.
    """
    return [_check(layout, number, check) for number, check in _enforced(layout)]


def checks_of_update(layout: Layout, version: str) -> list[str]:
    """Returns the same for an UPDATE, whose NEW can have the masks that OLD has in the place of values.

    The owner checks the values themselves. `version` is the row's ctid, where two rows may have one key. The caller
    cannot do so: a constraint that holds for the row, and has no changed column, holds on.
    """
    return [
        _check_unmasked(layout, number, check) if layout.as_caller else _check(layout, number, check, version)
        for number, check in _enforced(layout)
    ]


def _check(layout: Layout, number: int, check: Check, version: str | None = None) -> str:
    as_caller = layout.as_caller
    wrong = _violated_as_caller(layout, number, check) if as_caller else violated(layout, check, _new_at(version))
    return when(wrong, check_error(layout, check))


def _check_unmasked(layout: Layout, number: int, check: Check) -> str:
    masked = [found for name, found in layout.protected.items() if name in check.columns and found.is_masked]
    whole = _check(layout, number, check)
    if not masked:
        return whole
    unknown = " OR ".join(
        f"{same([found.column.name])} AND envelope_internal.sees_mask('{found.field_uuid}'::pg_catalog.uuid)"
        for found in masked
    )
    return when(differ(sorted(check.columns)), when(unknown, _unknown(layout, check)), whole)


def _unknown(layout: Layout, check: Check) -> str:
    return fail(
        f'constraint "{check.name}" cannot be checked: this role sees a mask of one of its columns',
        "42501",
        layout,
        constraint=check.name,
        hint="Give each column of the constraint a new value, or update as a role that sees the values.",
    )


def _enforced(layout: Layout) -> list[tuple[int, Check]]:
    return [(number, check) for number, check in enumerate(layout.checks) if check.enforced]


def check_error(layout: Layout, check: Check) -> str:
    message = f'new row for relation "{layout.view_name}" violates check constraint "{check.name}"'
    return fail(message, "23514", layout, constraint=check.name)


def violated(layout: Layout, check: Check, value: Callable[[Layout, Column], str]) -> str:
    """Returns the condition that a row violates a CHECK. `value` writes the value of a column in the clear."""
    computed = [column for column in layout.columns if column.generated and column.name in check.columns]
    # The columns from which a generated column is computed are not known here.
    needed = [c for c in layout.columns if not c.generated and (computed or c.name in check.columns)]
    row = f"(SELECT {commas(f'{value(layout, c)} AS {ident(c.name)}' for c in needed)}) AS {ident(layout.view_name)}"
    if computed:
        values = commas(f"({column.default})::{column.type} AS {ident(column.name)}" for column in computed)
        row = f"(SELECT {ident(layout.view_name)}.*, {values} FROM {row}) AS {ident(layout.view_name)}"
    return f"(SELECT ({check.expression}) IS FALSE FROM {row})"


def _new_at(version: str | None) -> Callable[[Layout, Column], str]:
    """Returns what writes the value of NEW, or the stored one where NEW has the mask that OLD has."""

    def new(layout: Layout, column: Column) -> str:
        name, protected = column.name, layout.protected.get(column.name)
        if version is None or protected is None or not protected.is_masked:
            return f"NEW.{ident(name)}"
        return f"CASE WHEN {same([name])} THEN {stored_value(layout, protected, version)} ELSE NEW.{ident(name)} END"

    return new


def check_functions(layout: Layout) -> list[str]:
    """Returns CHECK expressions with their names resolved once and for all, for code that runs under the caller's path.

    They return a set, and are STABLE, so that PostgreSQL puts them into the query that calls them. A function that runs
    by itself would have NEW's values as parameters, and auto_explain writes those into the log.
    """
    if not layout.as_caller:
        return []
    return [_check_function(layout, number, check) for number, check in _enforced(layout)]


def _check_function(layout: Layout, number: int, check: Check) -> str:
    columns = _named(layout, check)
    arguments = commas(f"{ident(column.name)} {column.type}" for column in columns)
    row = commas(f"{_collated(column)} AS {ident(column.name)}" for column in columns)
    return (
        f"CREATE OR REPLACE FUNCTION {_check_name(layout, number)}({arguments}) RETURNS SETOF pg_catalog.bool"
        " LANGUAGE sql STABLE BEGIN ATOMIC"
        f" SELECT ({check.expression}) IS FALSE FROM (SELECT {row}) AS {ident(layout.view_name)}; END"
    )


def _check_name(layout: Layout, number: int) -> str:
    return layout.function(f"check{number}")


def _collated(column: Column) -> str:
    return ident(column.name) + (f" COLLATE {column.collation}" if column.collation else "")


def _named(layout: Layout, check: Check) -> list[Column]:
    return [column for column in layout.columns if column.name in check.columns]


def _violated_as_caller(layout: Layout, number: int, check: Check) -> str:
    arguments = commas(f"NEW.{ident(column.name)}" for column in _named(layout, check))
    return f"(SELECT violated FROM {_check_name(layout, number)}({arguments}) AS violated)"


def not_nulls(layout: Layout, event: str) -> list[str]:
    """Returns the refusals of NULL, named after the view's column. The base table's error would show its failing row.

    An UPDATE may leave NULL in a row that was NULL because its tenant or subject was erased.
    """
    conditions = {column: _lacks(layout, column, event) for column in layout.columns if _needs_value(layout, column)}
    refusals = [when(condition, _null_error(layout, column)) for column, condition in conditions.items()]
    # One condition for the usual case: PL/pgSQL makes each of them ready anew in each transaction.
    return [when(" OR ".join(conditions.values()), *refusals)] if len(refusals) > 1 else refusals


def _needs_value(layout: Layout, column: Column) -> bool:
    """Tells whether the view's trigger must refuse NULL.

    In an `as_caller` table the guard and the base table do that.
    """
    return column.not_null and not column.identity and not column.generated and not layout.as_caller


def _lacks(layout: Layout, column: Column, event: str) -> str:
    null = is_null(f"NEW.{ident(column.name)}")
    if event == "update" and column.name in layout.protected:
        return f"{null} AND NOT ({is_null(f'OLD.{ident(column.name)}')})"
    return null


def _null_error(layout: Layout, column: Column) -> str:
    message = f'null value in column "{column.name}" of relation "{layout.view_name}" violates not-null constraint'
    return fail(message, "23502", layout, column=column.name)


def losses(layout: Layout, event: str) -> list[str]:
    """Refuses a value that its type's own text does not give back. Nobody could read it later."""
    return [_loss(layout, found, event) for found in layout.protected.values() if may_lose(found.column)]


def _loss(layout: Layout, found: Protected, event: str) -> str:
    name = found.column.name
    condition = loses(found.column, "NEW")
    if event == "update":
        condition = f"{differ([name])} AND {condition}"
    return when(condition, loss(layout, found.column))


def loss(layout: Layout, column: Column) -> str:
    message = f'a value of column "{column.name}" is more than the text that its type writes'
    hint = f"The type is {column.type}. CALL envelope.unprotect(...) if the column must hold such values."
    return fail(message, "0A000", layout, column=column.name, hint=hint)


def generated(layout: Layout, event: str) -> list[str]:
    """Refuses a value for a generated column as the table itself would."""
    return [
        when(
            _given_value(column, event),
            fail(
                f'cannot insert a non-DEFAULT value into column "{column.name}"'
                if event == "insert"
                else f'column "{column.name}" can only be updated to DEFAULT',
                "428C9",
                layout,
                detail=f'Column "{column.name}" is a generated column.',
            ),
        )
        for column in layout.columns
        if column.generated or (event == "update" and column.identity == "a")
    ]


def _given_value(column: Column, event: str) -> str:
    """Returns the condition that the user gave a value. The view gives NULL for the keyword DEFAULT, so NULL counts as
    DEFAULT.
    """
    given = f"NOT ({is_null(f'NEW.{ident(column.name)}')})"
    if event == "insert":
        return given
    return f"{given} AND {differ([column.name])}" if column.generated else differ([column.name])
