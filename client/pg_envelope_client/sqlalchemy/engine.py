"""Teaches an engine: models, queries, reflection and Alembic see the table that the view stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Column, Engine, Select, Table, event
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.dialects.postgresql.base import PGCompiler, PGDialect
from sqlalchemy.engine.reflection import ObjectKind
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import visitors
from sqlalchemy.types import UserDefinedType

from pg_envelope_client import relations
from pg_envelope_client.relations import Relations
from pg_envelope_client.sealing.client import KeyClient
from pg_envelope_client.sqlalchemy.client_keys import KEYS, EngineKeys
from pg_envelope_client.sqlalchemy.compiling import (
    KNOWN,
    OrderCompiler,
    SealingCompiler,
    encrypted_columns,
    into,
    known,
    relations_of,
)
from pg_envelope_client.sqlalchemy.writing import SealingContext, prepared

# What the base table says of an envelope or a token under a key that is not active any more.
NOT_ACTIVE = "55000"
# What the catalog of the base table tells, and not that of the view.
OF_BASE = (
    "get_multi_pk_constraint",
    "get_multi_foreign_keys",
    "get_multi_indexes",
    "get_multi_unique_constraints",
    "get_multi_check_constraints",
    "get_multi_table_options",
)
OF_VIEW = ("get_multi_columns", "get_multi_table_comment")
COLUMNS = "columns"
STORED = ("nullable", "identity", "computed", "autoincrement")


class AddedColumn(UserDefinedType[str]):
    """The type of columns that the package adds, which are left out of reflected tables."""

    cache_ok = True


def install(engine: Engine | AsyncEngine, keys: KeyClient | None = None) -> None:
    """Teaches an engine which tables are protected: with each new connection it asks the database.

    With `keys` it seals and opens the columns whose type is Encrypted(...). Errors and logs of the engine do not show
    parameters any more.

    From then on `on_conflict_do_update` and `on_conflict_do_nothing` with a target write to the upsert relation, GROUP
    BY the primary key works, and reflection and Alembic see tables and not views. After `protect` or `allow_upsert`
    dispose of the engine, or start again. Raises TypeError for an engine of another database.
    """
    sync: Engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    dialect = sync.dialect
    if not isinstance(dialect, PGDialect):
        raise TypeError("pg_envelope is for PostgreSQL")
    if keys is not None:
        _seal(sync, keys)
    if hasattr(dialect, KNOWN):
        return
    setattr(dialect, KNOWN, {})
    _compile_with(dialect, OrderCompiler)
    sync.hide_parameters = True
    event.listen(sync, "handle_error", _without_parameters)
    _teach_types(dialect, ["envelope_search.token", "envelope_search.grams", "envelope.input"])
    event.listen(sync, "connect", lambda connection, _: _learn(sync, connection))
    event.listen(sync, "before_execute", _grouped, retval=True)
    _reflect(dialect)


def _compile_with(dialect: Any, compiler: type) -> None:
    if not issubclass(dialect.statement_compiler, compiler):
        dialect.statement_compiler = type(compiler.__name__, (compiler, dialect.statement_compiler), {})


def _without_parameters(context: Any) -> None:
    """Takes the parameters out of the error itself, too: a collector of errors may send its attributes elsewhere."""
    if context.sqlalchemy_exception is not None:
        context.sqlalchemy_exception.params = None


def _seal(engine: Engine, keys: KeyClient) -> None:
    """Gives an engine its keys. A second call replaces them."""
    dialect: Any = engine.dialect
    is_new = not hasattr(dialect, KEYS)
    setattr(dialect, KEYS, EngineKeys(keys))
    if not is_new:
        return
    _compile_with(dialect, SealingCompiler)
    dialect.execution_ctx_cls = type("SealingContext", (SealingContext, dialect.execution_ctx_cls), {})
    event.listen(engine, "before_execute", prepared, retval=True)
    event.listen(engine, "handle_error", _refresh)


def _refresh(context: Any) -> None:
    """Reads the key catalog again before the next try, when a key was retired under this client."""
    if getattr(context.original_exception, "sqlstate", None) == NOT_ACTIVE:
        found: EngineKeys = getattr(context.dialect, KEYS)
        found.forget()
        found.client.refresh()


def _learn(engine: Engine, connection: Any) -> None:
    """Reads what is protected. What was compiled before may name other relations."""
    dialect: Any = engine.dialect
    cursor = connection.cursor()
    try:
        found = relations.read(cursor)
    finally:
        cursor.close()
        connection.rollback()
    now = {(table.schema, table.name): table for table in found}
    if now != known(dialect):
        known(dialect).clear()
        known(dialect).update(now)
        if engine._compiled_cache is not None:
            engine._compiled_cache.clear()
    for table in found:
        _teach_types(dialect, table.types)


def _teach_types(dialect: PGDialect, names: Iterable[str]) -> None:
    dialect.ischema_names = {**dialect.ischema_names, **dict.fromkeys(names, AddedColumn)}


@compiles(Insert, "postgresql")
def _upsert(statement: Insert, compiler: PGCompiler, **options: Any) -> str:
    """Writes INSERT ... ON CONFLICT to the upsert relation, under the table's own name."""
    text: str = compiler.visit_insert(statement, **options)  # type: ignore[no-untyped-call]
    target = _upsert_relation(compiler.dialect, statement)
    return text if target is None else into(compiler, statement.table, target, text)


