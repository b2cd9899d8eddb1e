"""Reads samples of the columns of a database: only tables, only built-in types, so that no code of an owner runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from psycopg import sql

from pg_envelope_client.statements import Query

if TYPE_CHECKING:
    from pg_envelope_client.database import ServerSession

CAREFUL = (
    "SET search_path = pg_catalog, pg_temp",
    "SET default_transaction_read_only = on",
    # Else row policies run with this role's rights. A table that has some is refused.
    "SET row_security = off",
    "SET lock_timeout = '2s'",
    "SET statement_timeout = '30s'",
    "SET DateStyle = 'ISO'",
    "SET TimeZone = 'UTC'",
    "SET client_encoding = 'UTF8'",
)
# A sample reads about so many bytes of a table, and of each value so many letters.
BYTES, LETTERS = 8_192_000, 500


class SampledColumn(NamedTuple):
    """A column with some of its values, or with the reason why there are none."""

    schema: str
    relation: str
    name: str
    values: list[str]
    refused: str = ""


def samples(server: ServerSession, columns: Iterable[Mapping[str, Any]], rows: int) -> Iterator[SampledColumn]:
    """Yields each column that is not protected. It has up to `rows` values, or none where its type is not built in."""
    for setting in CAREFUL:
        server.run(Query(setting))
    for found in columns:
        if not found["is_protected"]:
            yield _sampled(server, found, rows)


def _sampled(server: ServerSession, found: Mapping[str, Any], rows: int) -> SampledColumn:
    column = SampledColumn(found["schema"], found["relation"], found["column"], [])
    try:
        values = server.rows(_sample(found, rows)) if found["is_readable"] else []
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        # Its text may hold a value.
        return column._replace(refused=f"cannot be read: SQLSTATE {error.sqlstate}")
    return column._replace(values=[row["value"].decode("utf-8", "replace") for row in values])


def _sample(found: Mapping[str, Any], rows: int) -> Query:
    name = sql.Identifier(found["column"])
    # As bytes: a database in SQL_ASCII holds texts that are no text.
    text = sql.SQL(
        "SELECT pg_catalog.convert_to(pg_catalog.left({name}::pg_catalog.text, {letters}), 'UTF8') AS value"
        " FROM {table} TABLESAMPLE SYSTEM ({share}) WHERE {name} IS NOT NULL LIMIT {rows}"
    ).format(
        name=name,
        letters=sql.Literal(LETTERS),
        table=sql.Identifier(found["stored_schema"], found["stored_relation"]),
        share=_share(found["stored_oid"]),
        rows=sql.Literal(rows),
    )
    return Query(text.as_string().replace("%", "%%"))


def _share(relation: int) -> sql.Composed:
    """Returns the share of a table to read, in per cent. The size of a table waits for its lock, so it is asked for in
    the statement that needs the lock anyway.
    """
    return sql.SQL(
        "100.0 * {bytes} / (SELECT greatest({bytes}, pg_catalog.pg_relation_size({oid}::oid),"
        " sum(pg_catalog.pg_relation_size(relid))) FROM pg_catalog.pg_partition_tree({oid}::oid))"
    ).format(bytes=sql.Literal(BYTES), oid=sql.Literal(relation))
