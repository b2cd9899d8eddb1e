"""A tenant or subject is given as people write it: what the column's type reads as the same value is the same one."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database

TYPES = """
CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('Sad', 'glad');
CREATE TYPE pair AS (a int, b numeric);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN code AS varchar(8);
CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
"""
# Type → the value as the table has it, and other ways to write it.
WRITTEN = {
    "bool": ("true", ["true", "t", "YES", "on", "1", " True "]),
    "char(8)": ("ab", ["ab", "ab      ", "ab  "]),
    "bpchar": ("ab", ["ab", "ab   "]),
    "varchar(4)": ("ab", ["ab"]),
    "text": ("Ann", ["Ann"]),
    "citext": ("Ann", ["Ann", "ANN"]),
    "text COLLATE caseless": ("Ann", ["Ann", "ANN"]),
    "int4": ("42", ["42", " 42 ", "+42", "0042"]),
    "numeric": ("1.0", ["1.0", "1", "1.00", "1e0", "+1"]),
    "numeric(6,2)": ("1.5", ["1.5", "1.50", "1.500"]),
    "float8": ("1.5", ["1.5", "15e-1"]),
    "uuid": (
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        ["6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "{6ba7b8109dad11d180b400c04fd430c8}"],
    ),
    "inet": ("10.0.0.1", ["10.0.0.1", "10.0.0.1/32"]),
    "cidr": ("10.0.0.0/8", ["10.0.0.0/8", "10/8"]),
    "macaddr": ("08:00:2b:01:02:03", ["08002B:010203", "0800.2b01.0203"]),
    "date": ("2001-02-03", ["2001-02-03", "03.02.2001", "3 Feb 2001", "20010203"]),
    "timestamptz": ("2001-02-03 04:05+00", ["2001-02-03 04:05+00", "2001-02-03 09:50+05:45", "03.02.2001 09:50:00"]),
    "interval": ("1 day", ["1 day", "24:00:00", "P1D"]),
    "bytea": (r"\x6162", [r"\x6162", "ab", r"a\142"]),
    "mood": ("Sad", ["Sad"]),
    "positive": ("7", ["7", "07"]),
    "code": ("ab", ["ab"]),
    "pair": ("(1,1.0)", ["(1,1.0)", "( 1,1)"]),
    "int4[]": ("{1,2}", ["{1,2}", " { 1, 2 }"]),
    "int4range": ("[1,3)", ["[1,3)", "[1,2]", "(0,3)"]),
    "jsonb": ('{"a": 1.0}', ['{"a":1.0}', '{ "a" : 1 }']),
}
BAD = {
    "bool": "perhaps",
    "varchar(4)": "abcde",
    "char(8)": "abcdefghi",
    "code": "abcdefghi",
    "int4": "ann",
    "uuid": "42",
    "date": "2001-02-30",
    "inet": "10.0.0.256",
    "mood": "sad",
    "positive": "-7",
    "bit(3)": "1010",
}
CALLS = {
    "shred": "CALL envelope.shred('t', %s, 'test')",
    "rotate": "SELECT envelope.rotate('t', %s)",
    "rotate_emergency": "CALL envelope.rotate_emergency('t', 'test', %s)",
    "compromise": "SELECT envelope.compromise('t', 1, 'test', %s)",
    "suspend": "CALL envelope.suspend('t', %s)",
    "unsuspend": "CALL envelope.unsuspend('t', %s)",
    "move_kek": "CALL envelope.move_kek('default', 'default', 'catalog', 't', %s)",
    "tenant_kek": "SELECT envelope.tenant_kek('t', %s, 'default', 'catalog')",
    "prefetch": "SELECT envelope.prefetch('t', ARRAY[%s])",
}
STATES = "SELECT version, state, store FROM envelope.keys WHERE scope IS NOT NULL ORDER BY version"
SETTINGS = "SET \"DateStyle\" = 'German'; SET \"TimeZone\" = 'Asia/Kathmandu'"


@pytest.fixture
def written(db: Database, request: pytest.FixtureRequest) -> tuple[Database, list[str]]:
    """A table whose one row belongs to a value of the type, and the ways to write that."""
    type: str = request.param
    value, ways = WRITTEN[type]
    db.sql(TYPES)
    db.sql(f"CREATE TABLE t (id int PRIMARY KEY, s {type} NOT NULL, c text)")
    db.sql("""CALL envelope.protect('t', '["c"]', scope => 'subject', scope_column => 's')""")
    db.sql("INSERT INTO t (id, s, c) VALUES (1, %s, 'x')", value)
    db.sql(SETTINGS)
    return db, ways


@pytest.mark.parametrize("written", WRITTEN, indirect=True)
def test_each_way_to_write_a_value_finds_its_key(written: tuple[Database, list[str]]) -> None:
    db, ways = written
    for number, way in enumerate(ways, start=2):
        assert db.one(CALLS["rotate"], way) == number
        db.sql(CALLS["suspend"], way)
        assert {state for _, state, _ in db.sql(STATES)} == {"suspended"}
        db.sql(CALLS["unsuspend"], way)
        db.sql(CALLS["tenant_kek"], way)
    db.sql(CALLS["compromise"], ways[-1])
    if not db.one("SELECT count(*) FROM envelope_private.tenant") > 1:
        assert db.one(CALLS["prefetch"], ways[-1]) == len(ways) + 1
    db.sql(CALLS["shred"], ways[-1])
    assert {state for _, state, _ in db.sql(STATES)} == {"destroyed"}
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="destroyed"):
        db.sql("SELECT c FROM t")


@pytest.fixture(scope="module")
def of_types(shared_db: Database) -> Database:
    """A database with the types and a key, for tests whose calls are all refused."""
    shared_db.sql(TYPES)
    shared_db.sql("SELECT envelope.create_key('first')")
    return shared_db


@pytest.mark.parametrize("type", BAD)
def test_what_is_no_value_is_refused_and_not_repeated(of_types: Database, type: str) -> None:
    of_types.sql("DROP TABLE IF EXISTS t_encrypted CASCADE")
    of_types.sql(f"CREATE TABLE t (id int PRIMARY KEY, s {type} NOT NULL, c text)")
    of_types.sql("""CALL envelope.protect('t', '["c"]', scope => 'subject', scope_column => 's')""")
    for call in CALLS.values():
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="no value of the scope column") as refused:
            of_types.sql(call, BAD[type])
        diag = refused.value.diag
        assert "column s, type " in str(diag.message_detail)
        assert "as in an INSERT" in str(diag.message_hint)
        assert BAD[type] not in f"{diag.message_primary} {diag.message_detail} {diag.message_hint}"


def test_a_value_without_key_is_told_what_was_looked_for(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, s date NOT NULL, c text)")
    db.sql("""CALL envelope.protect('t', '["c"]', scope => 'subject', scope_column => 's')""")
    for call in ("shred", "rotate", "rotate_emergency", "compromise", "suspend", "unsuspend"):
        with pytest.raises(psycopg.errors.UndefinedObject, match="has no key of this subject") as unknown:
            db.sql(CALLS[call], "2001-02-03")
        assert "The search was for a value of type date, as in column s" in str(unknown.value.diag.message_hint)
        assert "2001" not in str(unknown.value.diag.message_hint)


def test_equal_values_that_have_several_texts_go_together(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, s numeric NOT NULL, c text)")
    db.sql("""CALL envelope.protect('t', '["c"]', scope => 'subject', scope_column => 's', erased => 'null')""")
    db.sql("INSERT INTO t VALUES (1, 1, 'a'), (2, 1.0, 'b'), (3, 1.00, 'c'), (4, 1.01, 'd')")
    db.sql("CALL envelope.shred('t', '1.000', 'test')")
    assert db.sql("SELECT c FROM t ORDER BY id") == [(None,), (None,), (None,), ("d",)]


def test_a_key_from_before_the_column_changed_its_type_is_found_by_its_text(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, s text NOT NULL, c text)")
    db.sql("""CALL envelope.protect('t', '["c"]', scope => 'subject', scope_column => 's')""")
    db.sql("INSERT INTO t VALUES (1, 'ann', 'a'); DELETE FROM t")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        db.sql("DROP VIEW t CASCADE; ALTER TABLE t_encrypted ALTER s TYPE int USING 0")
    db.sql('DROP VIEW t CASCADE; DROP TRIGGER "~envelope_guard_update" ON t_encrypted')
    db.sql("ALTER TABLE t_encrypted ALTER s TYPE int USING 0")
    db.sql("CALL envelope.shred('t_encrypted', 'ann', 'test')")
    assert db.sql("SELECT state FROM envelope.keys") == [("destroyed",)]


def test_the_owners_code_in_a_type_runs_with_the_owners_rights(db: Database) -> None:
    with db.connect("owner") as owner:
        owner.execute(
            "CREATE FUNCTION look(v int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN"
            " IF v = 8 THEN RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = current_user; END IF;"
            " RETURN true; END $$"
        )
        owner.execute("CREATE DOMAIN seven AS int CHECK (look(VALUE))")
        owner.execute("CREATE TABLE t (id int PRIMARY KEY, s seven NOT NULL, c text)")
    db.sql("""CALL envelope.protect('t', '["c"]', scope => 'subject', scope_column => 's')""")
    db.sql("SELECT envelope.create_key('first')")
    for call in CALLS.values():
        with pytest.raises(psycopg.Error) as stopped:
            db.sql(call, "8")
        assert stopped.value.diag.message_primary == "pg_envelope: owner"
