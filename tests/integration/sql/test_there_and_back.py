"""protect() keeps what people see of a table; unprotect() restores it exactly, as pg_dump tells; refresh() follows."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pg_envelope.backend.sqltext import derived_name
from tests.fix_stack import Database

LONG = "ü" * 31 + "x"

TABLE = f"""
CREATE ROLE reader; CREATE ROLE writer; CREATE ROLE helper;
CREATE SCHEMA "Ünd er" AUTHORIZATION owner;
GRANT USAGE ON SCHEMA "Ünd er" TO PUBLIC;
CREATE DOMAIN "Ünd er".mail AS text COLLATE "C" CHECK (VALUE ~ '@');
CREATE TABLE "Ünd er"."{LONG}" (
    id int GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT 3),
    number serial,
    "Mail ""x z" "Ünd er".mail DEFAULT 'a@b' NOT NULL,
    note varchar(40) COLLATE "C" DEFAULT 'it''s \\ here' CHECK (note <> '') NO INHERIT,
    "new" numeric(8,2)[] DEFAULT '{{1,2}}',
    "t" timestamp(3) with time zone DEFAULT now(),
    "value" text COMPRESSION pglz,
    gone int,
    "sum" int GENERATED ALWAYS AS (1 + 1) STORED,
    by text DEFAULT current_user,
    CONSTRAINT "pk ü" PRIMARY KEY (id, number)
);
ALTER TABLE "Ünd er"."{LONG}" DROP gone;
ALTER TABLE "Ünd er"."{LONG}" ADD CONSTRAINT "Long enough" CHECK (length("value") > 2 AND number > 0) NOT VALID;
ALTER TABLE "Ünd er"."{LONG}" OWNER TO owner;
ALTER TABLE "Ünd er"."{LONG}" ALTER "value" SET STORAGE MAIN;
ALTER TABLE "Ünd er"."{LONG}" ALTER "value" SET STATISTICS 50, ALTER "value" SET (n_distinct = 7);
CREATE INDEX ON "Ünd er"."{LONG}" (number);
COMMENT ON TABLE "Ünd er"."{LONG}" IS 'a table''s comment';
COMMENT ON COLUMN "Ünd er"."{LONG}"."value" IS 'a value';
COMMENT ON CONSTRAINT "Long enough" ON "Ünd er"."{LONG}" IS 'why';
GRANT SELECT ON "Ünd er"."{LONG}" TO reader WITH GRANT OPTION;
GRANT INSERT, UPDATE, DELETE ON "Ünd er"."{LONG}" TO writer;
GRANT USAGE ON SCHEMA "Ünd er" TO reader;
GRANT SELECT (number, "value"), UPDATE ("Mail ""x z") ON "Ünd er"."{LONG}" TO PUBLIC;
SET ROLE reader; GRANT SELECT ON "Ünd er"."{LONG}" TO helper; RESET ROLE;
REVOKE TRUNCATE, TRIGGER ON "Ünd er"."{LONG}" FROM owner;
INSERT INTO "Ünd er"."{LONG}" ("value", by) VALUES (NULL, 'x'), ('three', NULL), (repeat('é', 5000), 'y');
"""
NAME = f'"Ünd er"."{LONG}"'
COLUMNS = '["Mail \\"x z", "note", "new", "t", "value", "by"]'
SHAPE = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation, col_description(a.attrelid, a.attnum),
    CASE WHEN a.attidentity = '' AND a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END, a.attacl::text
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
RELATION = """
SELECT relowner::regrole::text, obj_description(oid, 'pg_class'),
    (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(relacl) x)
