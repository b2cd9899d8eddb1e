"""What the owner of a table can call who is no superuser: by itself, and by what a DBA makes once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database, Fill
from tests.integration.sql.test_there_and_back import dump

Connection = psycopg.Connection[Any]
MADE = """
CREATE SCHEMA dba;
CREATE PROCEDURE dba.protect_t() LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
    $$ BEGIN CALL envelope.protect('public.t', '["v"]'); END $$;
CREATE PROCEDURE dba.unprotect_t() LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
    $$ BEGIN CALL envelope.unprotect('public.t'); END $$;
CREATE PROCEDURE dba.reencrypt_t() LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
    $$ BEGIN CALL envelope.reencrypt('public.t'); END $$;
REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA dba FROM PUBLIC;
GRANT USAGE ON SCHEMA dba TO owner; GRANT EXECUTE ON ALL ROUTINES IN SCHEMA dba TO owner"""
NEED_A_SUPERUSER = (
    "CALL envelope.protect('plain', '[\"v\"]')",
    "CALL envelope.protect('plain', '[\"v\"]', online => true)",
    "CALL envelope.unprotect('t')",
    "CALL envelope.unprotect('t', online => true)",
    "CALL envelope.reencrypt('t')",
    "CALL envelope.verify('t')",
    "CALL envelope.add_search('t', 'v')",
    "CALL envelope.allow_upsert('t')",
    "SELECT envelope.rotate('t')",
)


def fill_table(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, v text, n int); INSERT INTO t VALUES (1, 'a', 2)")
    db.sql("CREATE TABLE plain (id int PRIMARY KEY, v text); ALTER TABLE plain OWNER TO owner")
    db.sql("ALTER TABLE t OWNER TO owner; GRANT SELECT, INSERT, UPDATE, DELETE ON t TO bob")
    db.sql("GRANT CREATE ON SCHEMA public TO owner, bob")


def fill(db: Database) -> None:
    fill_table(db)
    db.sql("""CALL envelope.protect('t', '["v"]')""")


@pytest.fixture
def db(request: pytest.FixtureRequest, filled: Callable[[Fill], Database]) -> Database:
    """A copy, as these tests destroy no key: with the table protected for those that ask for it so."""
    return filled(fill if "protected" in request.fixturenames else fill_table)


@pytest.fixture
def table(db: Database) -> Database:
    return db


@pytest.fixture
def protected(db: Database) -> Database:
    return db


def test_the_owner_refreshes_the_view(protected: Database, owner: Connection, bob: Connection) -> None:
    owner.execute("ALTER TABLE t_encrypted ADD late int DEFAULT 5")
    owner.execute("CALL envelope.refresh('t')")
    assert bob.execute("SELECT * FROM t").fetchall() == [(1, "a", 2, 5)]
    owner.execute("ALTER TABLE t_encrypted RENAME late TO later; CALL envelope.refresh('public.t_encrypted')")
    bob.execute("INSERT INTO t VALUES (2, 'b', 3, 4)")
    assert bob.execute("SELECT v, later FROM t WHERE id = 2").fetchall() == [("b", 4)]


def test_a_member_of_the_owner_does_so_too(protected: Database, owner: Connection, bob: Connection) -> None:
    protected.sql("CREATE ROLE team; GRANT team TO bob")
    protected.sql("ALTER TABLE t OWNER TO team; GRANT CREATE ON SCHEMA public TO team")
    owner.execute("SELECT 1")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        owner.execute("CALL envelope.refresh('t')")
    bob.execute("CALL envelope.refresh('t')")
    assert protected.sql("SELECT * FROM t") == [(1, "a", 2)]
    protected.sql("ALTER TABLE t OWNER TO owner; DROP OWNED BY team; DROP ROLE team")


def test_nobody_else_does(protected: Database, bob: Connection) -> None:
    before = dump(protected)
    for relation in ("t", "t_encrypted"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner"):
            bob.execute("CALL envelope.refresh(%s::text::regclass)", [relation])
    assert dump(protected) == before


def test_nobody_else_holds_the_table_up(protected: Database, owner: Connection, bob: Connection) -> None:
    with bob.transaction():
        with pytest.raises(psycopg.errors.InsufficientPrivilege), bob.transaction():
            bob.execute("CALL envelope.refresh('t')")
        owner.execute("SET statement_timeout = '20s'; CALL envelope.refresh('t')")


@pytest.mark.parametrize("given", ["NULL", "'plain'"])
def test_what_is_no_protected_table_is_refused(protected: Database, owner: Connection, given: str) -> None:
    with pytest.raises((psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject)):
        owner.execute(f"CALL envelope.refresh({given}::regclass)")  # type: ignore[arg-type]


def test_a_view_that_is_gone_needs_a_superuser(protected: Database, owner: Connection) -> None:
    protected.sql("DROP VIEW t")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        owner.execute("CALL envelope.refresh('t_encrypted')")
    protected.sql("CALL envelope.refresh('t_encrypted')")
    assert owner.execute("SELECT v FROM t").fetchall() == [("a",)]


def test_it_waits_for_the_end_of_an_exchange(protected: Database, owner: Connection) -> None:
    with owner.transaction():
        owner.execute("SELECT envelope.begin_ddl('t')")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState), owner.transaction():
            owner.execute("CALL envelope.refresh('t')")
        owner.execute("SELECT envelope.end_ddl()")


@pytest.mark.parametrize(
    "setting",
    [
        "SET standard_conforming_strings = off",
        "SET search_path = hostile, pg_catalog",
        "SET check_function_bodies = off",
        "SET row_security = off",
        "SET DateStyle = 'German'",
    ],
)
def test_settings_of_the_owner_change_nothing(protected: Database, owner: Connection, setting: str) -> None:
    """The package's own statements run with the rights of the extension's owner."""
    before = dump(protected)
    protected.sql("CREATE SCHEMA hostile AUTHORIZATION owner")
    owner.execute("CREATE FUNCTION hostile.quote_ident(text) RETURNS text LANGUAGE sql AS 'SELECT (1 / 0)::text'")
    owner.execute(setting)  # type: ignore[arg-type]
    owner.execute("CALL envelope.refresh('public.t')")
    protected.sql("DROP SCHEMA hostile CASCADE")
    assert dump(protected) == before
    assert protected.sql("SELECT * FROM t") == [(1, "a", 2)]


@pytest.mark.parametrize("statement", NEED_A_SUPERUSER)
def test_what_needs_a_superuser_says_so(protected: Database, owner: Connection, statement: str) -> None:
    before = dump(protected)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        owner.execute(statement)  # type: ignore[arg-type]
    assert dump(protected) == before


def test_a_procedure_of_a_dba_protects_one_table_for_its_owner(
    table: Database, owner: Connection, bob: Connection
) -> None:
    table.sql(MADE)
    before = dump(table)
    owner.execute("CALL dba.protect_t()")
    assert owner.execute("SELECT v FROM t").fetchall() == [("a",)]
    assert table.sql("SELECT \"column\" FROM envelope.columns WHERE relation = 't'::regclass") == [("v",)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        bob.execute("CALL dba.unprotect_t()")
    owner.execute("CALL dba.unprotect_t()")
    assert dump(table) == before
    table.sql("DROP SCHEMA dba CASCADE")


def test_a_procedure_that_commits_cannot_be_lent(protected: Database, owner: Connection) -> None:
    protected.sql(MADE)
    with pytest.raises(psycopg.errors.ActiveSqlTransaction):
        owner.execute("CALL dba.reencrypt_t()")
    protected.sql("DROP SCHEMA dba CASCADE")


def test_rotation_and_watching_are_granted_once(protected: Database, owner: Connection) -> None:
    protected.sql(
        "GRANT USAGE ON SCHEMA envelope TO owner; GRANT EXECUTE ON FUNCTION envelope.rotate(regclass, text),"
        " envelope.pause(regclass), envelope.resume(regclass), envelope.abort(regclass) TO owner;"
        " GRANT SELECT ON envelope.progress TO owner"
    )
    owner.execute("SELECT envelope.rotate('t')")
    owner.execute("SELECT envelope.pause('t'), envelope.resume('t'), envelope.abort('t')")
    assert owner.execute("SELECT count(*) FROM envelope.progress").fetchone() == (0,)
    protected.sql("CALL envelope.reencrypt('t')")
    assert owner.execute("SELECT what, state FROM envelope.progress").fetchall() == [("reencrypt", "done")]
