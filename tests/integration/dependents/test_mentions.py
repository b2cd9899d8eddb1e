"""protect() tells which functions name the table in their bodies, and what is different there from now on."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database

TABLE = "CREATE TABLE visit (id int PRIMARY KEY, email text, n int)"
PROTECT = """CALL envelope.protect('visit', '["email"]'{})"""
FUNCTIONS = {
    "reads() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT email FROM visit); END'": "reads()",
    "writes(visits text) RETURNS void LANGUAGE plpgsql AS $$BEGIN"
    " INSERT INTO Visit VALUES (1, visits) ON CONFLICT (id) DO NOTHING; END$$": (
        'writes(text): ON CONFLICT: write to "visit_upsert", which envelope.allow_upsert() makes'
    ),
    "empties() RETURNS void LANGUAGE plpgsql AS $$BEGIN TRUNCATE public.visit; END$$": (
        "empties(): TRUNCATE: CALL envelope.truncate(...)"
    ),
    "walks() RETURNS void LANGUAGE plpgsql AS $$DECLARE c CURSOR FOR SELECT * FROM visit; BEGIN"
    " DELETE FROM visit WHERE CURRENT OF c; END$$": "walks(): WHERE CURRENT OF: use the primary key",
    "old() RETURNS text LANGUAGE sql AS 'SELECT email FROM visit'": "old()",
    "builds() RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE 'DELETE FROM visit'; END$$": (
        "builds(): builds SQL while it runs, which cannot be read beforehand"
    ),
}
OTHERS = (
    "says() RETURNS text LANGUAGE plpgsql AS $$BEGIN /* visit */ RETURN 'visit'; END$$",
    "visits() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT 1 AS visits); END'",
    "followed() RETURNS text BEGIN ATOMIC SELECT email FROM visit; END",
)


def told(db: Database, call: str) -> list[str]:
    """The functions of the notice, without their schema."""
    found: list[str] = []

    def note(notice: psycopg.errors.Diagnostic) -> None:
        if 'functions name "public"."visit" in their bodies' in (notice.message_primary or ""):
            found.extend((notice.message_detail or "").splitlines())

    with db.connect() as session:
        session.add_notice_handler(note)
        session.execute(call)
    return [line.removeprefix("public.") for line in found]


@pytest.mark.parametrize("online", ["", ", online => true"])
def test_functions_that_name_the_table(db: Database, online: str) -> None:
    db.sql(TABLE)
    for function in (*FUNCTIONS, *OTHERS):
        db.sql(f"CREATE FUNCTION {function}")
    assert told(db, PROTECT.format(online)) == sorted(FUNCTIONS.values())


def test_rows_get_search_columns(db: Database) -> None:
    db.sql(f"{TABLE}; CREATE INDEX ON visit (email)")
    db.sql("CREATE FUNCTION one() RETURNS int LANGUAGE plpgsql AS 'DECLARE v visit%ROWTYPE; BEGIN RETURN v.n; END'")
    assert told(db, PROTECT.format("")) == ["one(): %ROWTYPE has the search columns, too"]


def test_nothing_is_told_where_no_function_names_it(db: Database) -> None:
    db.sql(TABLE)
    assert told(db, PROTECT.format("")) == []


def test_there_may_be_many(db: Database) -> None:
    db.sql(TABLE)
    for number in range(23):
        db.sql(f"CREATE FUNCTION f{number}() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT n FROM visit); END'")
    assert told(db, PROTECT.format(""))[-1] == "and 3 more"


def test_the_plan_tells_them_before(db: Database) -> None:
    db.sql(TABLE)
    for function in (*FUNCTIONS, *OTHERS):
        db.sql(f"CREATE FUNCTION {function}")
    planned = dict(db.sql("SELECT object, detail FROM envelope.plan('visit', '[\"email\"]') WHERE step = 'difference'"))
    assert sorted(of.removeprefix("function public.") for of in planned if of.startswith("function ")) == sorted(
        line.split(": ")[0] for line in FUNCTIONS.values()
    )
    assert planned["function public.empties()"] == "TRUNCATE: CALL envelope.truncate(...)"
