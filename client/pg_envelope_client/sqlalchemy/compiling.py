"""The compiler of an engine with keys: names the base table, carries row keys, and refuses what cannot work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from sqlalchemy import BigInteger, ColumnClause, Integer, Label, SmallInteger, Table, Uuid
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import Null
from sqlalchemy.util import memoized_property

from pg_envelope_client.relations import Relations
from pg_envelope_client.sqlalchemy.client_keys import Field, keys_of, refuse, run
from pg_envelope_client.sqlalchemy.encrypted import (
    CAN,
    Encrypted,
    SoughtToken,
    StoredToken,
    Unsealed,
    beside,
    is_encrypted,
    is_sealed,
)

KNOWN = "pg_envelope_relations"
# Their text is canonical under any settings of a session.
STEADY = (Integer, BigInteger, SmallInteger, Uuid)
# The argument of visit_column in places where an envelope may stand as it is.
WHOLE = "pg_envelope_whole"


def known(dialect: Any) -> dict[tuple[str, str], Relations]:
    """Returns the protected tables of an engine, by schema and name."""
    found: dict[tuple[str, str], Relations] = getattr(dialect, KNOWN, {})
    return found


def relations_of(dialect: Any, table: Any) -> Relations | None:
    """Returns the relations of a table, if it is protected."""
    if not isinstance(table, Table):
        return None
    return known(dialect).get((table.schema or dialect.default_schema_name or "public", table.name))


def encrypted_columns(table: Any) -> list[Any]:
    """Returns the columns of a table that the engine seals."""
    return [column for column in table.c if is_sealed(column)] if isinstance(table, Table) else []


def base_of(dialect: Any, table: Any) -> str | None:
    """Returns the name of the base table, for a table whose values the engine seals."""
    if not encrypted_columns(table):
        return None
    found = relations_of(dialect, table)
    if found is None:
        refuse(f"{table.name} is not protected, or was protected after this engine connected: call engine.dispose()")
    return found.base


def into(compiler: Any, table: Any, relation: str, text: str) -> str:
    """Returns the text of an INSERT that writes to another relation of the same schema, under the table's own name."""
    quote = compiler.preparer.quote
    schema = f"{quote(table.schema)}." if table.schema else ""
    name = quote(table.name)
    head, _, rest = text.partition(f"INSERT INTO {compiler.preparer.format_table(table)}")
    # In DO UPDATE and RETURNING SQLAlchemy names the table with its schema, where only the alias is known.
    return f"{head}INSERT INTO {schema}{quote(relation)} AS {name}{rest.replace(f'{schema}{name}.', f'{name}.')}"


def _without_order(visit: str) -> Callable[..., str]:
    """Returns the visitor of an element that has an ORDER BY of its own."""

    def visited(self: OrderCompiler, element: Any, *arguments: Any, **options: Any) -> str:
        _refuse_in("ORDER BY", is_encrypted, None, () if element.order_by is None else [element.order_by])
        text: str = getattr(super(OrderCompiler, self), visit)(element, *arguments, **options)
        return text

    return visited


class OrderCompiler:
    """What `install` adds to the compiler of a dialect: no order by a column of Encrypted(...), on either side.

    Envelopes have no order, and the server would decrypt every row for one.
    """

    visit_over = _without_order("visit_over")
    visit_withingroup = _without_order("visit_withingroup")
    visit_aggregateorderby = _without_order("visit_aggregateorderby")
    visit_aggregate_order_by = _without_order("visit_aggregate_order_by")

    def order_by_clause(self, select: Any, **options: Any) -> str:
        _refuse_in("ORDER BY", is_encrypted, select, select._order_by_clauses)
        text: str = super().order_by_clause(select, **options)  # type: ignore[misc]
        return text


