"""INSERT ... ON CONFLICT DO UPDATE through <table>_upsert: the plain table decides what it does."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack.postgres import Cluster
from tests.fix_stack import Database, Fill
from tests.integration.operations.fix_clusters import run

MADE = """
CREATE TABLE t (id serial PRIMARY KEY, login text UNIQUE NOT NULL, s text NOT NULL DEFAULT 'none', p varchar(8) UNIQUE,
    born date, raw bytea, doc jsonb, n int NOT NULL DEFAULT 0, CONSTRAINT digits CHECK (p ~ '^[0-9]+$' OR n > 100))"""
FILLED = "INSERT INTO t (login, s, p) VALUES ('a', 'A', '1'), ('b', 'B', NULL), ('c', 'C', '3')"
SEALED = '["s", "p", "born", "raw", "doc"]'
KINDS = {
    "bare": "",
    "trigger": """
        CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := NEW.n + 1; RETURN NEW; END';
        CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION shout()""",
    "policy": "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (login <> 'secret')",
}
LINE = "SELECT id, login, s, p, born, raw, doc, n FROM {}.t ORDER BY id"
HEAD = "INSERT INTO {t} (login, s, p, born, n) VALUES"
TAIL = " ON CONFLICT (login) DO UPDATE SET"
SAID = [
    f"{HEAD} ('a', 'A2', '11', '2001-02-03', 1), ('x', 'X', '99', NULL, 2){TAIL} s = excluded.s, p = excluded.p",
    f"{HEAD} ('a', 'no', '11', date '2001-02-03', 1){TAIL} n = {{t}}.n + excluded.n RETURNING id, login, n",
    f"{HEAD} ('a', 'K', '7', NULL, 1), ('b', 'K', '8', NULL, 1){TAIL} p = coalesce({{t}}.p, excluded.p), s = 'lit'",
    f"{HEAD} ('a', 'A', '5', NULL, 1){TAIL} id = 77, s = excluded.s, born = '2000-01-01'",
    f"{HEAD} ('a', 'A', '5', NULL, 1), ('b', 'B', '6', NULL, 1){TAIL} p = excluded.p WHERE {{t}}.p IS NULL",
    f"{HEAD} ('a', 'A', '5', NULL, 1){TAIL} p = NULL, s = DEFAULT",
    "INSERT INTO {t} (login) VALUES ('a'), ('new') ON CONFLICT DO NOTHING RETURNING login",
    "INSERT INTO {t} (login, raw, doc) VALUES ('a', '\\xff00', '{{\"a\": [1, null]}}')"
    " ON CONFLICT (login) DO UPDATE SET raw = excluded.raw, doc = excluded.doc",
    "INSERT INTO {t} (login, p) VALUES ('new', 'abc')",
    "INSERT INTO {t} (login, p) VALUES ('new', '123456789')",
    "INSERT INTO {t} (login, s) VALUES ('new', NULL)",
    "INSERT INTO {t} (login, born) VALUES ('new', 'no date')",
    "INSERT INTO {t} (login, p) VALUES ('new', '3')",
    f"{HEAD} ('c', 'C', '4', NULL, 1){TAIL} p = 'abc', n = 5",
    f"{HEAD} ('c', 'C', '4', NULL, 1){TAIL} p = 'abc', n = 500",
    f"{HEAD} ('new', 'C', '4', NULL, 1), ('new', 'C', '5', NULL, 1){TAIL} p = excluded.p",
    "UPDATE {t} SET s = 'U', n = n + 1 WHERE login = 'a'",
    "DELETE FROM {t} WHERE login = 'a'",
]
REFUSED = [
    ("s = excluded.p", "0A000"),
    ("s = excluded.s || 'x'", "0A000"),
    ("p = t_upsert.s", "0A000"),
    ("s = upper(excluded.s)", "42883"),
    ("s = excluded.s WHERE t_upsert.s = 'A'", "42883"),
]


@functools.cache
def fill_twins(kind: str) -> Fill:
    def make(db: Database) -> None:
        for schema in ("plain", "sealed"):
            db.sql(f"CREATE SCHEMA {schema}; SET search_path = {schema}; {MADE}; {KINDS[kind]}; {FILLED}")
            db.sql(f"GRANT USAGE ON SCHEMA {schema} TO alice; GRANT ALL ON t, t_id_seq TO alice")
        db.sql(f"CALL envelope.protect('sealed.t', '{SEALED}')")
        db.sql("CALL envelope.allow_upsert('sealed.t')")

    return make


def fill_one(db: Database) -> None:
    db.sql(f"{MADE}; {FILLED}; CALL envelope.protect('t', '{SEALED}'); CALL envelope.allow_upsert('t')")


@pytest.fixture(params=KINDS)
def twins(request: pytest.FixtureRequest, filled: Callable[[Fill], Database]) -> Iterator[Database]:
    """These tests destroy no key, so a copy will do."""
    made = filled(fill_twins(request.param))
    made.sql("SET search_path = sealed")
    yield made
    made.sql("RESET search_path")


@pytest.fixture
def table(filled: Callable[[Fill], Database]) -> Database:
    """Such a table alone."""
    return filled(fill_one)


def outcome(db: Database, alice: psycopg.Connection[Any], schema: str, statement: str) -> tuple[object, object]:
    """Returns what a statement of alice gave, or its SQLSTATE, and the table afterwards."""
    alice.execute(f"SET search_path = {schema}")
    try:
        done = alice.execute(statement)
        given: object = (done.rowcount, done.fetchall() if done.description else None)
    except psycopg.Error as error:
        given = error.sqlstate
    return given, db.sql(LINE.format(schema))


def test_it_does_what_the_plain_table_does(twins: Database) -> None:
    alice = twins.connect("alice")
    for statement in SAID:
        plain = outcome(twins, alice, "plain", statement.format(t="t"))
        assert outcome(twins, alice, "sealed", statement.format(t="t_upsert")) == plain, statement
    twins.sql("CALL envelope.verify('sealed.t')")
    assert twins.sql("SELECT count(*) FROM envelope.faults") == [(0,)]
    assert twins.sql("SELECT login FROM sealed.t WHERE p_search = 'abc'") == [("c",)]


def test_a_value_that_was_computed_from_a_stored_one_is_refused(twins: Database) -> None:
    before, alice = twins.sql(LINE.format("sealed")), twins.connect("alice")
    for assigned, state in REFUSED:
        statement = (
            f"INSERT INTO t_upsert (login, s, p) VALUES ('a', 'P', '5') ON CONFLICT (login) DO UPDATE SET {assigned}"
        )
        assert outcome(twins, alice, "sealed", statement) == (state, before), assigned


SOURCES = "SELECT castsource::regtype::text FROM pg_cast WHERE casttarget = 'envelope.input'::regtype ORDER BY 1"
LITERALS = {
    "boolean": "t",
    "character": "ab  ",
    "bytea": "\\xff",
    "date": "2001-02-03",
    "inet": "10.0.0.1",
    "interval": "1 day",
    "json": "[1]",
    "jsonb": "[1]",
    "time with time zone": "01:02:03+01",
    "time without time zone": "01:02:03",
    "timestamp with time zone": "2001-02-03 04:05:06+00",
    "timestamp without time zone": "2001-02-03 04:05:06",
    "uuid": "00000000-0000-0000-0000-000000000001",
}


def test_a_role_without_rights_gives_constants_of_each_type(db: Database) -> None:
    """PostgreSQL computes what it makes of a constant while it plans, with the rights of the role."""
    db.sql("CREATE TABLE t (id serial PRIMARY KEY, s text); GRANT ALL ON t, t_id_seq TO alice")
    db.sql("CREATE TABLE plain (s text); CALL envelope.protect('t', '[\"s\"]'); CALL envelope.allow_upsert('t')")
    kinds = [kind for (kind,) in db.sql(SOURCES)]
    assert set(LITERALS) < set(kinds)
    alice = db.connect("alice")
    for kind in kinds:
        value = f"'{LITERALS.get(kind, '7')}'::{kind}"
        alice.execute(f"INSERT INTO t_upsert (id, s) VALUES (1, {value}) ON CONFLICT (id) DO UPDATE SET s = excluded.s")
        db.sql(f"DELETE FROM plain; INSERT INTO plain VALUES ({value})")
        assert db.sql("SELECT s FROM t") == db.sql("TABLE plain"), kind


def test_floats_keep_each_bit_whatever_the_session_says(db: Database) -> None:
    db.sql("CREATE TABLE t (id serial PRIMARY KEY, f float8, r float4); GRANT ALL ON t, t_id_seq TO alice")
    db.sql("CALL envelope.protect('t', '[\"f\", \"r\"]'); CALL envelope.allow_upsert('t')")
    alice = db.connect("alice")
    put = "INSERT INTO t_upsert VALUES (1, %s, %s) ON CONFLICT (id) DO UPDATE SET f = excluded.f, r = excluded.r"
    for digits in (0, -15, 3):
        alice.execute(f"SET extra_float_digits = {digits}")
        for value in (0.1 + 0.2, -5e-324, 1.7976931348623157e308, float("inf")):
            alice.execute(put, [value, 16777217.0])
            assert db.one("SELECT (f, r) = (%s::float8, 16777217::float4) FROM t", value), (digits, value)


def test_what_is_stored_in_the_clear_is_a_mark(table: Database) -> None:
    secret = "Kx9-planted"
    upsert = "INSERT INTO t_upsert (login, s) VALUES ('a', %s) ON CONFLICT (login) DO UPDATE SET s = excluded.s"
    table.sql(upsert, secret)
    table.sql("INSERT INTO t_upsert (login, s) VALUES ('z', %s)", secret)
    assert table.sql("SELECT count(*) FROM t WHERE s = %s", secret) == [(2,)]
    assert table.sql("SELECT count(*) FROM t_encrypted e WHERE strpos(e::text, %s) > 0", secret) == [(0,)]
    assert table.sql("SELECT count(*) FROM t_upsert e WHERE strpos(e::text, %s) > 0", secret) == [(0,)]


def test_without_its_trigger_nothing_is_stored_in_the_clear(table: Database) -> None:
    for off, on in (
        ("SET session_replication_role = replica", "RESET session_replication_role"),
        ('ALTER TABLE t_encrypted DISABLE TRIGGER "!envelope_upsert_insert"', "SELECT 1"),
    ):
        table.sql(off)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
            table.sql("INSERT INTO t_upsert (login, s) VALUES ('z', 'planted')")
        assert "planted" not in str(refused.value)
        table.sql(on)
    table.sql("ALTER TABLE t_encrypted DISABLE TRIGGER ALL")
    with pytest.raises(psycopg.errors.CheckViolation):
        table.sql("UPDATE t_upsert SET s = 'planted'")


def test_a_mark_of_another_statement_is_worth_nothing(table: Database) -> None:
    table.sql("INSERT INTO t_upsert (login, s) VALUES ('z', 'secret')")
    mark = table.one("SELECT s FROM t_upsert WHERE login = 'z'")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        table.sql("INSERT INTO t_upsert (login, s) VALUES ('y', %s)", mark)
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        table.sql("UPDATE t_upsert SET s = (SELECT s FROM t_upsert WHERE login = 'z') WHERE login = 'a'")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        table.sql("UPDATE t_upsert SET s = (SELECT s FROM t_upsert WHERE login = 'b') WHERE login = 'a'")


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


def test_every_text_comes_back(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, s text); CALL envelope.protect('t', '[\"s\"]')")
    db.sql("CALL envelope.allow_upsert('t')")
    connection = db.connect()

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.sampled_from([1, 2, 3]), st.none() | TEXTS)
    def written(key: int, value: str | None) -> None:
        connection.execute(
            "INSERT INTO t_upsert VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET s = excluded.s", (key, value)
        )
        assert connection.execute("SELECT s FROM t WHERE id = %s", (key,)).fetchall() == [(value,)]

    written()


def test_it_follows_the_table(table: Database) -> None:
    table.sql("ALTER TABLE t RENAME COLUMN s TO who; ALTER TABLE t RENAME TO u")
    table.sql("ALTER TABLE u_encrypted ADD COLUMN extra int DEFAULT 5; CALL envelope.refresh('u')")
    table.sql("ALTER TABLE u ADD COLUMN more int; ALTER TABLE u DROP COLUMN more")
    table.sql("ALTER TABLE u OWNER TO alice")
    upsert = "INSERT INTO u_upsert (login, who) VALUES ('a', 'W') ON CONFLICT (login) DO UPDATE SET who = excluded.who"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        table.sql(upsert, user="bob")
    table.sql("GRANT SELECT, INSERT, UPDATE ON u TO bob; GRANT USAGE ON SEQUENCE t_id_seq TO bob")
    table.sql(upsert, user="bob")
    assert table.sql("SELECT who, extra FROM u WHERE login = 'a'", user="alice") == [("W", 5)]
    table.sql("REVOKE INSERT ON u FROM bob")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        table.sql(upsert, user="bob")
    table.sql("CREATE SCHEMA other AUTHORIZATION alice; ALTER TABLE u SET SCHEMA other")
    table.sql("SET search_path = other")
    table.sql("CALL envelope.add_search('u', 'who')")
    table.sql(upsert.replace("'W'", "'W2'"))
    assert table.sql("SELECT login FROM u WHERE who_search = 'W2'") == [("a",)]
    table.sql("CALL envelope.drop_upsert('u'); RESET search_path")
    assert table.sql("SELECT to_regclass('other.u_upsert')") == [(None,)]
    assert table.sql("SELECT count(*) FROM pg_attribute WHERE atttypid = 'envelope.input'::regtype") == [(0,)]


def test_a_protected_table_becomes_plain_again(db: Database) -> None:
    db.sql(f"{MADE}; {FILLED}")
    before = db.sql(LINE.format("public"))
    db.sql(f"CALL envelope.protect('t', '{SEALED}'); CALL envelope.allow_upsert('t')")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        db.sql("CALL envelope.unprotect('t', online => true)")
    db.sql("CALL envelope.unprotect('t')")
    assert db.sql(LINE.format("public")) == before
    assert db.sql("SELECT to_regclass('t_upsert'), to_regclass('t_encrypted')") == [(None, None)]
    assert db.sql("SELECT tgname FROM pg_trigger WHERE tgrelid = 't'::regclass") == []


DEFAULTS = """
CREATE TABLE x (id int PRIMARY KEY, s text DEFAULT 'd''f', d date DEFAULT '2001-02-03', a int[] DEFAULT '{1,2}',
    r bytea DEFAULT '\\xff', t timestamptz DEFAULT '2001-02-03 00:00+00', f float8 DEFAULT 0.1,
    j jsonb DEFAULT '{"a": 1}', v varchar(9) DEFAULT 'vv', b bool DEFAULT true)"""


ALL = "s, d, a, r, t, f, j, v, b"
OTHER_SETTINGS = ["DateStyle = 'ISO'", "DateStyle = 'German'", "bytea_output = 'escape'", "TimeZone = 'Asia/Tokyo'"]


def test_an_owner_without_rights_keeps_the_defaults(db: Database, owner: psycopg.Connection[object]) -> None:
    db.sql("GRANT CREATE ON SCHEMA public TO owner")
    owner.execute(DEFAULTS)
    db.sql("CALL envelope.protect('x', to_jsonb(string_to_array(%s, ', ')))", ALL)
    db.sql("CALL envelope.allow_upsert('x')")
    for changed in OTHER_SETTINGS:
        owner.execute(f"SET {changed}; INSERT INTO x (id) VALUES (1); INSERT INTO x_upsert (id) VALUES (2)")
        rows = f"SELECT (ROW({ALL})::record)::text FROM x ORDER BY id"
        one, other = owner.execute(rows).fetchall()
        assert one == other, changed
        owner.execute("DELETE FROM x_upsert")


def test_obstacles_are_told_and_nothing_is_changed(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, s text, s_input text); CREATE TABLE t_upsert ()")

    with pytest.raises(psycopg.errors.UndefinedObject):
        db.sql("CALL envelope.allow_upsert('t')")
    db.sql("CALL envelope.protect('t', '[\"s\"]')")
    db.sql("CREATE FUNCTION t_envelope_upsert() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        db.sql("CALL envelope.allow_upsert('t')")
    assert "t_envelope_upsert" in (refused.value.diag.message_detail or "")
    db.sql("CALL envelope.refresh('t')")
    assert db.one("SELECT t_envelope_upsert()") == 1
    assert {"s_input", "t_upsert"} <= set((refused.value.diag.message_detail or "").replace('"', " ").split())
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        db.sql("CALL envelope.drop_upsert('t')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.sql("CALL envelope.allow_upsert('t')", user="alice")


@pytest.mark.parametrize("kind", ["", "trigger"])
def test_a_restored_database_takes_upserts(
    db: Database, other_cluster: Cluster, empty_database: Callable[[str], str], tmp_path: Path, kind: str
) -> None:
    db.sql(f"{MADE}; {KINDS.get(kind, '')}; {FILLED}; CALL envelope.protect('t', '{SEALED}')")
    db.sql("CALL envelope.allow_upsert('t')")
    db.sql("INSERT INTO t_upsert (login, s) VALUES ('d', 'D')")
    rows = db.sql(LINE.format("public"))
    run(db.stack.cluster, db.name, "pg_dump", "--format=custom", "--file", tmp_path / "dump")
    name = empty_database(f"upserted_{kind}")
    run(other_cluster, name, "pg_restore", "--dbname", name, tmp_path / "dump")
    with other_cluster.connect(name) as connection:
        connection.execute("SELECT envelope.this_is_the_original()")
        assert connection.execute(LINE.format("public")).fetchall() == rows
        connection.execute(
            "INSERT INTO t_upsert (login, s, p) VALUES ('d', 'E', '4'), ('e', 'E', '5')"
            " ON CONFLICT (login) DO UPDATE SET s = excluded.s, p = coalesce(t_upsert.p, excluded.p)"
        )
        found = connection.execute("SELECT login, s, p FROM t WHERE s = 'E' ORDER BY 1").fetchall()
        assert found == [("d", "E", "4"), ("e", "E", "5")]
        connection.execute("CALL envelope.refresh('t')")
        connection.execute("CALL envelope.unprotect('t')")


def test_a_dropped_column_takes_its_part_of_the_relation_along(table: Database) -> None:
    table.sql("GRANT INSERT, SELECT, UPDATE ON t TO alice; ALTER TABLE t OWNER TO owner")
    table.sql("ALTER TABLE t ADD COLUMN more text", user="owner")
    table.sql("ALTER TABLE t DROP COLUMN s", user="owner")
    assert (
        table.sql("SELECT attname FROM pg_attribute WHERE attrelid = 't_encrypted'::regclass AND attname ~ '^s'") == []
    )
    set_more = "ON CONFLICT (id) DO UPDATE SET more = excluded.more"
    table.sql(f"INSERT INTO t_upsert (id, login, more) VALUES (1, 'a', 'm') {set_more}", user="alice")
    assert table.one("SELECT more FROM t WHERE id = 1", user="alice") == "m"
