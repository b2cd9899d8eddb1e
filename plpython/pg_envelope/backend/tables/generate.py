"""The SQL that protect() writes: a decrypting view, and static PL/pgSQL for INSERT, UPDATE and DELETE through it.

Pure text from a Layout; nothing here talks to a server. Every name is quoted and every object qualified.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pg_envelope.backend.keys import FieldOptions
from pg_envelope.backend.sqltext import commas, derived_name, dollar, ident, literal, qualified
from pg_envelope.backend.tables.canonical import canonical, restored
from pg_envelope.backend.tables.inspect import Check, Column

EVENTS = ("insert", "update", "delete")
# A plan made for one call would hold OLD and NEW as constants, which auto_explain writes into the log.
SETTINGS = "SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan"
# Equality of bytes: it exists for every type, and tells 1.0 from 1.00.
SAME = "OPERATOR(pg_catalog.*=)"
# True for a row version that another transaction wrote. Subtransactions have ids of their own, greater than the
# transaction's, so a greater one may be this transaction's; the row is visible, so if that has not ended, it is.
_AHEAD = "((t.xmin::text::bigint - pg_current_xact_id()::text::bigint) & 4294967295)"
FOREIGN = f"""CASE WHEN {_AHEAD} > 2147483647 THEN true
            ELSE pg_xact_status((pg_current_xact_id()::text::bigint + {_AHEAD})::text::xid8) <> 'in progress' END"""
NOTE = "-- Written by pg_envelope. After a change of the base table: CALL envelope.refresh(...)"
BEGINNING = f"\n#variable_conflict use_column\n{NOTE}\n"


def _function_name(view_name: str, event: str) -> str:
    return derived_name(view_name, f"_envelope_{event}")


def function_names(view_name: str) -> list[str]:
    """The trigger functions of a view."""
    return [_function_name(view_name, event) for event in EVENTS]


@dataclass(frozen=True)
class Protected:
    """A protected column: what it holds in the clear, and the field that encrypts it."""

    column: Column
    field_uuid: str
    options: FieldOptions


@dataclass(frozen=True)
class Layout:
    """A base table and the view over it, as they shall be.

    `row_key` maps columns to their equality operators; `scope_column` holds the tenant or subject, if they have keys.
    """

    schema: str
    view_name: str
    base_name: str
    columns: tuple[Column, ...]
    protected: dict[str, Protected]
    row_key: dict[str, str]
    checks: tuple[Check, ...]
    by_role: bool
    scope_column: str | None = None

    @property
    def view(self) -> str:
        return qualified(self.schema, self.view_name)

    @property
    def base(self) -> str:
        return qualified(self.schema, self.base_name)

    @property
    def plain_columns(self) -> list[Column]:
        return [column for column in self.columns if column.name not in self.protected]

    def function(self, event: str) -> str:
        return qualified(self.schema, _function_name(self.view_name, event))

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


def _bound_columns(layout: Layout, protected: Protected) -> list[str]:
    """What an envelope's row key is made of, in its order: FORMAT.md section 1.1."""
    if protected.options.bind != "row":
        return [layout.scope_column] if layout.scope_column else []
    scope = [layout.scope_column] if layout.scope_column and layout.scope_column not in layout.row_key else []
    return [*scope, *layout.row_key]


def row_key(layout: Layout, protected: Protected, source: str) -> str:
    """The row key of a row of `source`."""
    texts = [canonical(layout.column(name), source) for name in _bound_columns(layout, protected)]
    if len(texts) < 2:
        return texts[0] if texts else "''"
    return " || ".join(f"length({text})::text || ':' || {text}" for text in texts)


def _scope(layout: Layout, source: str) -> str:
    """A last argument: whose key encrypts."""
    return f", {canonical(layout.column(layout.scope_column), source)}" if layout.scope_column else ""


