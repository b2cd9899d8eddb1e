"""A table's owner lays traps for the superuser who protects the table: their code must run with the owner's rights."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.fix_stack import Database

# Each tries to leave the owner's rights, and writes down as whom it ran.
TRAP = """
CREATE TABLE seen (who text, tried text);
GRANT ALL ON seen TO PUBLIC;
CREATE FUNCTION trap(value text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen VALUES (current_user, 'code');
    BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'SET ROLE postgres'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'RESET SESSION AUTHORIZATION'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'SET SESSION AUTHORIZATION postgres'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'ALTER ROLE owner SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
    INSERT INTO seen VALUES (current_user, 'after');
    RETURN true;
END $$;
CREATE FUNCTION delayed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO seen VALUES (current_user, 'deferred trigger'); RETURN NULL; END $$;
CREATE TABLE later (x int);
CREATE CONSTRAINT TRIGGER delayed AFTER INSERT ON later DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION delayed();
CREATE FUNCTION trap_later(value text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.trap(value);
    BEGIN INSERT INTO public.later VALUES (1); EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN
        EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT public.trap(NULL)';
    EXCEPTION WHEN OTHERS THEN NULL; END;
    RETURN true;
END $$;
ALTER FUNCTION trap SET search_path = public;
ALTER FUNCTION delayed SET search_path = public;
CREATE DOMAIN sly AS text CHECK (trap_later(VALUE));
CREATE TYPE nest AS (inner_value sly);
"""

TABLES = {
    "domain": "CREATE TABLE t (id int PRIMARY KEY, secret sly)",
    "literal default": "CREATE TABLE t (id int PRIMARY KEY, secret nest DEFAULT '(a)')",
    "literal default elsewhere": "CREATE TABLE t (id int PRIMARY KEY, secret text, other sly[] DEFAULT '{a}')",
    "check": "CREATE TABLE t (id int PRIMARY KEY, secret text CHECK (trap_later(secret)))",
    "check with literal": "CREATE TABLE t (id int PRIMARY KEY, secret text"
    " CHECK ('(a)'::nest IS NOT NULL OR secret > ''))",
    "index expression": "CREATE TABLE t (id int PRIMARY KEY, secret text, n text DEFAULT 'n');"
    "CREATE FUNCTION sneak(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS"
    " 'BEGIN RETURN public.trap_later($1); END';"
    "CREATE INDEX ON t (sneak(n))",
    "default": "CREATE TABLE t (id int PRIMARY KEY, secret text, n boolean DEFAULT trap_later('x'))",
    "trigger": "CREATE TABLE t (id int PRIMARY KEY, secret text);"
    "CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN PERFORM public.trap_later(NULL); RETURN NEW; END';"
    "CREATE TRIGGER fire BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION fire();"
    "ALTER TABLE t ENABLE ALWAYS TRIGGER fire",
    "row policy": "CREATE TABLE t (id int PRIMARY KEY, secret text);"
    "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (trap_later('x'))",
    "generated column": "CREATE TABLE t (id int PRIMARY KEY, secret text, n text DEFAULT 'n');"
    "CREATE FUNCTION sneak(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS"
    " 'BEGIN RETURN public.trap_later($1); END';"
    "ALTER TABLE t ADD g boolean GENERATED ALWAYS AS (sneak(n)) STORED",
    "key cast": "CREATE TABLE t (id sly PRIMARY KEY, secret text)",
}

SUPERUSER_RUNS: dict[str, Callable[[Database], object]] = {
    "protect": lambda db: db.sql("""CALL envelope.protect('t', '["secret"]')"""),
    "refresh": lambda db: db.sql("CALL envelope.refresh('t')"),
    "rotate": lambda db: db.sql("SELECT envelope.rotate('t')"),
    "reencrypt": lambda db: db.sql("CALL envelope.reencrypt('t', 1)"),
    "unprotect": lambda db: db.sql("CALL envelope.unprotect('public.t')"),
}


@pytest.mark.parametrize("trap", TABLES)
def test_owner_code_never_runs_as_the_superuser(db: Database, owner: psycopg.Connection, trap: str) -> None:
    db.sql("GRANT CREATE, USAGE ON SCHEMA public TO owner")
    owner.execute(TRAP)
    owner.execute(TABLES[trap])
    owner.execute("INSERT INTO t (id, secret) VALUES (1, NULL), (2, NULL)")
    owner.execute("TRUNCATE seen, later")
    for run in SUPERUSER_RUNS.values():
        run(db)
    assert {who for (who,) in db.sql("SELECT DISTINCT who FROM seen")} <= {"owner"}
    assert db.one("SELECT rolsuper FROM pg_roles WHERE rolname = 'owner'") is False
    assert db.sql("SELECT id, secret IS NULL FROM t ORDER BY id") in (
        [(1, True), (2, True)],
        [("1", True), ("2", True)],
    )


def test_the_trap_would_catch_a_superuser(db: Database, owner: psycopg.Connection) -> None:
    """The control: the same code, called as the superuser, is seen; and a deferred trigger runs as who commits."""
    owner.execute(TRAP)
    db.sql("SELECT trap_later('x')")
    assert set(db.sql("SELECT who, tried FROM seen")) >= {("postgres", "code"), ("postgres", "deferred trigger")}
    db.sql("ALTER ROLE owner NOSUPERUSER")


# The owner's own "=" makes whoever resolves it as a superuser give the owner more rights.
EQUALS = """
CREATE SCHEMA IF NOT EXISTS evil AUTHORIZATION owner;
CREATE FUNCTION evil.same(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user) THEN
        EXECUTE 'ALTER ROLE owner CREATEROLE';
    END IF;
    RETURN $1 OPERATOR(pg_catalog.=) $2;
END $$;
ALTER FUNCTION evil.same OWNER TO owner;
CREATE OPERATOR evil.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = evil.same)"""
SETS = """
CREATE FUNCTION sets(value text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'evil, pg_catalog, pg_temp', false);
    PERFORM pg_catalog.set_config('statement_timeout', '77s', false);
    PERFORM pg_catalog.set_config('work_mem', '77MB', true);
    RETURN true;
END $$"""


@pytest.mark.parametrize("run", SUPERUSER_RUNS)
def test_what_owner_code_sets_ends_with_it(db: Database, owner: psycopg.Connection, run: str) -> None:
    owner.execute(SETS)
    owner.execute("CREATE TABLE t (id int PRIMARY KEY, secret text CHECK (sets('x')), n int CHECK (sets('x')))")
    owner.execute("INSERT INTO t (id, secret) VALUES (1, 'x')")
    steps = list(SUPERUSER_RUNS)[: list(SUPERUSER_RUNS).index(run) + 1]
    for step in steps[:-1]:
        SUPERUSER_RUNS[step](db)
    db.sql(EQUALS)
    before = settings_of(db)
    try:
        SUPERUSER_RUNS[run](db)
        assert settings_of(db) == before
        assert db.one("SELECT rolcreaterole FROM pg_roles WHERE rolname = 'owner'") is False
    finally:
        db.sql("ALTER ROLE owner NOCREATEROLE")


def settings_of(db: Database) -> list[tuple[str, str]]:
    return db.sql("SELECT name, setting FROM pg_settings ORDER BY name")