class SealingCompiler(OrderCompiler):
    """What `install` adds to the compiler of a dialect whose engine has keys."""

    dialect: Any
    preparer: Any
    process: Any
    bind_names: Any
    stack: Any

    @memoized_property
    def pg_envelope_fields(self) -> set[Field]:
        """The columns that the statement reads."""
        return set()

    @memoized_property
    def pg_envelope_binds(self) -> dict[str, Any]:
        """The parameters whose values must be sealed or made tokens of, by name."""
        found = {name: bind for bind, name in self.bind_names.items()}
        return {name: bind for name, bind in found.items() if _is_ours(bind)}

    @memoized_property
    def _bind_processors(self) -> Any:
        found: Any = super()._bind_processors  # type: ignore[misc]
        for name in self.pg_envelope_binds:
            found[name] = _unsealed(name)
        return found

    def render_bind_cast(self, type_: Any, dbapi_type: Any, sqltext: str) -> str:
        if isinstance(type_, Encrypted) and type_.client_side:
            return f"{sqltext}::bytea"
        if isinstance(type_, SoughtToken):
            return f"{sqltext}::bytea{'[]' if type_.several else ''}"
        text: str = super().render_bind_cast(type_, dbapi_type, sqltext)  # type: ignore[misc]
        return text

    def visit_table(self, table: Any, asfrom: bool = False, ashint: bool = False, **options: Any) -> str:
        text: str = super().visit_table(table, asfrom=asfrom, ashint=ashint, **options)  # type: ignore[misc]
        base = base_of(self.dialect, table) if asfrom and not ashint else None
        if base is None:
            return text
        named = self.preparer.quote(table.name)
        head, _, tail = text.partition(named)
        enclosing = options.get("enclosing_alias")
        aliased = enclosing is not None and enclosing.element is table
        return f"{head}{self.preparer.quote(base)}{tail or ('' if aliased else f' AS {named}')}"

    def visit_insert(self, insert_stmt: Any, *arguments: Any, **options: Any) -> str:
        text: str = super().visit_insert(insert_stmt, *arguments, **options)  # type: ignore[misc]
        base = base_of(self.dialect, insert_stmt.table)
        return text if base is None else into(self, insert_stmt.table, base, text)

    def visit_column(self, column: Any, *arguments: Any, include_table: bool = True, **options: Any) -> str:
        whole = options.pop(WHOLE, False) or options.get("is_upsert_set")
        if is_sealed(column) and include_table and not whole:
            refuse(f"{column.key} is encrypted: an expression cannot use it; {CAN} are possible")
        text: str = super().visit_column(column, *arguments, include_table=include_table, **options)  # type: ignore[misc]
        return self._without_schema(column.table, text)

    def _without_schema(self, table: Any, text: str) -> str:
        """The base table has the table's name as an alias, which has no schema."""
        if not isinstance(table, Table) or not table.schema or not encrypted_columns(table):
            return text
        schema = self.preparer.quote_schema(self.preparer.schema_for_object(table))
        return text.removeprefix(f"{schema}.")

    def visit_binary(self, binary: Any, *arguments: Any, **options: Any) -> str:
        if _is_null_test(binary):
            options = {**options, WHOLE: isinstance(binary.left, ColumnClause)}
        text: str = super().visit_binary(binary, *arguments, **options)  # type: ignore[misc]
        return text

    def _label_select_column(
        self, select: Any, column: Any, populate_result_map: bool, asfrom: bool, arguments: Any, **options: Any
    ) -> Any:
        """Lets an inner query hand on an envelope as it is."""
        inner = column.element if isinstance(column, Label) else column
        if is_sealed(column) and isinstance(inner, ColumnClause):
            arguments = {**arguments, WHOLE: True}
        return super()._label_select_column(  # type: ignore[misc]
            select, column, populate_result_map, asfrom, arguments, **options
        )

    def group_by_clause(self, select: Any, **options: Any) -> str:
        _refuse_in("GROUP BY", is_sealed, select, select._group_by_clauses)
        text: str = super().group_by_clause(select, **options)  # type: ignore[misc]
        return text

    def get_select_precolumns(self, select: Any, **options: Any) -> str:
        _refuse_in("DISTINCT ON", is_sealed, select, select._distinct_on)
        if select._distinct:
            _refuse_distinct(select.selected_columns)
        text: str = super().get_select_precolumns(select, **options)  # type: ignore[misc]
        return text

    def visit_compound_select(self, cs: Any, *arguments: Any, **options: Any) -> str:
        if not cs.keyword.name.endswith("ALL"):
            _refuse_distinct(cs.selected_columns)
        text: str = super().visit_compound_select(cs, *arguments, **options)  # type: ignore[misc]
        return text

    def carry(self, element: Any, **options: Any) -> str:
        """Writes an array of the envelope and of the texts of its row key."""
        column, kind = element.column, element.type
        inner = column.element if isinstance(column, Label) else column
        if not isinstance(inner, ColumnClause):
            refuse("a column is encrypted: select it by itself, and not within an expression")
        add = options.pop("add_to_result_map", None)
        if add is not None:
            add(inner.name, inner.name, (inner, inner.name, inner.key), kind)
        self.pg_envelope_fields.add(kind.field)
        names = run(self.dialect, lambda: keys_of(self.dialect).column(kind.field).row_key)
        plain = {
            name: value
            for name, value in options.items()
            if name not in ("within_columns_clause", "within_label_clause")
        }
        envelope = self.process(inner, **{**plain, WHOLE: True})
        parts = [self._bound(inner, name, plain) for name in names]
        whole = ", ".join([f"{envelope}::pg_catalog.bytea", *parts])
        return f"CASE WHEN {envelope} IS NOT NULL THEN ARRAY[{whole}] END"

    def _bound(self, column: Any, name: str, options: Any) -> str:
        found = beside(column, name)
        if found is None:
            refuse(f"{column.key} is encrypted and bound to {name}: select {name} beside it in the inner query")
        text = self.process(found, **options)
        steady = isinstance(found.type, STEADY)
        written = f"{text}::pg_catalog.text" if steady else f"envelope_internal.canonical({text})"
        return f"pg_catalog.convert_to({written}, 'UTF8')"


