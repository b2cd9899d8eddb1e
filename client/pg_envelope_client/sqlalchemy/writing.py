"""What an engine with keys does before it sends a statement: it makes envelopes and tokens of the values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Table, bindparam, null, text
from sqlalchemy.dialects.postgresql.dml import OnConflictDoUpdate
from sqlalchemy.sql import operators
from sqlalchemy.sql.dml import Insert, Update
from sqlalchemy.sql.elements import BooleanClauseList, ClauseElement, Null

from pg_envelope_client.sqlalchemy.client_keys import EngineKeys, keys_of, refuse, run
from pg_envelope_client.sqlalchemy.compiling import base_of, encrypted_columns
from pg_envelope_client.sqlalchemy.encrypted import SoughtToken, StoredToken, Unsealed, is_sealed, plain_value

# One number for each row, from the sequence of the key.
RESERVED = text(
    "SELECT pg_catalog.nextval(pg_catalog.pg_get_serial_sequence(:base, :key)::pg_catalog.regclass)"
    " FROM pg_catalog.generate_series(1, CAST(:count AS pg_catalog.int4))"
)
Rows = list[dict[str, Any]]


def prepared(connection: Any, statement: Any, several: Any, values: Any, _: Any) -> tuple[Any, Any, Any]:
    """The listener of before_execute: adds to INSERT and UPDATE what belongs to the values that will be sealed."""
    if not isinstance(statement, Insert | Update) or not encrypted_columns(statement.table):
        return statement, several, values
    rows: Rows = [dict(row) for row in several or [values]]
    if isinstance(statement, Insert):
        statement, rows = _prepared_insert(connection, statement, rows)
    else:
        statement, rows = _prepared_update(connection, statement, rows)
    return (statement, rows, {}) if several else (statement, [], rows[0])


def _prepared_insert(connection: Any, statement: Any, rows: Rows) -> tuple[Any, Rows]:
    columns = encrypted_columns(statement.table)
    if statement._select_names:
        refuse(f"{statement.table.name} has encrypted columns: INSERT ... SELECT cannot seal values")
    sets = _given(statement)
    for column in columns:
        for given in sets:
            _refuse_expression(column, given)
    statement = _with_conflict(connection.dialect, statement)
    written = {*rows[0], *(name for given in sets for name in given)}
    _refuse_tokens(statement.table, written)
    key = _reserved_key(
        connection.dialect, statement.table, [one for one in columns if one.key in written or one.default]
    )
    if key is None or key.key in written:
        return statement, rows
    return _with_keys(connection, statement, rows, key)


def _given(statement: Any) -> list[dict[str, Any]]:
    """Returns what `.values()` was given, by the keys of columns."""
    sets = [statement._values] if statement._values else []
    sets += [given for several in statement._multi_values for given in several]
    return [{_key(column): value for column, value in given.items()} for given in sets]


def _key(column: Any) -> str:
    return column if isinstance(column, str) else str(column.key)


def _refuse_expression(column: Any, given: Mapping[str, Any]) -> None:
    value = given.get(column.key)
    # A parameter of another type would go to the server as it is.
    ours = isinstance(value, Null) or (isinstance(value, BindParameter) and (value.type._isnull or is_sealed(value)))
    if isinstance(value, ClauseElement) and not ours:
        refuse(f"{column.key} is encrypted: it takes a value, and no expression of SQL")


def _refuse_tokens(table: Table, written: set[str]) -> None:
    for column in table.c:
        if isinstance(column.type, StoredToken) and column.key in written:
            refuse(f"{column.key} is the search column of encrypted values: it is never written by itself")


def _reserved_key(dialect: Any, table: Table, columns: list[Any]) -> Any:
    """Returns the primary key that the database would number, if values are bound to it."""
    key = table._autoincrement_column
    if key is None or key.default is not None:
        return None
    bound = run(dialect, lambda: {name for one in columns for name in keys_of(dialect).column(one.type.field).row_key})
    return key if key.name in bound else None


def _with_keys(connection: Any, statement: Any, rows: Rows, key: Any) -> tuple[Any, Rows]:
    """Takes the numbers from the sequence first, because an envelope is bound to its row."""
    if key.identity is not None and key.identity.always:
        refuse(
            f"{key.name} is GENERATED ALWAYS, and the key must be known before the value is sealed: BY DEFAULT works"
        )
    multi = [dict(given) for several in statement._multi_values for given in several]
    numbers = iter(_numbers(connection, key, len(multi) or len(rows)))
    if multi:
        statement = statement._generate()
        statement._multi_values = ([{**given, key: next(numbers)} for given in multi],)
        return statement, rows
    if statement._values and rows == [{}]:
        return statement.values({key: next(numbers)}), rows
    return statement, [{**row, key.key: next(numbers)} for row in rows]


def _numbers(connection: Any, key: Any, count: int) -> list[int]:
    preparer, table = connection.dialect.identifier_preparer, key.table
    base = preparer.quote(base_of(connection.dialect, table))
    name = f"{preparer.quote_schema(table.schema)}.{base}" if table.schema else base
    found = connection.execute(RESERVED, {"base": name, "key": key.name, "count": count}).scalars().all()
    if None in found:
        refuse(f"{table.name}.{key.name} has no sequence, and a value is bound to it: give the key with the row")
    return [int(one) for one in found]


def _with_conflict(dialect: Any, statement: Any) -> Any:
    """ON CONFLICT may move envelopes within the row key that they are bound to, and their tokens go with them."""
    clause = getattr(statement, "_post_values_clause", None)
    if not isinstance(clause, OnConflictDoUpdate):
        return statement
    set_ = {_key(column): value for column, value in clause.update_values_to_set.items()}
    tokens = {}
    for column in encrypted_columns(statement.table):
        _check_set(dialect, clause, column, set_)
        if column.key in set_ and column.type.search:
            value = set_[column.key]
            of = statement.table.c[column.type.search]
            tokens[of] = null() if isinstance(value, Null) else value.table.c[of.key]
    if not tokens:
        return statement
    statement, clause = statement._generate(), clause._clone()
    clause.update_values_to_set = {**clause.update_values_to_set, **tokens}
    statement._post_values_clause = clause
    return statement


def _check_set(dialect: Any, clause: Any, column: Any, set_: Mapping[str, Any]) -> None:
    bound = _bound(dialect, column)
    target = {_key(one) for one in clause.inferred_target_elements or ()}
    if column.key not in set_:
        if bound & set(set_):
            refuse(f"{column.key} is bound to {', '.join(sorted(bound))}: ON CONFLICT cannot change that")
        return
    value = set_[column.key]
    excluded = getattr(getattr(value, "table", None), "name", None) == "excluded" and value.key == column.key
    if isinstance(value, Null) or (excluded and bound <= target and not bound & set(set_)):
        return
    if not excluded:
        refuse(f"{column.key} is encrypted: ON CONFLICT sets it to excluded.{column.key} or NULL only")
    refuse(
        f"{column.key} is bound to {', '.join(sorted(bound))}: ON CONFLICT on another column would leave a value that"
        " does not open. Look the row up, and update it by its key"
    )


def _prepared_update(connection: Any, statement: Any, rows: Rows) -> tuple[Any, Rows]:
    given = {_key(column): value for column, value in (statement._values or {}).items()}
    written = {*given, *rows[0]}
    _refuse_tokens(statement.table, written)
    for column in encrypted_columns(statement.table):
        _refuse_expression(column, given)
        _refuse_moved(connection.dialect, column, given, written)
        token = statement.table.c.get(column.type.search) if column.type.search else None
        if token is not None and column.key in given:
            if statement._maintain_values_ordering:
                refuse(f"{column.key} is encrypted: ordered_values() cannot set it, values() can")
            statement = statement.values({token: _token_of(given[column.key], token.type)})
        elif token is not None and column.key in rows[0]:
            rows = [{**row, token.key: row.get(column.key)} for row in rows]
    return statement, rows


def _bound(dialect: Any, column: Any) -> set[str]:
    """Returns the keys of the columns that an encrypted column is bound to."""
    names = run(dialect, lambda: keys_of(dialect).column(column.type.field).row_key)
    return {one.key for one in column.table.c if one.name in names}


def _refuse_moved(dialect: Any, column: Any, given: Mapping[str, Any], written: set[str]) -> None:
    bound = _bound(dialect, column)
    moved = {name for name in bound if name in written or column.table.c[name].onupdate is not None}
    names = ", ".join(sorted(moved))
    if moved and column.key not in written:
        refuse(f"{column.key} is bound to {names}: set {column.key} in the same UPDATE, so that it is sealed anew")
    for value in (given[name] for name in moved & set(given)):
        if isinstance(value, ClauseElement) and not (isinstance(value, BindParameter) and value.unique):
            refuse(f"{column.key} is bound to {names}: SET takes a value for it, and no expression of SQL")


def _token_of(value: Any, kind: StoredToken) -> Any:
    return bindparam(None, value.value, kind) if isinstance(value, BindParameter) else null()


class Write(NamedTuple):
    """One envelope of a statement: the names of the parameters of its value and of its row key."""

    column: Any
    name: str
    bound: tuple[str | None, ...]
    kinds: tuple[Any, ...]


def writes(compiled: Any, keys: EngineKeys) -> list[Write]:
    """Finds the row of each value that is to be sealed. Refuses a value whose row the statement does not name."""
    left = {name for name, bind in compiled.pg_envelope_binds.items() if is_sealed(bind)}
    found: list[Write] = []
    if left and (compiled.isinsert or compiled.isupdate):
        statement = compiled.compile_state.statement
        names = _names_of_insert(compiled) if compiled.isinsert else [_names_of_update(compiled, statement)]
        for row in names:
            found += [_write(one, row, keys) for one in encrypted_columns(statement.table) if one.key in row]
    left -= {one.name for one in found}
    if left:
        refuse("a value of an encrypted column stands where its row is not known: give it to values(), by the column")
    return found


def _write(column: Any, row: Mapping[str, str], keys: EngineKeys) -> Write:
    bound = keys.column(column.type.field).row_key
    columns = [column.table.c.get(name) for name in bound]
    names = tuple(None if one is None else row.get(one.key) for one in columns)
    return Write(column, row[column.key], names, tuple(None if one is None else one.type for one in columns))


def _names_of_insert(compiled: Any) -> list[dict[str, str]]:
    """Returns the parameters of each row of VALUES, by the keys of columns."""
    state, names = compiled.compile_state, set(compiled.bind_names.values())
    count = len(state._multi_parameters) if state._has_multi_parameters else 1
    columns, key = state.statement.table.c, compiled._within_exec_param_key_getter
    made = []
    for place in range(count):
        # The first row's Python-side defaults have the plain name.
        wanted = {one.key: [f"{key(one)}_m{place}", *([key(one)] if place == 0 else [])] for one in columns}
        made.append({name: found for name, among in wanted.items() for found in among if found in names})
    return made


def _names_of_update(compiled: Any, statement: Any) -> dict[str, str]:
    """Returns the parameters of SET, and of `WHERE column = value` for columns that are not set."""
    names, key = compiled.bind_names, compiled._within_exec_param_key_getter
    pinned: dict[str, str] = {}
    for criterion in statement._where_criteria:
        pinned |= _pinned(criterion, statement.table, names)
    crud = {name for bind, name in names.items() if bind._is_crud}
    return {**pinned, **{one.key: key(one) for one in statement.table.c if key(one) in crud}}


def _pinned(criterion: Any, table: Any, names: Any) -> dict[str, str]:
    if isinstance(criterion, BooleanClauseList) and criterion.operator is operators.and_:
        return {name: found for one in criterion.clauses for name, found in _pinned(one, table, names).items()}
    if getattr(criterion, "operator", None) is not operators.eq:
        return {}
    column, value = criterion.left, criterion.right
    plain = column._deannotate() if hasattr(column, "_deannotate") else column
    if isinstance(value, BindParameter) and getattr(plain, "table", None) is table._deannotate() and value in names:
        return {plain.key: names[value]}
    return {}


class SealingContext:
    """What `install` adds to the execution context of a dialect: values are sealed when their rows are known."""

    compiled: Any
    dialect: Any
    compiled_parameters: Any
    parameters: Any

    def pre_exec(self) -> None:
        super().pre_exec()  # type: ignore[misc]
        if getattr(self.compiled, "pg_envelope_binds", None):
            self.parameters = run(self.dialect, self._sealed)
        fields = getattr(self.compiled, "pg_envelope_fields", None)
        if fields and self.dialect.is_async:
            # Rows are read outside of the driver's own wait, where a key that is asked for blocks the event loop.
            run(self.dialect, lambda: keys_of(self.dialect).warm(frozenset(fields)))

    def _sealed(self) -> list[Any]:
        keys, binds = keys_of(self.dialect), self.compiled.pg_envelope_binds
        found = writes(self.compiled, keys)
        tokens = {name: bind.type for name, bind in binds.items() if not is_sealed(bind)}
        made = []
        for given, parameters in zip(self.compiled_parameters, self.parameters, strict=True):
            sealed: dict[str | None, Any] = {one.name: self._envelope(one, given, keys) for one in found}
            sealed |= {name: self._token(kind, given[name], keys) for name, kind in tokens.items()}
            made.append(_replaced(parameters, sealed))
        return made

    def _envelope(self, write: Write, given: Mapping[str, Any], keys: EngineKeys) -> bytes | None:
        kind = write.column.type
        value = plain_value(kind.plain, self.dialect)(given[write.name])
        if value is None:
            return None
        row_key = tuple(
            None if name is None else plain_value(of, self.dialect)(given[name])
            for name, of in zip(write.bound, write.kinds, strict=True)
        )
        key = keys.column(kind.field)
        missing = [name for name, part in zip(key.row_key, row_key, strict=True) if part is None]
        if missing:
            refuse(
                f"{write.column.key} is bound to {', '.join(key.row_key)}, and the statement does not give"
                f" {', '.join(missing)}: INSERT needs it among the values, UPDATE needs WHERE {missing[0]} = a value"
            )
        return key.seal(value, row_key)

    def _token(self, kind: Any, value: Any, keys: EngineKeys) -> Any:
        search, convert = keys.search(kind.place), plain_value(kind.plain, self.dialect)
        if not isinstance(kind, SoughtToken):
            return search.stored(convert(value))
        if kind.several:
            return [search.token(convert(one)) for one in value]
        return search.token(convert(value))


def _replaced(parameters: Any, sealed: Mapping[str | None, Any]) -> Any:
    if isinstance(parameters, Mapping):
        return {name: _or_sealed(value, sealed) for name, value in parameters.items()}
    return type(parameters)(_or_sealed(value, sealed) for value in parameters)


def _or_sealed(value: Any, sealed: Mapping[str | None, Any]) -> Any:
    return sealed[value.name] if isinstance(value, Unsealed) else value