def _upsert_relation(dialect: Any, statement: Insert) -> str | None:
    found = relations_of(dialect, statement.table)
    if found is None or statement._post_values_clause is None or encrypted_columns(statement.table):
        return None
    return found.upsert


def _grouped(connection: Any, statement: Any, several: Any, values: Any, options: Any) -> tuple[Any, Any, Any]:  # noqa: ARG001
    """Adds to GROUP BY what the primary key of a table would stand for, because a view has none."""
    if isinstance(statement, Select) and statement._group_by_clauses:
        missing = list(_determined(connection.dialect, statement))
        statement = statement.group_by(*missing) if missing else statement
    return statement, several, values


def _determined(dialect: Any, statement: Select[Any]) -> Iterator[Column[Any]]:
    grouped = set(_columns(statement._group_by_clauses))
    used = [*statement.selected_columns, *statement._order_by_clauses, *statement._having_criteria]
    for column in dict.fromkeys(_columns(used)):
        keys = column.table.primary_key.columns if relations_of(dialect, column.table) else ()
        if keys and column not in grouped and all(key in grouped for key in keys):
            yield column


def _columns(clauses: Iterable[Any]) -> Iterator[Column[Any]]:
    for clause in clauses:
        for found in visitors.iterate(clause):
            plain = getattr(found, "_deannotate", lambda found=found: found)()
            if isinstance(plain, Column) and isinstance(plain.table, Table):
                yield plain.table.c.get(plain.key, plain)


def _reflect(dialect: PGDialect) -> None:
    """Replaces the methods by which SQLAlchemy reads the catalog, for this dialect alone."""
    for name in OF_BASE:
        setattr(dialect, name, _read_base(dialect, getattr(dialect, name), name))
    for name in OF_VIEW:
        setattr(dialect, name, _read_view(dialect, getattr(dialect, name), name))
    dialect.get_table_names = _table_names(dialect, dialect.get_table_names)  # type: ignore[method-assign]
    dialect.get_view_names = _view_names(dialect, dialect.get_view_names)  # type: ignore[method-assign]


def _names(dialect: PGDialect, schema: str | None) -> dict[str, Relations]:
    """Returns the protected tables of a schema, by name."""
    wanted = schema or dialect.default_schema_name
    return {name: found for (of, name), found in known(dialect).items() if of == wanted}


def _table_names(dialect: PGDialect, read: Callable[..., list[str]]) -> Callable[..., list[str]]:
    def names(connection: Any, schema: str | None = None, **options: Any) -> list[str]:
        shown = {found.base: name for name, found in _names(dialect, schema).items()}
        return [shown.get(name, name) for name in read(connection, schema=schema, **options)]

    return names


def _view_names(dialect: PGDialect, read: Callable[..., list[str]]) -> Callable[..., list[str]]:
    def names(connection: Any, schema: str | None = None, **options: Any) -> list[str]:
        known = _names(dialect, schema)
        ours = {*known, *(found.upsert for found in known.values())}
        return [name for name in read(connection, schema=schema, **options) if name not in ours]

    return names


