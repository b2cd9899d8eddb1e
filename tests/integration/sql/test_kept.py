"""DDL beside a protected table: what would leave values unreadable, or let an UPDATE find another row, is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database, Fill

MADE = """
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN word AS text;
CREATE DOMAIN either AS mood;
CREATE TYPE pair AS (m mood, n int);
CREATE TYPE span AS RANGE (subtype = mood);
CREATE TABLE t (id mood, k int, s text, w word, p pair, ps pair[], e either, r span, PRIMARY KEY (id, k));
INSERT INTO t VALUES ('good', 1, 'x', 'one', '(good,1)', '{"(bad,2)"}', 'bad', '[good,bad]'),
    ('bad', 2, 'y', 'two', NULL, NULL, NULL, NULL);
CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.k := NEW.k + 1; RETURN NEW; END';
"""
COLUMNS = '["s", "w", "p", "ps", "e", "r"]'
UNREADABLE = {
    "a label of the key": "ALTER TYPE mood RENAME VALUE 'good' TO 'better'",
    "an attribute more": "ALTER TYPE pair ADD ATTRIBUTE z int",
    "an attribute less": "ALTER TYPE pair DROP ATTRIBUTE n",
    "no primary key": "ALTER TABLE t_encrypted DROP CONSTRAINT t_pkey",
    "another primary key": "ALTER TABLE t_encrypted DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (k)",
    "a key with a column less": "ALTER TABLE t_encrypted DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id)",
    "a late trigger": 'CREATE TRIGGER "~zz" BEFORE INSERT ON t_encrypted FOR EACH ROW EXECUTE FUNCTION later()',
    "a child": "CREATE TABLE child () INHERITS (t_encrypted)",
    "a child that was there": "CREATE TABLE child (LIKE t_encrypted INCLUDING ALL);"
    "ALTER TABLE child INHERIT t_encrypted",
}
# As on a plain table, whose rows PostgreSQL looks through.
VIOLATED = {
    "ALTER DOMAIN word ADD CHECK (VALUE <> 'two')": "23514",
    "ALTER DOMAIN word ADD CHECK (VALUE <> 'two') NOT VALID": "23514",
    "ALTER DOMAIN either SET NOT NULL": "23502",
    "ALTER DOMAIN either ADD CHECK (VALUE <> 'bad')": "23514",
}
RETYPED = "ALTER TYPE pair ALTER ATTRIBUTE n TYPE text"
ALLOWED = (
    "ALTER TYPE mood ADD VALUE 'middling' BEFORE 'good'",
    "ALTER TYPE mood RENAME TO temper",
    "ALTER TYPE pair RENAME ATTRIBUTE n TO number",
    RETYPED,
    "CREATE SCHEMA elsewhere; ALTER TYPE pair SET SCHEMA elsewhere",
    "ALTER DOMAIN word ADD CHECK (VALUE <> 'three')",
    "ALTER DOMAIN word RENAME TO vocable",
    "CREATE TYPE other AS ENUM ('a'); ALTER TYPE other RENAME VALUE 'a' TO 'b'",
    "ALTER TABLE t_encrypted DROP CONSTRAINT t_pkey, ADD CONSTRAINT again PRIMARY KEY (k, id)",
    "ALTER TABLE t RENAME id TO mood",
    "ALTER TABLE t_encrypted RENAME k TO number",
    "ALTER TABLE t_encrypted ADD more int NOT NULL DEFAULT 5",
    "CREATE TRIGGER early BEFORE INSERT ON t_encrypted FOR EACH ROW EXECUTE FUNCTION later()",
)
VALUES = "SELECT s, w, p::text, ps::text, e::text, r::text FROM t ORDER BY s"
IMPLICIT = "CREATE CAST (mood AS text) WITH INOUT AS IMPLICIT"


def fill(db: Database) -> None:
    """Makes a table whose key and values have types of users'."""
    db.sql(MADE)
    db.sql(f"CALL envelope.protect('t', '{COLUMNS}')")