FROM pg_class WHERE oid = %s::regclass"""


def dump(db: Database) -> str:
    """pg_dump of the schema, without what extensions hold."""
    program = Path(db.stack.cluster.bindir) / "pg_dump"
    environment = {**os.environ, **db.stack.environ(), "PGDATABASE": db.name}
    # Without the other extensions it takes half the time, because it does not look at the privileges of their members.
    without = ["--exclude-schema=envelope_private", "--extension=plpgsql"]
    done = subprocess.run(
        [program, "--schema-only", "--quote-all-identifiers", *without],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    # The newer minor versions write a random key of the session for psql.
    return "\n".join(line for line in done.stdout.split("\n") if "restrict" not in line)


@pytest.fixture
def made(db: Database) -> Any:
    db.sql(TABLE)
    yield db
    db.sql('DROP SCHEMA "Ünd er" CASCADE')
    db.sql("DROP OWNED BY reader, writer, helper; DROP ROLE reader, writer, helper")


@pytest.mark.parametrize("way", ["", ", online => true"], ids=["offline", "online"])
def test_the_view_looks_as_the_table_did_and_unprotect_restores_it(made: Database, way: str) -> None:
    schema, data = dump(made), made.sql(f"SELECT * FROM {NAME} ORDER BY id")
    shape, relation = made.sql(SHAPE, NAME), made.sql(RELATION, NAME)
    made.sql(f"CALL envelope.protect(%s, '{COLUMNS}'{way})", NAME)
    assert made.sql(SHAPE, NAME) == shape
    assert made.sql(RELATION, NAME) == relation
    assert made.sql(f"SELECT * FROM {NAME} ORDER BY id") == data
    made.sql(f"CALL envelope.unprotect(%s{way})", NAME)
    assert made.sql(f"SELECT * FROM {NAME} ORDER BY id") == data
    assert dump(made) == schema


def test_every_right_works_through_the_view_as_on_the_table(made: Database) -> None:
    made.sql(f"CALL envelope.protect(%s, '{COLUMNS}')", NAME)

    def may(role: str, statement: str) -> bool:
        try:
            with made.admin.transaction(force_rollback=True):
                made.sql(f"SET LOCAL ROLE {role}")
                made.sql(statement)
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True

    assert may("owner", f"SELECT * FROM {NAME}")
    assert may("helper", f"SELECT * FROM {NAME}")
    assert may("alice", f'SELECT number, "value" FROM {NAME}')
    assert not may("alice", f"SELECT note FROM {NAME}")
    assert not may("alice", f"SELECT * FROM {NAME}")
    assert not may("writer", f"SELECT note FROM {NAME}")
    base = derived_name(LONG, "_encrypted")
    assert not may("helper", f'SELECT * FROM "Ünd er"."{base}"')
    made.sql(f"REVOKE SELECT ON {NAME} FROM reader CASCADE")
    assert not may("helper", f"SELECT * FROM {NAME}")


def test_an_owner_without_rights_on_the_table_and_default_privileges(db: Database) -> None:
    db.sql(
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO alice, PUBLIC;"
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON ROUTINES TO alice"
    )
    db.sql("CREATE TABLE t (id int PRIMARY KEY, secret text); REVOKE ALL ON t FROM alice, PUBLIC")
    db.sql("ALTER TABLE t OWNER TO owner; REVOKE ALL ON t FROM owner; GRANT SELECT, INSERT ON t TO bob")
    relation = db.sql(RELATION, "t")
    db.sql("""CALL envelope.protect('t', '["secret"]')""")
    assert db.sql(RELATION, "t") == relation
    db.sql("INSERT INTO t VALUES (1, 'x')", user="bob")
    assert db.sql("SELECT secret FROM t", user="bob") == [("x",)]
    for role in ("owner", "alice"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.sql("SELECT * FROM t", user=role)
    assert not db.one(
        "SELECT bool_or(has_function_privilege('alice', oid, 'EXECUTE')) FROM pg_proc WHERE proname ~ '^t_e'"
    )
    db.sql("CALL envelope.unprotect('t')")
    assert db.sql(RELATION, "t") == relation


def test_no_rights_at_all_stay_none(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, secret text); ALTER TABLE t OWNER TO owner; REVOKE ALL ON t FROM owner")
    db.sql("""CALL envelope.protect('t', '["secret"]')""")
    assert not db.one("SELECT has_table_privilege('owner', 't', 'SELECT')")
    db.sql("CALL envelope.unprotect('t')")
    assert not db.one("SELECT has_table_privilege('owner', 't', 'SELECT')")


def test_refresh_follows_new_and_renamed_columns_and_another_owner(db: Database) -> None:
    db.sql("CREATE TABLE t (id int, kind int, secret text CHECK (secret <> 'no'), n int, PRIMARY KEY (id, kind))")
    db.sql("INSERT INTO t VALUES (1, 2, 'x', 3); ALTER TABLE t OWNER TO owner")
    schema = dump(db)
    db.sql("""CALL envelope.protect('t', '["secret"]')""")
    db.sql(
        "ALTER TABLE t_encrypted ADD added text DEFAULT 'new'; ALTER TABLE t_encrypted RENAME id TO number;"
        "ALTER TABLE t_encrypted RENAME secret TO id; ALTER TABLE t_encrypted OWNER TO bob;"
        "GRANT CREATE ON SCHEMA public TO bob"
    )
    db.sql("CALL envelope.refresh('t')")
    assert db.sql("SELECT number, kind, id, n, added FROM t", user="bob") == [(1, 2, "x", 3, "new")]
    db.sql("INSERT INTO t (number, kind, id) VALUES (2, 2, 'y')", user="bob")
    db.sql("UPDATE t SET number = 5 WHERE id = 'y'", user="bob")
    assert db.sql("SELECT number, added FROM t WHERE id = 'y'", user="bob") == [(5, "new")]
    with pytest.raises(psycopg.errors.CheckViolation):
        db.sql("INSERT INTO t (number, kind, id) VALUES (3, 3, 'no')", user="bob")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.sql("SELECT * FROM t", user="owner")
    db.sql("CALL envelope.unprotect('t'); DELETE FROM t WHERE number = 5; ALTER TABLE t DROP added")
    db.sql("ALTER TABLE t RENAME id TO secret; ALTER TABLE t RENAME number TO id; ALTER TABLE t OWNER TO owner")
    db.sql("REVOKE CREATE ON SCHEMA public FROM bob")
    assert dump(db) == schema


def test_a_renamed_view_refreshes_and_unprotects(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, secret text); INSERT INTO t VALUES (1, 'x')")
    db.sql("""CALL envelope.protect('t', '["secret"]'); ALTER VIEW t RENAME TO s""")
    db.sql("INSERT INTO s VALUES (2, 'y')")
    db.sql("CALL envelope.refresh('s')")
    db.sql("INSERT INTO s VALUES (3, 'z')")
    db.sql("CALL envelope.unprotect('s')")
    assert db.sql("SELECT * FROM s ORDER BY id") == [(1, "x"), (2, "y"), (3, "z")]
    assert db.sql("SELECT proname FROM pg_proc WHERE proname LIKE '%_envelope_%'") == []


def test_a_view_in_another_schema_is_refused_by_refresh(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, secret text); CREATE SCHEMA s")
    db.sql("""CALL envelope.protect('t', '["secret"]'); ALTER VIEW t SET SCHEMA s""")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        db.sql("CALL envelope.refresh('s.t')")
    db.sql("ALTER TABLE t_encrypted SET SCHEMA s; CALL envelope.refresh('s.t'); INSERT INTO s.t VALUES (1, 'x')")
    assert db.sql("SELECT * FROM s.t") == [(1, "x")]


def test_dropped_with_cascade_the_name_can_be_protected_again(db: Database) -> None:
    for _ in range(2):
        db.sql("CREATE TABLE t (id int PRIMARY KEY, secret text)")
        db.sql("""CALL envelope.protect('t', '["secret"]'); INSERT INTO t VALUES (1, 'x')""")
        db.sql("DROP TABLE t_encrypted CASCADE")
        assert db.sql("SELECT * FROM envelope.columns") == []


def test_refresh_makes_a_dropped_view_again(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, secret text, n int); INSERT INTO t VALUES (1, 'x', 2)")
    db.sql("ALTER TABLE t OWNER TO owner; GRANT SELECT ON t TO bob")
    db.sql("""CALL envelope.protect('t', '["secret"]'); ALTER TABLE t_encrypted DROP n CASCADE""")
    db.sql("CALL envelope.refresh('t_encrypted')")
    assert db.sql("SELECT * FROM t", user="owner") == [(1, "x")]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.sql("SELECT * FROM t", user="bob")
    db.sql("INSERT INTO t VALUES (2, 'y')", user="owner")
    db.sql("CALL envelope.unprotect('t')")
    assert db.sql("SELECT * FROM t ORDER BY id") == [(1, "x"), (2, "y")]


def test_protect_and_use_in_one_transaction(db: Database) -> None:
    with db.admin.transaction():
        db.sql("CREATE TABLE t (id int PRIMARY KEY, secret text)")
        db.sql("""CALL envelope.protect('t', '["secret"]')""")
        db.sql("INSERT INTO t VALUES (1, 'x')")
        assert db.sql("SELECT secret FROM t") == [("x",)]
        db.sql("CALL envelope.unprotect('t')")
    assert db.sql("SELECT secret FROM t") == [("x",)]


def test_without_primary_key(db: Database) -> None:
    db.sql("CREATE TABLE t (secret text, n int)")
    db.sql("""CALL envelope.protect('t', '{"secret": {"bind": "column"}}')""")
    db.sql("INSERT INTO t VALUES ('a', 1), ('a', 1), (NULL, NULL)")
    assert db.sql("SELECT * FROM t") == [("a", 1), ("a", 1), (None, None)]
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
        db.sql("UPDATE t SET n = 2")
    assert "primary key" in str(refused.value.diag.message_hint)
    assert db.sql("DELETE FROM t WHERE n IS NULL RETURNING secret, n") == [(None, None)]
    db.sql("ALTER TABLE t_encrypted ADD id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY; CALL envelope.refresh('t')")


def test_owners_with_long_names_alike_do_not_meet(db: Database) -> None:
    names = ["o" * 62 + end for end in "ab"]
    try:
        for number, name in enumerate(names):
            db.sql(f"CREATE ROLE {name}; GRANT CREATE ON SCHEMA public TO {name}")
            db.sql(f"CREATE TABLE t{number} (id int PRIMARY KEY, secret text); ALTER TABLE t{number} OWNER TO {name}")
            db.sql(f"""CALL envelope.protect('t{number}', '["secret"]')""")
        for number, name in enumerate(names):
            db.sql(f"SET ROLE {name}; INSERT INTO t{number} VALUES (1, 'x'); RESET ROLE")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.sql(f"SET ROLE {name}; SELECT * FROM t{1 - number}")
            db.sql("RESET ROLE")
            db.sql(f"SET ROLE {name}")
            assert db.one("SELECT count(*) FROM envelope_private.capability") == 1
            db.sql("RESET ROLE")
    finally:
        db.sql("RESET ROLE; DROP OWNED BY " + ", ".join(names) + " CASCADE; DROP ROLE " + ", ".join(names))


def test_comments_of_indexes_come_back(db: Database) -> None:
    """Of those that tokens stood in for, and of those that were dropped."""
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text, b text CONSTRAINT once UNIQUE, c text)")
    db.sql(
        "CREATE INDEX ia ON t (a); CREATE INDEX ic ON t (upper(c)); ALTER TABLE t ADD CONSTRAINT x EXCLUDE (c WITH =)"
    )
    db.sql("COMMENT ON INDEX ia IS 'it''s a'; COMMENT ON INDEX ic IS 'c'; COMMENT ON CONSTRAINT once ON t IS 'b'")
    db.sql("COMMENT ON CONSTRAINT x ON t IS 'x'")
    schema = dump(db)
    db.sql("""CALL envelope.protect('t', '{"a": {}, "b": {}, "c": {"index": "drop"}}')""")
    db.sql("CALL envelope.unprotect('t')")
    assert dump(db) == schema