def _right(layout: Layout, protected: Protected, which: str) -> str:
    """What gives the right to a column: its capability or seal, or under row-level security its name."""
    uuid = f"'{protected.field_uuid}'::uuid"
    if layout.by_role:
        return uuid
    return f"(SELECT c.{which} FROM envelope_private.capability c WHERE c.field_uuid = {uuid})"


def _function(layout: Layout, verb: str, protected: Protected) -> str:
    kind = "bytea" if protected.column.is_bytes else "text"
    return f"envelope.{verb}_{kind}{'_as_role' if layout.by_role else ''}"


def decrypted(layout: Layout, protected: Protected, source: str = "t") -> str:
    """The expression that reads a protected column of `source` with the column's own type and collation."""
    column = protected.column
    right = _right(layout, protected, "capability")
    call = (
        f"{_function(layout, 'decrypt', protected)}"
        f"({source}.{ident(column.name)}, {right}, {row_key(layout, protected, source)})"
    )
    return restored(column, call)


def encrypted(layout: Layout, protected: Protected, source: str = "NEW") -> str:
    """The expression that makes the envelope for a protected column of `source`."""
    column = protected.column
    content = f"{source}.{ident(column.name)}" if column.is_bytes else canonical(column, source)
    right = _right(layout, protected, "seal")
    bound = f"{row_key(layout, protected, source)}{_scope(layout, source)}"
    return f"{_function(layout, 'encrypt', protected)}({content}, {right}, {bound})"


def resealed(layout: Layout, name: str) -> str:
    """The expression that brings a protected column of `t` to the newest key; for the table's owner."""
    protected = layout.protected[name]
    seal = _right(replace(layout, by_role=False), protected, "seal")
    return f"envelope.reseal(t.{ident(name)}, {seal}, {row_key(layout, protected, 't')}{_scope(layout, 't')})"


def _select_list(layout: Layout, source: str) -> list[str]:
    return [
        decrypted(layout, layout.protected[column.name], source)
        if column.name in layout.protected
        else f"{source}.{ident(column.name)}"
        for column in layout.columns
    ]


def view(layout: Layout) -> str:
    items = zip(_select_list(layout, "t"), layout.columns, strict=True)
    selected = ",\n    ".join(f"{expression} AS {ident(column.name)}" for expression, column in items)
    # Given explicitly, because CREATE OR REPLACE VIEW would otherwise drop it without a word.
    options = f"security_invoker = {'true' if layout.by_role else 'false'}"
    return f"CREATE OR REPLACE VIEW {layout.view} WITH ({options}) AS SELECT\n    {selected}\nFROM {layout.base} t"


def triggers(layout: Layout) -> list[str]:
    """The trigger functions and triggers; only INSERT works for a table without primary key."""
    bodies = {"insert": _insert(layout)}
    if layout.row_key:
        bodies |= {"update": _update(layout), "delete": _delete(layout)}
    else:
        bodies |= {event: _without_key(layout, event) for event in ("update", "delete")}
    return [statement for event, body in bodies.items() for statement in _trigger(layout, event, body)]


def _trigger(layout: Layout, event: str, body: str) -> list[str]:
    function = layout.function(event)
    security = "SECURITY INVOKER" if layout.by_role else "SECURITY DEFINER"
    return [
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql {security} {SETTINGS} "
        f"AS {dollar(body)}",
        f"REVOKE ALL ON FUNCTION {function}() FROM PUBLIC",
        f"CREATE OR REPLACE TRIGGER {ident(f'envelope_{event}')} INSTEAD OF {event.upper()} ON {layout.view} "
        f"FOR EACH ROW EXECUTE FUNCTION {function}()",
    ]


def _block(statements: Sequence[str]) -> str:
    body = "\n".join(f"    {line}" for statement in statements for line in statement.split("\n"))
    return f"{BEGINNING}BEGIN\n{body}\nEND\n"