@pytest.fixture
def typed(filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(fill)


@pytest.mark.parametrize("change", UNREADABLE)
def test_what_would_leave_values_unreadable_is_refused(typed: Database, change: str) -> None:
    before = typed.sql(VALUES)
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        typed.sql(UNREADABLE[change])
    assert "t" in str(refused.value.diag.message_primary)
    assert refused.value.diag.message_hint
    assert typed.sql(VALUES) == before
    assert len(typed.sql("UPDATE t SET s = s WHERE k = 1 RETURNING s")) == 1


@pytest.mark.parametrize("change", VIOLATED)
def test_a_domain_is_asked_of_the_values_in_the_clear(typed: Database, change: str) -> None:
    before = typed.sql(VALUES)
    with pytest.raises(psycopg.Error) as refused:
        typed.sql(change)
    assert refused.value.sqlstate == VIOLATED[change]
    assert typed.sql(VALUES) == before


@pytest.mark.parametrize("change", ALLOWED)
def test_other_changes_leave_all_readable_and_writable(
    typed: Database, change: str, keeps_types_of_views: bool
) -> None:
    before = typed.sql(VALUES)
    if change == RETYPED and keeps_types_of_views:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="on view t uses it"):
            typed.sql(change)
    else:
        typed.sql(change)
    typed.sql("CALL envelope.refresh('t')")
    assert typed.sql(VALUES) == before
    assert typed.sql("UPDATE t SET s = s || '!', p = p RETURNING s") == [("x!",), ("y!",)]


def test_renaming_a_late_trigger(typed: Database) -> None:
    typed.sql("CREATE TRIGGER aa BEFORE INSERT ON t_encrypted FOR EACH ROW EXECUTE FUNCTION later()")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="~zz"):
        typed.sql('ALTER TRIGGER aa ON t_encrypted RENAME TO "~zz"')


