"""Generated tables and statements: the protected table behaves as its plain twin, or differs as the docs say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database
from tests.integration.sql.machine.differences import DIFFERENCES, Outcome, allowed
from tests.integration.sql.machine.statements import SETS, STATEMENTS
from tests.integration.sql.machine.tables import Shape, shapes

Connection = psycopg.Connection[Any]
SCHEMAS = ("plain", "sealed")
DOCS = Path(__file__).parents[4] / "docs/protected-tables.md"
# To make a failure small takes minutes: MACHINE_SHRINK=1 does.
PHASES = [phase for phase in Phase if phase is not Phase.shrink or os.environ.get("MACHINE_SHRINK")]
EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "25"))


@pytest.fixture
def connection(shared_db: Database) -> Iterator[Connection]:
    """The superuser's, who makes the tables; statements run as alice."""
    yield shared_db.admin
    shared_db.admin.execute("RESET ROLE; DROP SCHEMA IF EXISTS plain, sealed CASCADE")


# Both columns by the default suite; one by suite 4, whose equal values have equal envelopes.
OPTIONS = {"default": '["s", "m"]', "suite 4": '{"s": {}, "m": {"suite": 4, "bind": "column"}}'}


def build(connection: Connection, shape: Shape, options: str = OPTIONS["default"]) -> None:
    for schema in SCHEMAS:
        connection.execute("RESET ROLE; RESET ALL; SET client_min_messages = error")
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}")
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO alice; SET search_path = {schema}, public")
        for statement in shape.ddl():
            connection.execute(statement.replace("{schema}", schema))
        if schema == "sealed":
            connection.execute(f"CALL envelope.protect('t', '{options}')")


def outcome(connection: Connection, schema: str, statement: str) -> Outcome:
    """In a transaction of its own, so that an error leaves nothing."""
    try:
        with connection.transaction():
            cursor = connection.execute(statement.replace("{schema}", schema))
            while cursor.nextset():
                pass
            rows = tuple(sorted(map(repr, cursor.fetchall()))) if cursor.description else ()
            return Outcome(rows, cursor.rowcount)
    except psycopg.Error as error:
        return Outcome(sqlstate=error.sqlstate or "?")


def stored(connection: Connection, schema: str, shape: Shape) -> list[Any]:
    columns = "id, n, s, m" + (", g" if shape.generated else "") + (", p" if shape.parents else "")
    found = connection.execute(f"SELECT {columns} FROM {schema}.t ORDER BY 1, 2, 3, 4").fetchall()
    # Statement triggers fire once for each row of an INSERT or UPDATE: test_pinned_differences.py.
    logged = connection.execute(
        f"SELECT op, at, who, replace(path, '{schema}', '-'), n FROM {schema}.log"
        " WHERE op = 'DELETE' OR at NOT IN ('first', 'last')"
    ).fetchall()
    children = connection.execute(f"SELECT t FROM {schema}.c ORDER BY 1").fetchall() if shape.children else []
    return [found, sorted(map(repr, logged)), children]


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(
    shapes(),
    st.lists(st.tuples(st.none() | SETS, STATEMENTS), min_size=1, max_size=7),
    st.sampled_from(sorted(OPTIONS)),
)
def test_a_protected_table_behaves_as_the_plain_one(
    connection: Connection, shape: Shape, statements: list[tuple[str | None, str]], options: str
) -> None:
    build(connection, shape, OPTIONS[options])
    for setting, statement in statements:
        seen = {}
        for schema in SCHEMAS:
            connection.execute(f"RESET ROLE; RESET ALL; SET search_path = {schema}, public")
            if setting:
                connection.execute(setting.replace("{schema}", schema))
            connection.execute("SET ROLE alice")
            seen[schema] = outcome(connection, schema, statement)
        connection.execute("RESET ROLE; RESET ALL")
        plain, sealed = seen["plain"], seen["sealed"]
        left, right = (stored(connection, schema, shape) for schema in SCHEMAS)
        if plain != sealed or left != right:
            assert allowed(shape, statement, plain, sealed), (shape, setting, statement, plain, sealed, left, right)
            event(f"differs: {statement[:20]}")
            return


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.docs)
def test_the_docs_tell_every_difference(difference: Any) -> None:
    assert difference.docs in DOCS.read_text()