def _raise(message: str, sqlstate: str, layout: Layout, **fields: str) -> str:
    names = {"schema": layout.schema, "table": layout.view_name, **fields}
    using = commas(f"{name.upper()} = {literal(text)}" for name, text in names.items())
    return f"RAISE EXCEPTION USING ERRCODE = '{sqlstate}', MESSAGE = {literal(message)}, {using};"


def _if(condition: str, *then: str) -> str:
    return f"IF {condition} THEN\n    " + "\n    ".join(then) + "\nEND IF;"


def _checks(layout: Layout) -> list[str]:
    row = commas(f"NEW.{ident(column.name)} AS {ident(column.name)}" for column in layout.columns)
    return [_check(layout, check, row) for check in layout.checks]


def _check(layout: Layout, check: Check, row: str) -> str:
    message = f'new row for relation "{layout.view_name}" violates check constraint "{check.name}"'
    return _if(
        f"(SELECT ({check.expression}) IS FALSE FROM (SELECT {row}) AS {ident(layout.view_name)})",
        _raise(message, "23514", layout, constraint=check.name),
    )


def _not_nulls(layout: Layout, event: str) -> list[str]:
    """Named after the view's column, before the base table would show its failing row.

    An UPDATE of a row that was NULL there, because its tenant or subject was erased, may leave it so.
    """
    names = [name for name, protected in layout.protected.items() if protected.column.not_null]
    erasable = " AND OLD.{0} IS DISTINCT FROM NULL" if event == "update" else ""
    conditions = {name: f"NEW.{ident(name)} IS NOT DISTINCT FROM NULL" + erasable.format(ident(name)) for name in names}
    if layout.scope_column:
        conditions[layout.scope_column] = f"NEW.{ident(layout.scope_column)} IS NOT DISTINCT FROM NULL"
    return [
        _if(
            condition,
            _raise(
                f'null value in column "{name}" of relation "{layout.view_name}" violates not-null constraint',
                "23502",
                layout,
                column=name,
            ),
        )
        for name, condition in conditions.items()
    ]


def _identities(layout: Layout) -> list[str]:
    return [_identity(layout, column) for column in layout.columns if column.identity]


def _identity(layout: Layout, column: Column) -> str:
    name = f"NEW.{ident(column.name)}"
    drawn = f"{name} := nextval({literal(column.sequence or '')}::regclass);"
    if column.identity == "d":
        return _if(f"{name} IS NULL", drawn)
    refused = _raise(
        f'cannot insert a non-DEFAULT value into column "{column.name}"',
        "428C9",
        layout,
        detail=f'Column "{column.name}" is an identity column defined as GENERATED ALWAYS.',
    )
    return _if(f"{name} IS NOT NULL", refused) + f"\n{drawn}"


