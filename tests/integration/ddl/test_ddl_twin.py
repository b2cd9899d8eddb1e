"""DDL on a protected table's own name leaves what it leaves of a plain twin: columns, constraints, indexes and rows."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database

Connection = psycopg.Connection[Any]

TABLE = """
CREATE SCHEMA {0} AUTHORIZATION owner;
SET ROLE owner;
SET search_path = {0};
CREATE TABLE t (
    id int PRIMARY KEY,
    mail varchar(40) NOT NULL,
    a int DEFAULT 4 CONSTRAINT a_small CHECK (a < 50),
    "B c" text COLLATE "C",
    note text DEFAULT 'none',
    n numeric(6,2) UNIQUE,
    CONSTRAINT has_at CHECK (mail LIKE '%@%'),
    CONSTRAINT mixed CHECK (length(note) > a OR a > 3)
);
COMMENT ON TABLE t IS 'about t';
COMMENT ON COLUMN t.note IS 'about note';
COMMENT ON CONSTRAINT has_at ON t IS 'about has_at';
INSERT INTO t VALUES (1, 'a@example.org', 5, 'x', 'first', 1.5), (2, 'b@example.org', 6, NULL, NULL, NULL);
CREATE VIEW above AS SELECT id, mail FROM t;
CREATE VIEW aside AS SELECT count(*) AS n FROM t;
"""
NAMES = (
    "SELECT c.relname FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relname IN ('t', 'u')"
)
SHAPE = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation, pg_get_expr(d.adbin, d.adrelid),
    col_description(a.attrelid, a.attnum), b.attnotnull
FROM pg_attribute a JOIN pg_attribute b ON b.attrelid = %(base)s::regclass AND b.attname = a.attname
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
BESIDE = r"""
SELECT obj_description(%(table)s::regclass, 'pg_class'),
    ARRAY(SELECT regexp_replace(pg_get_indexdef(indexrelid), ' ON \S+ ', ' ON ') FROM pg_index
        WHERE indrelid = %(base)s::regclass ORDER BY 1),
    ARRAY(SELECT conname || ' ' || pg_get_constraintdef(oid) || ' ' || convalidated || ' '
            || coalesce(obj_description(oid, 'pg_constraint'), '') FROM pg_constraint
        WHERE conrelid = %(base)s::regclass AND conname <> ALL (%(moved)s) ORDER BY 1),
    ARRAY(SELECT conname || ' ' || replace(pg_get_constraintdef(oid), %(base)s::text, %(table)s::text)
        FROM pg_constraint WHERE confrelid = %(base)s::regclass ORDER BY 1)"""
# The CHECKs that move into the triggers of the view. `writes` looks at what they do.
MOVED = ["has_at", "mixed", "renamed"]
WRITES = (
    "INSERT INTO {} (id, mail) VALUES (7, 'seven')",
    "INSERT INTO {} (id, mail) VALUES (7, NULL)",
    "INSERT INTO {} (id, mail) VALUES (7, 'seven@example.org') RETURNING *",
    "INSERT INTO {} (id, mail, a, note) VALUES (8, 'e@x', 2, 'n')",
    "INSERT INTO {} (id, mail, a) VALUES (8, 'e@x', 60)",
    "UPDATE {} SET id = id + 20 WHERE id < 9 RETURNING *",
    "TABLE above",
    "TABLE aside",
    "DELETE FROM {} WHERE id > 20 RETURNING id",
)
names = st.sampled_from(["a", '"B c"', "n", "new", "other"])
sealed_names = st.sampled_from(["mail", "note"])
constraints = st.sampled_from(["a_small", "has_at", "mixed", "t_n_key", "made", "renamed"])
types = st.sampled_from(["bigint", "text", "numeric(8,3)", "varchar(9)"])
defaults = st.sampled_from(["7", "NULL", "'x'"])


def act(statement: str, **values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A statement about `{t}`, the name that the table has by then."""
    return st.fixed_dictionaries(values).map(lambda found: statement.format(**found, t="{t}"))