def _is_ours(bind: Any) -> bool:
    return is_sealed(bind) or isinstance(bind.type, StoredToken | SoughtToken)


def _unsealed(name: str) -> Callable[[Any], Unsealed]:
    made = partial(Unsealed, name)
    return lambda _: made()


def _refuse_in(where: str, is_refused: Callable[[Any], bool], select: Any, clauses: Iterable[Any]) -> None:
    """`select` is the statement whose labels the clauses may name as texts."""
    for found in (found for clause in clauses for found in _used(clause)):
        name = getattr(found, "element", None)
        column: Any = select.selected_columns.get(name) if select is not None and isinstance(name, str) else found
        if is_refused(column):
            refuse(f"{getattr(column, 'key', None) or 'a column'} is encrypted: {where} cannot use it")


def _used(clause: Any) -> Iterator[Any]:
    """Returns the parts of an expression. A test for NULL needs no value."""
    if _is_null_test(clause):
        return
    yield clause
    for part in clause.get_children():
        yield from _used(part)


def _is_null_test(clause: Any) -> bool:
    tests = (operators.is_, operators.is_not)
    return getattr(clause, "operator", None) in tests and isinstance(getattr(clause, "right", None), Null)


def _refuse_distinct(columns: Any) -> None:
    """Envelopes of equal values differ, so rows are told apart by the row key only: it must be among the columns."""
    bases = {base for column in columns for base in column.base_columns}
    for column in filter(is_sealed, columns):
        tables = [base.table for base in column.base_columns if isinstance(getattr(base, "table", None), Table)]
        if not tables or not set(tables[0].primary_key.columns) <= bases:
            refuse(f"{column.key} is encrypted: DISTINCT and UNION need the primary key beside it")
