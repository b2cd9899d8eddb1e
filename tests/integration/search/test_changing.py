"""add_search, rotate_search and drop_search while the table is in use: a search finds its rows at every moment."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.fix_load import rounds
from tests.fix_stack import Database, Fill
from tests.integration.operations.test_crash import kill_backend
from tests.integration.rotation.fix_jobs import Beside, until, until_state
from tests.integration.search.fix_users import plan

# Several batches of 50, and enough for an index to be worth it.
ROWS = 1000
Make = Callable[..., Database]
ADD = "CALL envelope.add_search('person', 'email')"
SLOW_ADD = "CALL envelope.add_search('person', 'email', batch_size => 50, pause_ms => 200)"
ROTATE = "CALL envelope.rotate_search('person', 'email')"
SLOW_ROTATE = "CALL envelope.rotate_search('person', 'email', batch_size => 50, pause_ms => 200)"
STATES = "SELECT search_column, normalizer, state FROM envelope.searches ORDER BY search_column"
FOUND = """
SELECT count(*) FROM person_encrypted e JOIN person p USING (id)
WHERE p.email IS NOT NULL AND (SELECT array_agg(s.id) FROM person s WHERE s.email_search = p.email)
    IS DISTINCT FROM ARRAY[p.id]"""
BLOCKS = "SELECT count(*) > 0 FROM envelope.progress WHERE what = 'search' AND blocks_done > 0"
# Writes that run code of the table, rights by row, keys of each tenant: three other ways to make a token.
KINDS = {
    "plain": [],
    "its own trigger": [
        "CREATE FUNCTION same() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER same BEFORE INSERT OR UPDATE ON person FOR EACH ROW EXECUTE FUNCTION same()",
    ],
    "row security": ["ALTER TABLE person ENABLE ROW LEVEL SECURITY"],
    "tenants": [],
}


@functools.cache
def fill(kind: str, search: str, rows: int) -> Fill:
    def protected(db: Database) -> None:
        db.sql("CREATE TABLE person (id int PRIMARY KEY, tenant int NOT NULL DEFAULT 1, email text, note text)")
        for statement in KINDS[kind]:
            db.sql(statement)
        db.sql(f"INSERT INTO person SELECT i, i % 3, 'value ' || i FROM generate_series(1, {rows}) i")
        scope = ", scope => 'tenant', scope_column => 'tenant'" if kind == "tenants" else ""
        db.sql(f"""CALL envelope.protect('person', '{{"email": {search}}}'{scope})""")
        db.sql("VACUUM ANALYZE person_encrypted")

    return protected


@pytest.fixture
def make(filled: Callable[[Fill], Database]) -> Make:
    """Makes `person`, protected. These tests destroy no key, so a copy will do."""

    def made(kind: str = "plain", search: str = "{}", rows: int = ROWS) -> Database:
        return filled(fill(kind, search, rows))

    return made


def assert_found(db: Database, count: int) -> None:
    """Each value finds its own row and no other, as they all differ."""
    assert db.one("SELECT count(email) FROM person") == count
    assert db.one(FOUND) == 0


@contextmanager
def being_made(db: Database, statement: str) -> Iterator[None]:
    """The state in which a job that ended early leaves the table."""
    job = Beside(db, statement)
    until(db, BLOCKS, "the first batch")
    db.sql("SELECT envelope.abort('person')")
    error = job.end()
    assert error is not None
    assert error.sqlstate == "57014"
    assert "being made" in [state for *_, state in db.sql(STATES)]
    yield


def write(db: Database, first: int) -> None:
    """Each way to write: new rows, changed values, a value from and to NULL, another key, an open column alone."""
    db.sql(
        f"INSERT INTO person VALUES ({first}, 1, 'new {first}'), ({first + 1}, 2, NULL), ({first + 2}, 2, 'x{first}')"
    )
    db.sql(f"UPDATE person SET email = 'changed ' || id WHERE id IN (1, {ROWS})")
    db.sql(f"UPDATE person SET email = 'was null {first}' WHERE id = {first + 1}")
    db.sql(f"UPDATE person SET email = NULL WHERE id = {first + 2}")
    db.sql(f"UPDATE person SET id = -id WHERE id IN (3, {ROWS - 1})")
    db.sql("UPDATE person SET note = 'noted' WHERE id IN (4, 5)")
    db.sql("UPDATE person SET note = note, email = email WHERE id = 6")


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_column_is_added_to_a_table_in_use(make: Make, kind: str) -> None:
    db = make(kind)
    with being_made(db, SLOW_ADD):
        write(db, 3000)
        with pytest.raises(psycopg.errors.UndefinedColumn):
            db.sql("SELECT FROM person WHERE email_search = 'value 7'")
    db.sql(ADD)
    write(db, 4000)
    assert db.sql(STATES) == [("email_search", "exact/1", "ready")]
    assert_found(db, ROWS + 4)
    db.sql("ANALYZE person_encrypted")
    assert "person_email_search_idx" in plan(db.admin, "SELECT FROM person WHERE email_search = 'value 7'")


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_column_gets_another_key_in_use(make: Make, kind: str) -> None:
    db = make(kind, '{"search": "exact", "unique": true}')
    tokens = dict(db.sql("SELECT id, email_search::text FROM person_encrypted"))
    with being_made(db, SLOW_ROTATE):
        write(db, 3000)
        assert_found(db, ROWS + 2)
        with pytest.raises(psycopg.errors.UniqueViolation, match="person_email_search_key"):
            db.sql("INSERT INTO person VALUES (5000, 1, 'value 7')")
    db.sql(ROTATE)
    write(db, 4000)
    assert_found(db, ROWS + 4)
    with pytest.raises(psycopg.errors.UniqueViolation, match="person_email_search_key"):
        db.sql("INSERT INTO person VALUES (5000, 1, 'value 7')")
    now = dict(db.sql("SELECT id, email_search::text FROM person_encrypted"))
    assert not set(now.values()) & set(tokens.values()), "no old token is left"
    db.sql("ANALYZE person_encrypted")
    assert "person_email_search_key" in plan(db.admin, "SELECT FROM person WHERE email_search = 'value 7'")


def test_a_change_of_keys_is_given_up(make: Make) -> None:
    db = make(search='{"search": "exact"}')
    keys = db.sql("SELECT name, state FROM envelope.keys WHERE state = 'active' ORDER BY 1")
    with being_made(db, SLOW_ROTATE):
        db.sql("CALL envelope.drop_search('person', 'email')")
    write(db, 3000)
    assert db.sql(STATES) == [("email_search", "exact/1", "ready")]
    assert_found(db, ROWS + 2)
    assert db.sql("SELECT name, state FROM envelope.keys WHERE state = 'active' ORDER BY 1") == keys


@pytest.mark.parametrize("kind", ["plain", "its own trigger"])
def test_what_is_written_meanwhile_has_right_tokens(make: Make, kind: str) -> None:
    """verify() compares every token with its value."""
    db = make(kind)
    writer = db.connect()
    number = 0
    for statement in (SLOW_ADD, SLOW_ROTATE):
        job = Beside(db, statement.replace("200", "10"))
        for _ in rounds(threading.Event()):
            if not job.alive:
                break
            number += 1
            writer.execute("INSERT INTO person VALUES (%s, 1, %s)", [10000 + number, f"new {number}"])
            writer.execute("UPDATE person SET email = %s WHERE id = %s", [f"changed {number}", number * 7 % ROWS + 1])
            writer.execute("UPDATE person SET id = -id WHERE id = %s", [number * 11 % ROWS + 1])
            writer.execute("DELETE FROM person WHERE id = %s", [number * 13 % ROWS + 1])
        assert job.end() is None
    assert number > 10
    db.sql("CALL envelope.verify('person')")
    assert db.sql("SELECT * FROM envelope.faults") == []
    assert db.one("SELECT count(*) FROM person_encrypted WHERE (email IS NULL) <> (email_search IS NULL)") == 0
    assert db.one(FOUND) == 0


def test_a_search_finds_its_row_at_every_moment_of_a_rotation(make: Make) -> None:
    """Prepared before, in a session that goes on; and in new transactions."""
    db = make(search='{"search": "exact"}')
    reader = db.connect(prepare_threshold=0)
    job = Beside(db, "CALL envelope.rotate_search('person', 'email', batch_size => 100, pause_ms => 10)")
    looked = 0
    while job.alive or looked < 100:
        looked += 1
        number = looked * 37 % ROWS + 1
        for condition in ("= %s", "= ANY (ARRAY[%s])"):
            query = f"SELECT id FROM person WHERE email_search {condition}"
            assert reader.execute(query, [f"value {number}"]).fetchall() == [(number,)]
    assert job.end() is None
    assert reader.execute("SELECT id FROM person WHERE email_search = 'value 9'").fetchall() == [(9,)]


@pytest.mark.parametrize("statement", [ADD, ROTATE])
def test_who_still_sees_rows_without_tokens_is_waited_for(make: Make, statement: str) -> None:
    """It could search by the new tokens otherwise, and not find what it reads."""
    db = make(search="{}" if statement == ADD else '{"search": "exact"}')
    with db.connect(autocommit=False) as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        db.sql("SET lock_timeout = '300ms'")
        with pytest.raises(psycopg.errors.ObjectInUse, match="may still see rows without them"):
            db.sql(statement)
        db.sql("RESET lock_timeout")
        old.rollback()
    db.sql(statement)
    assert_found(db, ROWS)


@pytest.mark.parametrize("statement", [SLOW_ADD, SLOW_ROTATE])
def test_a_killed_job_goes_on_where_it_was(make: Make, statement: str) -> None:
    db = make(search="{}" if statement == SLOW_ADD else '{"search": "exact"}')
    db.durable()
    job = Beside(db, statement)
    until(db, BLOCKS, "the first batch")
    kill_backend(db.stack, job.pid)
    job.end()
    with Database(db.stack, db.name) as again:
        column = again.one("SELECT search_column FROM envelope.searches WHERE state = 'being made'")
        filled = again.one(f"SELECT count({column}) FROM person_encrypted")
        assert 0 < filled < ROWS
        assert again.sql("SELECT what, state FROM envelope.progress") == [("search", "interrupted")]
        again.sql(statement.replace(", batch_size => 50, pause_ms => 200", ""))
        assert again.one("SELECT rows FROM envelope.progress") == ROWS - filled
        assert_found(again, ROWS)


def test_a_job_pauses_and_goes_on(make: Make) -> None:
    db = make()
    job = Beside(db, SLOW_ADD)
    until_state(db, "running")
    assert db.one("SELECT envelope.pause('person')") == 1
    until_state(db, "paused")
    with pytest.raises(psycopg.errors.ObjectInUse):
        db.sql("CALL envelope.add_search('person', 'email')")
    with pytest.raises(psycopg.errors.Error, match="another session makes search tokens"):
        db.sql("CALL envelope.drop_search('person', 'email', 'email_search')")
    db.sql("SELECT envelope.resume('person')")
    assert job.end() is None
    assert any("rows got search tokens" in notice for notice in job.notices)


def test_equal_values_stop_a_unique_search_and_nothing_is_lost(make: Make) -> None:
    db = make()
    db.sql("UPDATE person SET email = 'VALUE 8' WHERE id = 7")
    unique = """CALL envelope.add_search('person', 'email', '{"exact": {"normalize": "email", "unique": true}}')"""
    with pytest.raises(psycopg.errors.UniqueViolation, match="equal after normalising") as caught:
        db.sql(unique)
    assert caught.value.diag.message_detail is None
    with pytest.raises(psycopg.errors.Error, match="is being made of other options"):
        db.sql(ADD)
    db.sql("UPDATE person SET email = 'value 7' WHERE id = 7")
    db.sql(unique)
    assert db.sql("SELECT id FROM person WHERE email_search = ' VALUE 8'") == [(8,)]
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.sql("INSERT INTO person VALUES (9000, 1, 'Value 8')")


def test_a_normaliser_changes_while_the_column_is_searched(make: Make) -> None:
    db = make(search='{"search": "exact"}')
    db.sql("CALL envelope.rotate_search('person', 'email', normalizer => 'casefold')")
    assert db.sql("SELECT id FROM person WHERE email_search = 'VALUE 8'") == [(8,)]
    assert db.sql("SELECT id FROM person WHERE email_search = ANY ('{VALUE 8,VaLuE 9}') ORDER BY id") == [(8,), (9,)]
    assert db.sql(STATES) == [("email_search", "casefold/1", "ready")]


def test_columns_that_share_a_key_change_together(make: Make) -> None:
    shared = '{"search": {"exact": {"key": "people"}}}'
    db = make(search=shared)
    db.sql(
        "CREATE TABLE member (no int PRIMARY KEY, name text, other text);"
        " INSERT INTO member VALUES (1, 'value 5', 'value 6')"
    )
    db.sql(f"""CALL envelope.protect('member', '{{"name": {shared}, "other": {shared}}}')""")
    joined = "SELECT p.id FROM person p JOIN member m ON p.email_search = m.{}_search"
    db.sql(ROTATE)
    assert db.sql(joined.format("name")) == [(5,)]
    assert db.sql(joined.format("other")) == [(6,)]
    assert db.sql("SELECT no FROM member WHERE other_search = 'value 6'") == [(1,)]
    assert set(db.sql("SELECT search_key FROM envelope.searches")) == {("people",)}
    db.sql("CREATE TABLE third (no int PRIMARY KEY, name text); INSERT INTO third VALUES (1, 'value 5')")
    db.sql(f"""CALL envelope.protect('third', '{{"name": {shared}}}')""")
    assert db.sql("SELECT p.id FROM person p JOIN third m ON p.email_search = m.name_search") == [(5,)]


def test_the_old_key_makes_no_token_any_more(make: Make) -> None:
    db = make(search='{"search": "exact"}')
    db.sql(ROTATE)
    states = dict(db.sql("SELECT name, state FROM envelope.keys WHERE name IS NOT NULL"))
    assert states == {
        "search public.person.email_search": "active",
        "search public.person.email_search 2": "decrypt-only",
    }
    assert db.one("SELECT count(*) FROM envelope_private.search_key") == 1


def test_what_hangs_on_the_view_stays_when_a_search_column_goes(make: Make) -> None:
    db = make(search='{"search": "exact"}')
    db.sql("ALTER VIEW person ALTER email SET DEFAULT 'none'; COMMENT ON VIEW person IS 'people'")
    db.sql("COMMENT ON COLUMN person.email IS 'the address'; GRANT SELECT (id, email) ON person TO alice")
    db.sql("CREATE VIEW above AS SELECT id FROM person; CREATE VIEW by_token AS SELECT email_search FROM person")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        db.sql("CALL envelope.drop_search('person', 'email')")
    # PostgreSQL names the column in one way or another.
    assert re.search(r"view public.by_token: column .*email_search\S* does not", str(refused.value.diag.message_detail))
    assert "public.above" not in str(refused.value.diag.message_detail)
    db.sql("DROP VIEW by_token; CALL envelope.drop_search('person', 'email')")
    assert db.one("SELECT count(*) FROM above") == ROWS
    assert db.sql(STATES) == []
    db.sql("INSERT INTO person (id) VALUES (8000)")
    assert db.one("SELECT email FROM person WHERE id = 8000", user="alice") == "none"
    assert db.one("SELECT obj_description('person'::regclass)") == "people"
    assert db.one("SELECT col_description('person'::regclass, 3)") == "the address"
    assert db.one("SELECT count(*) FROM pg_type WHERE typname LIKE 'exact%%'") == 0
    db.sql(ADD)
    assert_found(db, ROWS + 1)


def test_a_dropped_unique_search_lets_equal_values_in_and_unprotect_still_works(db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text UNIQUE); INSERT INTO person VALUES (1, 'x')")
    db.sql("""CALL envelope.protect('person', '["email"]'); """)
    db.sql("CALL envelope.drop_search('person', 'email')")
    db.sql("INSERT INTO person VALUES (2, 'x')")
    db.sql("CALL envelope.unprotect('person')")
    assert db.sql("SELECT * FROM person ORDER BY id") == [(1, "x"), (2, "x")]


def test_who_may_read_a_column_may_search_the_new_one(make: Make) -> None:
    db = make()
    db.sql("GRANT SELECT (id, email) ON person TO alice; GRANT SELECT (id) ON person TO bob")
    db.sql(ADD)
    query = "SELECT id FROM person WHERE email_search = 'value 7'"
    assert db.sql(query, user="alice") == [(7,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.sql(query, user="bob")


def test_ddl_beside_and_after_a_change_keeps_columns_apart(make: Make) -> None:
    """The view's columns are then in another order than the base table's."""
    db = make(search='{"search": "exact"}')
    with being_made(db, SLOW_ROTATE):
        db.sql("ALTER TABLE person_encrypted ADD city text; CALL envelope.refresh('person')")
        db.sql("UPDATE person SET city = 'Rome' WHERE id = 8")
    db.sql(ROTATE)
    db.sql("ALTER TABLE person_encrypted ADD zip text; CALL envelope.refresh('person')")
    db.sql("UPDATE person SET zip = '00100' WHERE id = 8")
    db.sql("ALTER VIEW person RENAME COLUMN email_search TO looked_up")
    db.sql("ALTER TABLE person_encrypted RENAME COLUMN city TO town; CALL envelope.refresh('person')")
    db.sql("ALTER TABLE person_encrypted RENAME COLUMN looked_up TO found_by; CALL envelope.refresh('person')")
    query = "SELECT id, town, zip FROM person WHERE found_by = 'value 8'"
    assert db.sql(query) == [(8, "Rome", "00100")]
    db.sql("CALL envelope.rotate_search('person', 'email')")
    assert db.sql(query) == [(8, "Rome", "00100")]
    db.sql("DROP VIEW person; CALL envelope.refresh('person_encrypted')")
    assert db.sql(query) == [(8, "Rome", "00100")]
    db.sql("CALL envelope.unprotect('person')")
    assert db.sql("SELECT id, email, town FROM person WHERE id = 8") == [(8, "value 8", "Rome")]


@pytest.mark.parametrize("statement", [SLOW_ADD, SLOW_ROTATE])
def test_unprotect_takes_half_made_tokens_along(make: Make, statement: str) -> None:
    db = make(search="{}" if statement == SLOW_ADD else '{"search": "exact"}')
    with being_made(db, statement):
        db.sql("CALL envelope.unprotect('person')")
    assert db.sql("SELECT count(*), count(email) FROM person") == [(ROWS, ROWS)]
    left = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'person'::regclass AND attnum > 0 AND NOT attisdropped"
    assert db.one(left) == 4
    assert db.one("SELECT count(*) FROM envelope_private.search_key") == 0


def test_values_that_do_not_open_get_no_token_and_stop_nothing(make: Make) -> None:
    db = make()
    db.sql("UPDATE person_encrypted SET email = set_byte(email, 19, get_byte(email, 19) # 128) WHERE id IN (5, 900)")
    job = Beside(db, ADD)
    assert job.end() is None
    assert any("2 rows" in notice and "do not open" in notice for notice in job.notices)
    assert db.sql("SELECT id FROM person WHERE email_search = ANY ('{value 5,value 6}')") == [(6,)]
    db.sql("UPDATE person SET email = 'value 5' WHERE id = 5")
    assert db.sql("SELECT id FROM person WHERE email_search = 'value 5'") == [(5,)]


REFUSED = {
    "CALL envelope.add_search('person', 'nothing')": "no such protected column",
    "CALL envelope.add_search('person', 'note')": "no such protected column",
    """CALL envelope.add_search('person', 'email', '{"exact": {"as": "note"}}')""": "cannot be changed as it is",
    """CALL envelope.add_search('person', 'email', '"fuzzy"')""": "must be one of exact, match, contains, range",
    """CALL envelope.add_search('person', 'email', '"range"')""": "needs a bucket",
    "CALL envelope.add_search('person', 'email')": "cannot be changed as it is",
    "CALL envelope.add_search('person', 'email', batch_size => 0)": "batch_size",
    "CALL envelope.drop_search('person', 'email', 'other')": "has no such search column",
    "CALL envelope.rotate_search('person', 'email', normalizer => 'nothing')": "no such normaliser",
    "CALL envelope.rotate_search('person', 'note')": "no such protected column",
    "BEGIN; CALL envelope.rotate_search('person', 'email')": "inside a transaction block",
}


@pytest.fixture(scope="module")
def unchanged(shared_db: Database) -> Database:
    """One database for all tests that change nothing."""
    fill("plain", '{"search": "exact"}', 10)(shared_db)
    return shared_db


@pytest.mark.parametrize("statement", REFUSED)
def test_what_cannot_be_is_refused_and_changes_nothing(unchanged: Database, statement: str) -> None:
    db = unchanged
    shape = "SELECT attname, atttypid FROM pg_attribute WHERE attrelid = 'person_encrypted'::regclass AND attnum > 0"
    before = db.sql(shape)
    with pytest.raises(psycopg.Error, match=REFUSED[statement]):
        db.sql(statement)
    db.sql("ROLLBACK")
    assert db.sql(shape) == before
    assert db.sql(STATES) == [("email_search", "exact/1", "ready")]


def test_several_search_columns_must_be_told_apart(make: Make) -> None:
    db = make(search='{"search": ["exact", {"exact": {"normalize": "casefold", "as": "loose"}}]}', rows=10)
    for call in ("rotate_search('person', 'email')", "drop_search('person', 'email')"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="several search columns") as refused:
            db.sql(f"CALL envelope.{call}")
        assert refused.value.diag.message_detail == "email_search, loose"
    db.sql("CALL envelope.rotate_search('person', 'email', 'loose')")
    assert db.sql("SELECT id FROM person WHERE loose = 'VALUE 8' AND email_search = 'value 8'") == [(8,)]
    db.sql("CALL envelope.drop_search('person', 'email', 'email_search')")
    assert db.sql(STATES) == [("loose", "casefold/1", "ready")]


@pytest.mark.parametrize("procedure", ["add_search", "drop_search", "rotate_search"])
def test_only_who_administers_may_change_searches(unchanged: Database, procedure: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        unchanged.sql(f"CALL envelope.{procedure}('person', 'email')", user="owner")


def test_operators_of_a_key_that_was_replaced_refuse_to_search(make: Make) -> None:
    """As on a subscriber, which gets rows of the key catalog and no functions."""
    db = make(search='{"search": "exact"}', rows=10)
    assert db.sql("SELECT id FROM person WHERE email_search = 'value 7'") == [(7,)]
    db.sql(
        "UPDATE envelope_private.field_key SET state = 'decrypt-only' WHERE field_uuid IN"
        " (SELECT search_uuid FROM envelope_private.search_key)"
    )
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="the search key was replaced"):
        db.connect().execute("SELECT id FROM person WHERE email_search = 'value 7'")
