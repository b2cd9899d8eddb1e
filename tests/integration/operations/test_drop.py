"""DROP EXTENSION, by all its doors, while there are keys; and the way out, which says what it destroys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from stack.processes import wait_until
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure

REFUSED = ("2BP01", "cannot drop the extension pg_envelope while it holds keys")
GUARDS = """
SELECT (SELECT count(*) FROM pg_event_trigger WHERE evtname LIKE 'pg_envelope_guard%'),
    (SELECT count(*) FROM pg_proc WHERE proname LIKE 'pg_envelope_guard%')"""
DOORS = {
    "alone": "DROP EXTENSION pg_envelope",
    "cascade": "DROP EXTENSION pg_envelope CASCADE",
    "with others": "DROP EXTENSION IF EXISTS none, pg_envelope, plpython3u",
    "what it needs": "DROP EXTENSION plpython3u CASCADE",
    "its schema": "DROP SCHEMA public CASCADE",
    "in a block": "DO $$ BEGIN EXECUTE 'DROP EXTENSION pg' || '_envelope CASCADE'; END $$",
    "triggers off": "SET session_replication_role = replica; DROP EXTENSION pg_envelope CASCADE",
    "in a batch": "SELECT 1; DROP EXTENSION pg_envelope CASCADE; SELECT 2",
}


@pytest.fixture
def kept(db: Database) -> Database:
    """A named key, and a value under it in a column that knows nothing of the extension."""
    db.sql("SELECT envelope.create_key('api')")
    db.sql("CREATE SCHEMA data")
    db.sql("CREATE TABLE data.kept AS SELECT envelope.encrypt('secret'::text, 'api')::bytea AS value")
    return db


@pytest.fixture
def keeper(db: Database) -> Iterator[None]:
    """Another superuser, who owns the extension."""
    db.sql("CREATE ROLE keeper SUPERUSER")
    db.sql("DROP EXTENSION pg_envelope; SET ROLE keeper; CREATE EXTENSION pg_envelope; RESET ROLE")
    yield
    db.sql("REASSIGN OWNED BY keeper TO postgres; DROP ROLE keeper")


def assert_kept(db: Database) -> None:
    assert db.connect().execute("SELECT envelope.decrypt(value) FROM data.kept").fetchall() == [("secret",)]
    assert db.sql(GUARDS) == [(0, 0)]


@pytest.mark.parametrize("door", DOORS)
def test_it_is_refused_while_there_are_keys(kept: Database, door: str) -> None:
    sqlstate, text, hint = failure(kept.connect(), DOORS[door])
    assert (sqlstate, text) == REFUSED
    assert "forget_all_keys" in hint
    assert_kept(kept)


@pytest.mark.usefixtures("keeper")
def test_its_owner_does_not_take_it_along(kept: Database) -> None:
    assert failure(kept.connect(), "DROP OWNED BY keeper CASCADE")[:2] == REFUSED
    assert_kept(kept)


def test_it_says_what_would_be_lost(kept: Database) -> None:
    for number in range(12):
        kept.sql("SELECT envelope.create_key(%s)", f"key {number:02}")
    with pytest.raises(psycopg.errors.DependentObjectsStillExist) as raised:
        kept.sql("DROP EXTENSION pg_envelope")
    assert str(raised.value.diag.message_detail).startswith("13 DEKs of 13 keys: api, key 00, ")
    assert "key 08, ..." in str(raised.value.diag.message_detail)


@pytest.mark.parametrize(
    "statement",
    ["DROP SCHEMA data CASCADE", "DROP EXTENSION hstore", "DROP OWNED BY owner", "DROP EXTENSION IF EXISTS none"],
)
def test_what_has_nothing_to_do_with_it_is_dropped_as_ever(kept: Database, statement: str) -> None:
    kept.sql("CREATE EXTENSION hstore; CREATE SCHEMA AUTHORIZATION owner")
    kept.sql(statement)
    assert kept.sql(GUARDS) == [(0, 0)]
    assert kept.one("SELECT count(*) FROM envelope.keys") == 1


def test_an_ordinary_role_drops_its_own_schema_as_ever(kept: Database) -> None:
    kept.sql("CREATE SCHEMA AUTHORIZATION owner")
    owner = kept.connect("owner")
    owner.execute("DROP SCHEMA owner; CREATE TABLE public.t (i int); DROP OWNED BY owner")
    assert kept.sql(GUARDS) == [(0, 0)]


def test_two_sessions_drop_at_once(kept: Database) -> None:
    kept.sql("CREATE SCHEMA a; CREATE SCHEMA b")
    first, second = kept.connect(autocommit=False), kept.connect(autocommit=False)
    first.execute("DROP SCHEMA a")
    second.execute("DROP SCHEMA b")
    first.commit()
    second.rollback()
    assert kept.sql("SELECT nspname FROM pg_namespace WHERE nspname IN ('a', 'b')") == [("b",)]
    assert kept.sql(GUARDS) == [(0, 0)]


def test_without_keys_nothing_is_in_the_way(make_db: Callable[[], Database]) -> None:
    make_db().sql("DROP EXTENSION pg_envelope")


def test_a_first_key_that_is_being_made_is_waited_for(db: Database) -> None:
    maker, dropper = db.connect(autocommit=False), db.connect()
    maker.execute("SELECT envelope.create_key('api')")
    with ThreadPoolExecutor(1) as threads:
        dropped = threads.submit(failure, dropper, "DROP EXTENSION pg_envelope CASCADE")
        waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s AND NOT granted)"
        wait_until(lambda: db.one(waiting, dropper.info.backend_pid), 60, "the lock")
        maker.commit()
        assert dropped.result()[:2] == REFUSED
    assert db.one("SELECT count(*) FROM envelope.keys") == 1


@pytest.mark.parametrize("table", ["dek", "field_key", "field", "key", "installation"])
@pytest.mark.parametrize("statement", ["DELETE FROM", "TRUNCATE"])
def test_what_keys_need_is_not_tidied_up(people: Database, table: str, statement: str) -> None:
    cascade = " CASCADE" if statement == "TRUNCATE" else ""
    assert failure(people.connect(), f"{statement} envelope_private.{table}{cascade}")[0] == "55006"
    assert people.connect().execute("SELECT count(email) FROM person").fetchone() == (2,)


class TestForgetAllKeys:
    def test_without_the_name_it_says_what_it_would_destroy(self, kept: Database) -> None:
        for call in ("", "'other'", "NULL"):
            with pytest.raises(psycopg.errors.InvalidParameterValue) as raised:
                kept.sql(f"SELECT envelope.forget_all_keys({call})")
            assert raised.value.diag.message_detail == "It would destroy 1 DEKs of 1 keys: api."
            assert kept.name in str(raised.value.diag.message_hint)
        assert_kept(kept)

    def test_it_is_for_superusers(self, kept: Database) -> None:
        kept.sql("GRANT EXECUTE ON FUNCTION envelope.forget_all_keys TO alice")
        assert failure(kept.connect("alice"), f"SELECT envelope.forget_all_keys('{kept.name}')")[0] == "42501"

    def test_protected_tables_come_first(self, people: Database) -> None:
        sqlstate, text, hint = failure(people.connect(), f"SELECT envelope.forget_all_keys('{people.name}')")
        assert (sqlstate, text) == ("2BP01", "pg_envelope: tables are still protected by these keys")
        assert "unprotect" in hint
        assert people.one("SELECT count(email) FROM person") == 2

    def test_then_the_extension_can_be_dropped_and_made_again(self, kept: Database) -> None:
        before = len(kept.stack.broker.audit_log.read_text().splitlines())
        kept.sql("CREATE TABLE visit (id int PRIMARY KEY, note text)")
        kept.sql("""CALL envelope.protect('visit', '["note"]', scope => 'subject', scope_column => 'id')""")
        kept.sql("INSERT INTO visit VALUES (1, 'x')")
        kept.sql("DROP TABLE visit_encrypted CASCADE")
        assert kept.one(f"SELECT envelope.forget_all_keys('{kept.name}')") == 2
        lines = kept.stack.broker.audit_log.read_text().splitlines()[before:]
        (told,) = [event for line in lines if (event := json.loads(line)).get("action") == "forget_all_keys"]
        assert told["label"].endswith("2 DEKs of 2 keys: (of a table that is gone, or plain again), api")
        assert kept.one("SELECT count(*) FROM envelope.keys") == 0
        kept.sql("DROP EXTENSION pg_envelope")
        kept.sql("CREATE EXTENSION pg_envelope; SELECT envelope.create_key('api')")
        assert kept.sql("SELECT check_name FROM envelope.status() WHERE state <> 'ok'") == []

    def test_without_a_broker_it_warns_and_lets_go(self, breakable: object, kept: Database) -> None:
        session, told = kept.connect(), list[str]()
        session.add_notice_handler(lambda report: told.append(report.message_primary or ""))
        kept.stack.broker.stop()
        session.execute(f"SELECT envelope.forget_all_keys('{kept.name}')")
        assert "the broker's audit log does not have this" in told[0]
        session.execute("DROP EXTENSION pg_envelope")
