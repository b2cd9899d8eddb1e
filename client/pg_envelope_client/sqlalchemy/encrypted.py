"""The type of an encrypted column: what it binds, what it opens, and which comparisons it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Enum,
    Label,
    Null,
    Numeric,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    any_,
    bindparam,
    event,
    func,
    not_,
    select,
    type_coerce,
)
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.types import TypeEngine, UserDefinedType, to_instance

from pg_envelope_client.sqlalchemy.carried import CarriedEnvelope
from pg_envelope_client.sqlalchemy.client_keys import Field, keys_of, refuse

Convert = Callable[[Any], Any]
NO_LITERALS = "a value of an encrypted column is never written into the text of a statement"
CAN = "==, !=, in_(), not_in(), is_(None) and is_not(None)"


class Unsealed:
    """Stands for a value among the parameters until it is sealed. No driver takes it, and it shows nothing."""

    __slots__ = ("name",)

    def __init__(self, name: str | None = None) -> None:
        self.name = name

    def __repr__(self) -> str:
        return "<a value that is not sealed>"


def hidden(_: Any) -> Unsealed:
    """The bind processor of values that an engine without `install` must not send."""
    return Unsealed()


class _Token(UserDefinedType[Any]):
    """What search columns have in common. `place` is the table and the search column."""

    def __init__(self, place: Field, plain: TypeEngine[Any]) -> None:
        self.place, self.plain = place, plain

    def bind_processor(self, dialect: Any) -> Convert:  # noqa: ARG002
        return hidden

    def literal_processor(self, dialect: Any) -> NoReturn:  # noqa: ARG002
        refuse(NO_LITERALS)


class StoredToken(_Token):
    """The type of a search column, and of the values that go into it beside the envelopes."""

    cache_ok = True


class SoughtToken(_Token):
    """The type of a value that is looked for, or with `several` of a list of values."""

    cache_ok = True
    render_bind_cast = True

    def __init__(self, place: Field, plain: TypeEngine[Any], several: bool) -> None:
        super().__init__(place, plain)
        self.several = several


class HiddenColumn(Column[Any]):
    """The search column of a table. A copy of the table has its own already when this one is copied."""

    inherit_cache = True

    def _set_parent(self, parent: Any, **options: Any) -> None:
        if self.name not in parent.c:
            super()._set_parent(parent, **options)


class EncryptedComparator(TypeDecorator.Comparator[Any]):
    """Finds values by the search column. Refuses what the database cannot compute of an envelope."""

    def operate(self, op: Any, *other: Any, **_: Any) -> Any:
        kind: Encrypted = self.type  # type: ignore[assignment]
        if op in NULLS and _is_null(other[0]):
            return super().operate(NULLS[op], None)
        if op in (operators.eq, operators.ne) and _is_expression(other[0]):
            # SQLAlchemy itself tells columns apart so. In a statement the compiler refuses it.
            return super().operate(op, other[0])
        if op not in LOOKUPS:
            refuse(f"{self._name} is encrypted: {_spoken(op)} is not possible; {CAN} are")
        if kind.search is None:
            refuse(f"{self._name} is encrypted and has no search column: Encrypted(..., search=...) names it")
        found = kind.finds(self._beside(kind.search), LOOKUPS[op], self._sought(op, other[0]))
        return not_(found) if op in (operators.ne, operators.not_in_op) else found

    def reverse_operate(self, op: Any, other: Any, **_: Any) -> Any:  # noqa: ARG002
        refuse(f"{self._name} is encrypted: {_spoken(op)} is not possible; {CAN} are")

    @property
    def _name(self) -> str:
        return str(getattr(self.expr, "key", None) or "the column")

    def _beside(self, name: str) -> ColumnElement[Any]:
        expression = self.expr
        while isinstance(expression, Label):
            expression = expression.element
        found = beside(expression, name)
        if found is None:
            refuse(
                f"{self._name} is encrypted: its search column {name} is not there, so compare it in the inner query"
            )
        return found

    def _sought(self, op: Any, value: Any) -> Any:
        if isinstance(value, BindParameter) and LOOKUPS[op] == EQUAL:
            return value
        if LOOKUPS[op] == EQUAL:
            return value
        if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
            refuse(f"{self._name} is encrypted: in_() takes a list of values, and no query")
        wanted = list(value)
        if any(_is_null(one) for one in wanted):
            refuse(f"{self._name} is encrypted: in_() takes no None; is_(None) finds rows without a value")
        return wanted


EQUAL, ANY = "equal", "any"
NULLS: dict[Any, Any] = {
    operators.is_: operators.is_,
    operators.eq: operators.is_,
    operators.is_not: operators.is_not,
    operators.ne: operators.is_not,
}
LOOKUPS: dict[Any, str] = {operators.eq: EQUAL, operators.ne: EQUAL, operators.in_op: ANY, operators.not_in_op: ANY}


class Encrypted(TypeDecorator[Any]):
    """The type of a protected column: `mapped_column(Encrypted(Text(), ("customer", "email"), search="email_search"))`.

    `plain` is the type of the values, and `field` the table and column as in `KeyClient.field`. `search` names the
    search column by which `==` and `in_` find values. With `client_side` the engine seals and opens values by itself,
    and the server sees envelopes only: `install(engine, keys)`. Without it the server does, through the view.
    """

    impl = Text
    cache_ok = True
    comparator_factory = EncryptedComparator

    def __init__(self, plain: Any, field: tuple[str, str], search: str | None = None, client_side: bool = True) -> None:
        super().__init__()
        self.plain = self.impl = to_instance(plain)
        self.field, self.search, self.client_side = _checked_field(field), search, client_side

    def __repr__(self) -> str:
        return f"Encrypted({self.plain!r}, {self.field!r}, {self.search!r}, {self.client_side!r})"

    def _set_parent(self, parent: Any, outer: bool = False, **options: Any) -> None:
        super()._set_parent(parent, outer=outer, **options)
        if outer:
            parent._on_table_attach(self._with_search_column)

    def _with_search_column(self, column: Column[Any], table: Table) -> None:
        """Adds the search column, where no model, no DDL and no SELECT of all columns sees it. Refuses mixed tables."""
        kinds = {one.type.client_side for one in table.c if isinstance(one.type, Encrypted)}
        if len(kinds) > 1:
            refuse(f"{table.name}: client_side must be the same for all encrypted columns of a table")
        if self.client_side and column.onupdate is not None:
            refuse(f"{table.name}.{column.key}: an encrypted column takes no onupdate")
        if self.search is None or self.search in table.c:
            return
        value = _value_of(column.key) if self.client_side else None
        kind = StoredToken(self.place, self.plain)
        table.append_column(HiddenColumn(self.search, kind, default=value, system=True, _omit_from_statements=True))

    @property
    def place(self) -> Field:
        """The search column, as the key catalog names it."""
        return self.field[0], self.search or ""

    def finds(self, column: ColumnElement[Any], how: str, sought: Any) -> ColumnElement[Any]:
        """Returns the condition that a search column has a value, or one of a list."""
        if not self.client_side:
            return self._found_by_server(column, how, sought)
        wanted = _parameter(sought, SoughtToken(self.place, self.plain, how == ANY))
        # One array, because the operator takes no list.
        return column.op("OPERATOR(envelope_compare.=)", is_comparison=True)(any_(wanted) if how == ANY else wanted)

    def _found_by_server(self, column: ColumnElement[Any], how: str, sought: Any) -> ColumnElement[Any]:
        # A cast to the column's own type would cut or round the value.
        kind = Numeric() if type(self.plain) is Numeric else self.plain
        if how == ANY:
            # The types of search columns have no literals for IN.
            return column.in_(select(func.unnest(bindparam(None, sought, ARRAY(kind)))))
        return column.op("=", is_comparison=True)(_parameter(sought, kind))

    def column_expression(self, column: Any) -> Any:
        return CarriedEnvelope(column) if self.client_side else column

    def bind_processor(self, dialect: Any) -> Convert | None:
        return hidden if self.client_side else super().bind_processor(dialect)

    def literal_processor(self, dialect: Any) -> Any:
        if self.client_side:
            refuse(NO_LITERALS)
        return super().literal_processor(dialect)

    def result_processor(self, dialect: Any, coltype: Any) -> Convert | None:
        if not self.client_side:
            return super().result_processor(dialect, coltype)
        from_plain = python_value(self.plain, dialect)

        def opened(found: Any) -> Any:
            if found is None:
                return None
            if not isinstance(found, list):
                refuse("an envelope came without its row key: select the column of the model, or of an alias of it")
            envelope, *texts = found
            bound = [bytes(text).decode() for text in texts]
            return from_plain(keys_of(dialect).column(self.field).open_bound(bytes(envelope), bound))

        return opened


def _checked_field(field: object) -> Field:
    names = tuple(field) if isinstance(field, tuple | list) else ()
    if len(names) != 2 or not all(isinstance(name, str) and name for name in names):
        refuse('Encrypted(...) takes the table and the column: ("customer", "email")')
    return names


def beside(column: Any, name: str) -> ColumnElement[Any] | None:
    """Returns another column of the table that a column is of, also in an alias or a subquery that has it."""
    table = getattr(column, "table", None)
    bases = [one for one in getattr(column, "base_columns", ()) if isinstance(getattr(one, "table", None), Table)]
    if table is None or not bases or name not in bases[0].table.c:
        return None
    found: ColumnElement[Any] | None = table.corresponding_column(bases[0].table.c[name])
    return found


def is_encrypted(column: Any) -> bool:
    """Tells whether the engine, or the server, seals the values of a column."""
    return isinstance(getattr(column, "type", None), Encrypted)


def is_sealed(column: Any) -> bool:
    """Tells whether the engine seals the values of a column."""
    return is_encrypted(column) and column.type.client_side


def plain_value(kind: TypeEngine[Any], dialect: Any) -> Convert:
    """Returns what makes the value that a key seals out of the value that the model has."""
    if isinstance(kind, TypeDecorator):
        inner = plain_value(kind.impl_instance, dialect)
        return lambda value: inner(kind.process_bind_param(value, dialect))
    if isinstance(kind, Enum):
        return kind.bind_processor(dialect) or _same  # type: ignore[no-untyped-call]
    if isinstance(kind, Uuid) and not kind.as_uuid:
        return lambda value: UUID(value) if isinstance(value, str) else value
    return _same


def python_value(kind: TypeEngine[Any], dialect: Any) -> Convert:
    """Returns what makes the value that the model has out of the value that a key opened."""
    if isinstance(kind, TypeDecorator):
        inner = python_value(kind.impl_instance, dialect)
        return lambda value: kind.process_result_value(inner(value), dialect)
    if isinstance(kind, Enum):
        return kind.result_processor(dialect, None) or _same  # type: ignore[no-untyped-call]
    if isinstance(kind, Uuid) and not kind.as_uuid:
        return lambda value: None if value is None else str(value)
    if isinstance(kind, Numeric) and not kind.asdecimal:
        return lambda value: None if value is None else float(value)
    return _same


def _parameter(sought: Any, kind: TypeEngine[Any]) -> Any:
    return type_coerce(sought, kind) if isinstance(sought, BindParameter) else bindparam(None, sought, kind)


def _same(value: Any) -> Any:
    return value


def _is_null(value: Any) -> bool:
    return value is None or isinstance(value, Null)


def _is_expression(value: Any) -> bool:
    return not isinstance(value, BindParameter) and hasattr(value, "__clause_element__")


def _spoken(op: Any) -> str:
    return str(getattr(op, "opstring", None) or getattr(op, "__name__", op)).removesuffix("_op")


def _value_of(key: str) -> Callable[[Any], Any]:
    """Returns the default of a search column: the value of its column in the same row. NULL is no parameter."""

    def value(context: Any) -> Any:
        column, given = context.current_column, context.current_parameters
        place = column.index + 1 if column._is_multiparam_column else 0
        return given.get(f"{key}_m{place}", None if place else given.get(key))

    return value


@event.listens_for(Mapper, "instrument_class")
def _leave_out_search_columns(mapper: Any, _: Any) -> None:
    found = {column for column in mapper.local_table.c if isinstance(column.type, StoredToken)}
    if found:
        mapper.exclude_properties = {*(mapper.exclude_properties or ()), *found}