def _generated(layout: Layout, event: str) -> list[str]:
    """A generated column takes no value: refused as the table itself would."""
    return [
        _if(
            _refused_value(column, event),
            _raise(
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


def _refused_value(column: Column, event: str) -> str:
    """True for a value of one's own. The view gives NULL for the keyword DEFAULT, so NULL counts as DEFAULT."""
    given = f"NEW.{ident(column.name)} IS DISTINCT FROM NULL"
    if event == "insert":
        return given
    return f"{given} AND {_differs(column)}" if column.generated else _differs(column)


def _record(values: Iterable[str]) -> str:
    """A row as one value; without the cast PostgreSQL would compare its columns one by one."""
    return f"ROW({commas(values)})::record"


def _differs(column: Column) -> str:
    return f"NOT {_record([f'NEW.{ident(column.name)}'])} {SAME} {_record([f'OLD.{ident(column.name)}'])}"


def _returning(layout: Layout) -> str:
    """The unprotected columns as the base table has them now: its triggers and expressions may have changed them."""
    names = [ident(column.name) for column in layout.plain_columns]
    if not names:
        return ""
    return f"\nRETURNING {commas(f't.{name}' for name in names)}\nINTO {commas(f'NEW.{name}' for name in names)}"


def _written(layout: Layout) -> list[Column]:
    return [column for column in layout.columns if not column.generated]


def _insert(layout: Layout) -> str:
    written = _written(layout)
    names = commas(ident(column.name) for column in written)
    values = ",\n    ".join(_new_value(layout, column) for column in written)
    return _block(
        [
            *_identities(layout),
            *_generated(layout, "insert"),
            *_not_nulls(layout, "insert"),
            *_checks(layout),
            f"INSERT INTO {layout.base} AS t ({names})\nOVERRIDING SYSTEM VALUE VALUES (\n    {values})"
            f"{_returning(layout)};",
            "RETURN NEW;",
        ]
    )


def _new_value(layout: Layout, column: Column) -> str:
    protected = layout.protected.get(column.name)
    return encrypted(layout, protected) if protected else f"NEW.{ident(column.name)}"


def _this_row(layout: Layout) -> str:
    return " AND ".join(f"t.{ident(name)} {equals} OLD.{ident(name)}" for name, equals in layout.row_key.items())


def _unchanged_row(layout: Layout) -> str:
    """True while the row is what the statement read: an INSTEAD OF trigger acts on OLD, which may be history by now."""
    read = _record(f"OLD.{ident(column.name)}" for column in layout.columns)
    return f"{_record(_select_list(layout, 't'))}\n        {SAME} {read}"


def _update(layout: Layout) -> str:
    assignments = ",\n    ".join(
        f"{ident(column.name)} = {_updated_value(layout, column)}"
        for column in _written(layout)
        if column.identity != "a"
    )
    return _block(
        [
            *_generated(layout, "update"),
            *_not_nulls(layout, "update"),
            *_checks(layout),
            f"UPDATE {layout.base} AS t SET\n    {assignments}\nWHERE {_this_row(layout)}\n"
            f"    AND {_unchanged_row(layout)}{_returning(layout)};",
            _not_found(layout),
            "RETURN NEW;",
        ]
    )


def _updated_value(layout: Layout, column: Column) -> str:
    protected = layout.protected.get(column.name)
    if protected is None:
        return f"NEW.{ident(column.name)}"
    changed = dict.fromkeys([column.name, *_bound_columns(layout, protected), *filter(None, [layout.scope_column])])
    new, old = (_record(f"{source}.{ident(name)}" for name in changed) for source in ("NEW", "OLD"))
    return f"CASE WHEN {new} {SAME} {old} THEN t.{ident(column.name)}\n        ELSE {encrypted(layout, protected)} END"


def _delete(layout: Layout) -> str:
    return _block(
        [
            f"DELETE FROM {layout.base} AS t WHERE {_this_row(layout)}\n    AND {_unchanged_row(layout)};",
            _not_found(layout),
            "RETURN OLD;",
        ]
    )


def _not_found(layout: Layout) -> str:
    """Gone, changed by this statement, or withheld by a trigger or row policy of the base table: skipped, as
    PostgreSQL does. Changed by another transaction: an error, no lost update."""
    changed = f"{_this_row(layout)}\n        AND NOT ({_unchanged_row(layout)})\n        AND {FOREIGN}"
    return _if(
        "NOT FOUND",
        _if(
            f"EXISTS (SELECT FROM {layout.base} t WHERE {changed})",
            _raise(
                "could not serialize access due to concurrent update",
                "40001",
                layout,
                hint="Another transaction changed the row after this statement read it. Run the transaction again.",
            ),
        ).replace("\n", "\n    "),
        "RETURN NULL;",
    )


def _without_key(layout: Layout, event: str) -> str:
    return _block(
        [
            _raise(
                f"cannot {event} {layout.view_name}: it has no primary key",
                "55000",
                layout,
                hint=f"Add a primary key to {layout.base_name}, then CALL envelope.refresh({literal(layout.view)}).",
            )
        ]
    )