def _read_base(dialect: PGDialect, read: Callable[..., Any], what: str) -> Callable[..., Any]:
    def rows(connection: Any, schema: str | None, filter_names: Any, scope: Any, kind: Any, **options: Any) -> Any:
        known = _names(dialect, schema)
        wanted = filter_names and [known[name].base if name in known else name for name in filter_names]
        shown = {found.base: name for name, found in known.items()}
        found = read(connection, schema=schema, filter_names=wanted, scope=scope, kind=kind, **options)
        for (of, name), value in found:
            shown_name = shown.get(name, name)
            yield (of, shown_name), _as_shown(dialect, what, schema, value, known.get(shown_name))

    return rows


def _as_shown(dialect: PGDialect, what: str, schema: str | None, value: Any, table: Relations | None) -> Any:
    if what == "get_multi_foreign_keys":
        return [_shown_key(dialect, schema, key) for key in value]
    if what == "get_multi_check_constraints":
        return [check for check in value if check["name"] not in relations.CHECKS]
    if what == "get_multi_indexes" and table is not None:
        return [_shown_index(index, table) for index in value if not _is_made_by_search(index, table)]
    if what == "get_multi_unique_constraints" and table is not None:
        return [*value, *_uniques(table)]
    return value


def _shown_key(dialect: PGDialect, schema: str | None, key: Mapping[str, Any]) -> dict[str, Any]:
    shown = {found.base: name for name, found in _names(dialect, key["referred_schema"] or schema).items()}
    return {**key, "referred_table": shown.get(key["referred_table"], key["referred_table"])}


def _shown_index(index: Mapping[str, Any], table: Relations) -> dict[str, Any]:
    """Shows an index of tokens as one of the column that it finds, or as that of the UNIQUE constraint."""
    shown = {**index, "column_names": [table.searches.get(name, name) for name in index["column_names"]]}
    return {**shown, "duplicates_constraint": index["name"]} if index["name"] in table.uniques else shown


def _is_made_by_search(index: Mapping[str, Any], table: Relations) -> bool:
    """Tells whether `protect` or `add_search` made an index that no index of the plain table stands behind."""
    (name, *others) = index["column_names"]
    return not others and name in table.searches and index["name"] == f"{table.name}_{name}_idx"


def _uniques(table: Relations) -> Iterator[dict[str, Any]]:
    for name, found in table.uniques.items():
        columns = [table.searches.get(column, column) for column in found["columns"]]
        details = {"postgresql_include": [], "postgresql_nulls_not_distinct": found["nulls_not_distinct"]}
        yield {"name": name, "column_names": columns, "comment": None, "dialect_options": details}


def _read_view(dialect: PGDialect, read: Callable[..., Any], what: str) -> Callable[..., Any]:
    def rows(connection: Any, schema: str | None, filter_names: Any, scope: Any, kind: Any, **options: Any) -> Any:
        known = _names(dialect, schema)
        ours = {*known, *(found.base for found in known.values())}
        ask: dict[str, Any] = {"schema": schema, "scope": scope, **options}
        for (of, name), value in read(connection, filter_names=filter_names, kind=kind, **ask):
            if name not in ours:
                yield (of, name), value
        views = [name for name in known if ObjectKind.TABLE in kind and (not filter_names or name in filter_names)]
        if not views:
            return
        bases = [known[name].base for name in views]
        below = dict(read(connection, filter_names=bases, kind=ObjectKind.TABLE, **ask)) if COLUMNS in what else {}
        for (of, name), value in read(connection, filter_names=views, kind=ObjectKind.VIEW, **ask):
            yield (of, name), _as_table(value, below[of, known[name].base]) if below else value

    return rows


def _as_table(columns: list[dict[str, Any]], stored: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the columns of the table, with what the base table knows of them, and without search columns."""
    known = {column["name"]: {key: column[key] for key in STORED if key in column} for column in stored}
    shown = [column for column in columns if not isinstance(column["type"], AddedColumn)]
    return [{**column, **known.get(column["name"], {})} for column in shown]