acts = st.one_of(
    act("ALTER TABLE {t} ADD COLUMN {name} {type} DEFAULT {default}", name=names, type=types, default=defaults),
    act("ALTER TABLE {t} ADD COLUMN IF NOT EXISTS {name} int NOT NULL DEFAULT 3 CHECK ({name} < 9)", name=names),
    act("ALTER TABLE {t} DROP COLUMN {name}", name=names),
    act("ALTER TABLE {t} DROP COLUMN note"),
    act("ALTER TABLE {t} DROP COLUMN {one}, ADD COLUMN {one} int, ADD COLUMN more text", one=names),
    act("ALTER TABLE {t} RENAME {name} TO {other}", name=st.one_of(names, sealed_names), other=names),
    act("ALTER TABLE {t} ALTER {name} TYPE {type} USING {name}::{type}", name=names, type=types),
    act("ALTER TABLE {t} ALTER {name} SET DEFAULT {default}", name=st.one_of(names, sealed_names), default=defaults),
    act("ALTER TABLE {t} ALTER {name} DROP DEFAULT", name=st.one_of(names, sealed_names)),
    act("ALTER TABLE {t} ALTER {name} SET NOT NULL", name=st.one_of(names, sealed_names)),
    act("ALTER TABLE {t} ALTER {name} DROP NOT NULL", name=st.one_of(names, sealed_names)),
    act("ALTER TABLE {t} ADD CONSTRAINT made UNIQUE ({name})", name=names),
    act("ALTER TABLE {t} ADD CONSTRAINT made CHECK ({name} IS NOT NULL) NOT VALID", name=names),
    act("ALTER TABLE {t} DROP CONSTRAINT {name}", name=constraints),
    act("ALTER TABLE {t} RENAME CONSTRAINT {name} TO renamed", name=constraints),
    act("CREATE INDEX made_i ON {t} ({name}) WHERE id > 0", name=names),
    act("CREATE TABLE child (id int PRIMARY KEY, t_id int REFERENCES {t} ON DELETE CASCADE)"),
    act("ALTER TABLE {t} RENAME TO u"),
    act("ALTER TABLE {t} RENAME TO t"),
    act("COMMENT ON TABLE {t} IS {text}", text=st.sampled_from(["'other'", "NULL"])),
    act("COMMENT ON COLUMN {t}.{name} IS 'of a column'", name=st.one_of(names, sealed_names)),
    act("COMMENT ON CONSTRAINT {name} ON {t} IS 'of a constraint'", name=constraints),
)


@pytest.fixture(scope="module")
def twins(shared_db: Database) -> Connection:
    for schema in ("plain", "sealed"):
        shared_db.sql(TABLE.format(schema) + "RESET ROLE; RESET search_path")
    shared_db.sql("""CALL envelope.protect('sealed.t', '["mail", "note"]')""")
    connection = shared_db.connect("owner")
    connection.prepare_threshold = None
    return connection


def outcome(connection: Connection, statement: str) -> object:
    """What a client sees: rows, or SQLSTATE. Of several constraints that a row violates, any may be named."""
    try:
        with connection.transaction():
            cursor = connection.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else cursor.statusmessage
    except psycopg.Error as error:
        return error.sqlstate


def described(connection: Connection, table: str, base: str) -> list[object]:
    values = {"table": table, "base": base, "moved": MOVED}
    return [connection.execute(query, values).fetchall() for query in (SHAPE, BESIDE)]


def on(connection: Connection, schema: str, statements: list[str]) -> list[object]:
    """Everything that shows of the statements, in one schema."""
    connection.execute(f"SET LOCAL search_path = {schema}")  # type: ignore[arg-type]
    found: list[object] = []
    for statement in statements:
        (table,) = connection.execute(NAMES).fetchone() or ("",)
        found.append((statement, outcome(connection, statement.format(t=table))))
    (table,) = connection.execute(NAMES).fetchone() or ("",)
    base = table if schema == "plain" else f"{table}_encrypted"
    found += described(connection, table, base)
    rows = outcome(connection, f"SELECT * FROM {table} ORDER BY id")
    return [*found, rows, *((write, outcome(connection, write.format(table))) for write in WRITES)]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(statements=st.lists(acts, min_size=1, max_size=6))
def test_ddl_leaves_what_it_leaves_of_a_plain_table(twins: Connection, statements: list[str]) -> None:
    with twins.transaction(force_rollback=True):
        plain, sealed = (on(twins, schema, statements) for schema in ("plain", "sealed"))
        assert [pair for pair in zip(plain, sealed, strict=True) if pair[0] != pair[1]] == []