def test_where_no_value_is_bound_to_its_row_the_key_may_come_and_go(db: Database) -> None:
    db.sql("CREATE TABLE t (id int NOT NULL, s text); INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    db.sql("""CALL envelope.protect('t', '{"s": {"bind": "column"}}')""")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        db.sql("UPDATE t SET s = 'z'")
    db.sql("ALTER TABLE t_encrypted ADD PRIMARY KEY (id)")
    assert db.sql("UPDATE t SET s = 'z' WHERE id = 1 RETURNING id, s") == [(1, "z")]
    db.sql("ALTER TABLE t_encrypted DROP CONSTRAINT t_encrypted_pkey")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        db.sql("UPDATE t SET s = 'z'")


@pytest.mark.parametrize("cast", ["before", "afterwards"])
def test_a_user_s_implicit_cast_from_the_type_of_the_key(db: Database, cast: str) -> None:
    """PostgreSQL would have two equality operators to choose from, and chooses none: 42725."""
    db.sql(f"{MADE}; {IMPLICIT if cast == 'before' else ''}")
    db.sql("CALL envelope.protect('t', '[\"s\"]')")
    if cast == "afterwards":
        db.sql(f"{IMPLICIT}; CALL envelope.refresh('t')")
    assert db.sql("UPDATE t SET s = s || '!' RETURNING s") == [("x!",), ("y!",)]
    assert db.sql("UPDATE t SET id = 'bad' WHERE s = 'x!' RETURNING id, k, s") == [("bad", 1, "x!")]
    assert db.sql("SELECT s FROM t ORDER BY s") == [("x!",), ("y!",)]


# What refresh() could not know without opening a value: the key was changed while no guard was there.
KEY_CHANGED = (
    'DROP VIEW t; DROP TRIGGER "~envelope_guard_update" ON t_encrypted; ALTER TABLE t_encrypted ALTER id TYPE {}'
)


@pytest.mark.parametrize(("made", "type_name"), [("int", "numeric USING id + 0.0"), ("text", "uuid USING id::uuid")])
def test_refresh_opens_a_value_before_it_says_that_all_is_well(db: Database, made: str, type_name: str) -> None:
    key = "7" if made == "int" else "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"
    db.sql(f"CREATE TABLE t (id {made} PRIMARY KEY, s text); INSERT INTO t VALUES ('{key}', 'x')")
    db.sql("CALL envelope.protect('t', '[\"s\"]')")
    db.sql(KEY_CHANGED.format(type_name))
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="do not open"):
        db.sql("CALL envelope.refresh('t_encrypted')")
    db.sql(f"ALTER TABLE t_encrypted ALTER id TYPE {made} USING {'upper(id::text)' if made == 'text' else 'id'}")
    db.sql("CALL envelope.refresh('t_encrypted')")
    assert db.sql("SELECT s FROM t") == [("x",)]


def test_refresh_passes_over_one_damaged_value(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    db.sql("CALL envelope.protect('t', '[\"s\"]')")
    db.sql("UPDATE t_encrypted SET s = (SELECT b.s FROM t_encrypted b WHERE b.id = 2) WHERE id = 1")
    db.sql("CALL envelope.refresh('t')")


DEFERRED = "SET CONSTRAINTS ALL DEFERRED"
TWO_ROWS = (
    "UPDATE t SET id = 2 WHERE id = 1",
    "UPDATE t SET id = 1, s = 'was two' WHERE n = 2",
    "INSERT INTO t VALUES (3, 33, 'twin')",
    "UPDATE t SET s = s || '!' WHERE n = 33",
    "UPDATE t SET s = s || '?'",
    "UPDATE t SET id = 44 WHERE n = 3",
    "UPDATE t SET id = id + 1",
)


def test_two_rows_have_one_key_until_the_commit(db: Database) -> None:
    for schema in ("plain", "sealed"):
        db.sql(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (id int PRIMARY KEY DEFERRABLE, n int, s text)")
        db.sql(f"INSERT INTO {schema}.t VALUES (1, 1, 'one'), (2, 2, 'two'), (3, 3, 'three')")
    db.sql("CALL envelope.protect('sealed.t', '[\"s\"]')")
    seen: dict[str, list[Any]] = {"plain": [], "sealed": []}
    for schema, found in seen.items():
        db.sql(f"SET search_path = {schema}")
        with db.admin.transaction():
            db.sql(DEFERRED)
            for statement in TWO_ROWS:
                found.append(db.admin.execute(statement.encode()).rowcount)
                found.append(db.sql("SELECT * FROM t ORDER BY id, n"))
    assert seen["sealed"] == seen["plain"]


CALLERS = (
    "CHECK (who = current_user AND s <> 'bad')",
    "CHECK (who = current_user)",
    "CHECK (s <> current_schema)",
    "CHECK (pg_has_role(who, 'MEMBER'))",
    "CHECK (to_regclass('mine') IS NOT NULL)",
)


@pytest.mark.parametrize("check", CALLERS)
def test_a_check_that_asks_who_writes(db: Database, check: str) -> None:
    """As on the plain table: the caller, and the caller's search_path."""
    states = {}
    for schema in ("plain", "sealed"):
        db.sql(f"CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO alice; SET search_path = {schema}, public")
        db.sql("CREATE TABLE mine (x int)")
        db.sql(f"CREATE TABLE t (id int PRIMARY KEY, who name, s text, {check})")
        if schema == "sealed":
            db.sql("CALL envelope.protect('t', '[\"s\"]')")
        db.sql("GRANT ALL ON t TO alice")
        alice = db.connect("alice")
        states[schema] = [
            state(alice, f"SET search_path = {path}; INSERT INTO {schema}.t VALUES ({number}, '{who}', '{s}')")
            for number, (who, s, path) in enumerate(
                (who, s, path)
                for who in ("alice", "postgres")
                for s in ("x", "bad", schema)
                for path in (schema, "public")
            )
        ]
    assert states["sealed"] == states["plain"]
    assert {"23514", ""} == set(states["plain"])


def state(connection: psycopg.Connection[Any], statement: str) -> str:
    try:
        connection.execute(statement.encode())
    except psycopg.Error as error:
        return error.sqlstate or "?"
    return ""
