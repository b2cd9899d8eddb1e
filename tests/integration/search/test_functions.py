"""Users' functions as normalisers: copies of harmless expressions, which nobody can change behind the tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from stack.postgres import Cluster
from tests.fix_stack import Database, Fill
from tests.integration.operations.fix_clusters import run
from tests.integration.search.fix_users import plan

PLATE = "CREATE OR REPLACE FUNCTION plate(value text) RETURNS text IMMUTABLE RETURN translate(upper(value), ' -', '')"
TABLE = """
CREATE TABLE car (id int PRIMARY KEY, plate text COLLATE "C");
INSERT INTO car VALUES (1, 'B-AB 123'), (2, 'b ab 9'), (3, NULL), (4, 'ärger');
ALTER TABLE car OWNER TO owner"""
PROTECT = """CALL envelope.protect('car', '{"plate": {"search": {"exact": {"normalize": "public.plate"}}}}')"""
FOUND = "SELECT id FROM car WHERE plate_search = %s"


def fill(db: Database) -> None:
    db.sql(PLATE)
    db.sql("ALTER FUNCTION plate OWNER TO owner")
    db.sql(TABLE)
    db.sql(PROTECT)


@pytest.fixture
def cars(filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(fill)


def test_values_are_equal_if_the_function_makes_them_so(cars: Database) -> None:
    cars.sql("INSERT INTO car VALUES (5, 'bab-99')", user="owner")
    cars.sql("UPDATE car SET plate = 'x y' WHERE id = 2", user="owner")
    cars.sql("GRANT SELECT (id, plate_search) ON car TO alice")
    alice = cars.connect("alice")
    for needle, row in {"bab123": 1, "X-Y": 2, "B AB99": 5, "ÄRGER": 4}.items():
        assert alice.execute(FOUND, [needle]).fetchall() == [(row,)]
    assert cars.sql("SELECT id FROM car WHERE plate_search = ANY ('{bab123,xy}') ORDER BY 1") == [(1,), (2,)]
    assert cars.sql(FOUND, "B-AB") == []
    cars.sql("CALL envelope.verify('car')")
    assert cars.one("SELECT count(*) FROM envelope.faults") == 0


def test_the_index_serves_it(cars: Database) -> None:
    cars.sql("SET enable_seqscan = off")
    assert "Index Cond: ((plate_search)::envelope_search" in plan(
        cars.admin, "SELECT id FROM car WHERE plate_search = 'x'"
    )


def test_a_changed_function_changes_nothing_until_it_is_told_to(cars: Database) -> None:
    status = "SELECT detail FROM envelope.status() WHERE check_name = 'search function'"
    assert cars.sql(status) == []
    cars.sql(PLATE.replace("'')", "'') || 'x'"), user="postgres")
    assert cars.sql(FOUND, "bab123") == [(1,)]
    ((told,),) = cars.sql(status)
    assert told == "public.car: public.plate(text) has changed; tokens are still those of its copy"
    cars.sql("CALL envelope.rotate_search('car', 'plate')")
    assert cars.sql(FOUND, "bab123") == [(1,)]
    cars.sql(PLATE.replace("upper(value)", "replace(upper(value), 'Ä', 'AE')"))
    assert cars.sql(FOUND, "AERGER") == []
    cars.sql("CALL envelope.rotate_search('car', 'plate', normalizer => 'public.plate')")
    assert cars.sql(FOUND, "AERGER") == [(4,)]
    assert cars.sql(status) == []
    cars.sql("DROP FUNCTION plate")
    assert len(cars.sql(status)) == 1
    cars.sql("CALL envelope.unprotect('car')")
    copies = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'envelope_compare'::regnamespace"
    assert cars.one(copies) == 0
    assert cars.one("SELECT count(*) FROM envelope_private.search_function") == 0


def test_add_search_and_advice_take_it(db: Database) -> None:
    db.sql(PLATE)
    db.sql(TABLE)
    assert db.one("SELECT different_values FROM envelope.search_advice('car', 'plate', 'public.plate')") == 3
    assert db.one("SELECT count(*) FROM envelope_private.search_function") == 0
    db.sql("""CALL envelope.protect('car', '["plate"]')""")
    db.sql("""CALL envelope.add_search('car', 'plate', '{"exact": {"normalize": "public.plate"}}')""")
    assert db.sql(FOUND, "BAB123") == [(1,)]


def test_the_owner_cannot_change_the_copy(cars: Database) -> None:
    (copy,) = cars.sql("SELECT proname FROM pg_proc WHERE pronamespace = 'envelope_compare'::regnamespace")[0]
    made = f"FUNCTION envelope_compare.{copy}(value text)"
    for statement in (
        f"CREATE OR REPLACE {made} RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT current_user::text'",
        f"ALTER {made} SECURITY DEFINER",
        f"DROP {made}",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            cars.sql(statement, user="owner")


def test_a_dump_brings_the_copy(
    cars: Database, other_cluster: Cluster, empty_database: Callable[[str], str], tmp_path: Path
) -> None:
    cars.sql("DROP FUNCTION plate")
    run(cars.stack.cluster, cars.name, "pg_dump", "--format=custom", "--file", tmp_path / "dump")
    name = empty_database("plates")
    run(other_cluster, name, "pg_restore", "--jobs=2", "--dbname", name, tmp_path / "dump")
    with other_cluster.connect(name) as connection:
        connection.execute("SELECT envelope.this_is_the_original()")
        connection.execute("INSERT INTO car VALUES (9, 'new-9')")
        for needle, row in {"bab123": 1, "NEW9": 9}.items():
            assert connection.execute(FOUND, [needle]).fetchall() == [(row,)]


HOSTILE = (
    "IMMUTABLE RETURN pg_read_file(value)",
    "IMMUTABLE RETURN query_to_xml(value, true, true, '')::text",
    "IMMUTABLE RETURN set_config('search_path', value, false)",
    "IMMUTABLE RETURN (value::int)::text",
    "IMMUTABLE RETURN encode(decode(value, 'hex'), 'hex')",
    "IMMUTABLE RETURN value || value",
    "IMMUTABLE RETURN mine(value)",
    "IMMUTABLE RETURN upper(value) || random()",
    "IMMUTABLE RETURN value || current_user",
    "IMMUTABLE RETURN 'constant'",
    "IMMUTABLE RETURN (SELECT usename FROM pg_user LIMIT 1) || value",
    "IMMUTABLE RETURN (value)::short",
    "IMMUTABLE RETURN CASE WHEN '(x)'::pair IS NULL THEN 'a' ELSE value END",
    "IMMUTABLE RETURN value OPERATOR(public.||||) 'x'",
    "IMMUTABLE RETURN CASE WHEN value LIKE 'a%' THEN 'a' END",
    "IMMUTABLE RETURN nullif(value, '')",
    "STABLE RETURN upper(value)",
    "RETURN upper(value)",
    "IMMUTABLE LANGUAGE sql AS 'SELECT upper($1)'",
    "IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN upper(value); END'",
    "IMMUTABLE BEGIN ATOMIC SELECT upper(value) FROM pg_class; END",
    "IMMUTABLE BEGIN ATOMIC SELECT 'x'::text; SELECT upper(value); END",
)


@pytest.fixture(scope="module")
def hostile(shared_db: Database) -> Database:
    """What hostile functions call. Their tests change nothing but the function."""
    shared_db.sql("CREATE FUNCTION mine(value text) RETURNS text IMMUTABLE LANGUAGE sql RETURN upper(value)")
    shared_db.sql("CREATE DOMAIN short AS text CHECK (mine(VALUE) <> 'x'); CREATE TYPE pair AS (one short)")
    shared_db.sql("CREATE FUNCTION joined(text, text) RETURNS text IMMUTABLE LANGUAGE sql RETURN $1")
    shared_db.sql("CREATE OPERATOR public.|||| (LEFTARG = text, RIGHTARG = text, FUNCTION = joined)")
    shared_db.sql(TABLE)
    return shared_db


@pytest.mark.parametrize("body", HOSTILE)
def test_only_harmless_expressions_are_taken(hostile: Database, body: str) -> None:
    hostile.sql("DROP FUNCTION IF EXISTS plate(text)")
    hostile.sql(f"CREATE FUNCTION plate(value text) RETURNS text {body}")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="cannot be a normaliser"):
        hostile.sql(PROTECT)
    assert hostile.one("SELECT count(*) FROM pg_proc WHERE pronamespace = 'envelope_compare'::regnamespace") == 0


@pytest.mark.parametrize(
    "name", ["public.nothing", "nowhere.plate", "function_0123456789abcdef", "public.", ".", "a.b.c"]
)
def test_an_unknown_function_is_refused(db: Database, name: str) -> None:
    db.sql(PLATE)
    db.sql(TABLE)
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        db.sql(PROTECT.replace("public.plate", name))


def test_it_is_for_texts(db: Database) -> None:
    db.sql(PLATE)
    db.sql("CREATE TABLE car (id int PRIMARY KEY, plate int)")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="is for texts"):
        db.sql(PROTECT)
