"""Administrators change tables of different owners at the same time, with VACUUM and readers beside them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack.processes import wait_until
from tests.fix_stack import Database
from tests.integration.sql.conftest import shared_db

__all__ = ["shared_db"]

ROUNDS = 4
WAIT = 60
WAITS = "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
LENT_STILL = """
SELECT count(*) FROM pg_namespace CROSS JOIN aclexplode(nspacl) a JOIN pg_roles r ON r.oid = a.grantee
WHERE nspname IN ('public', 'envelope_search') AND rolname IN ('alice', 'bob')"""
PROTECT = """CALL envelope.protect('{}', '["note"]')"""
SEARCHED = """CALL envelope.protect('{}', '{{"note": {{"search": "exact"}}}}')"""
Act = Callable[[psycopg.Connection[object], str], None]
NUMBERS = itertools.count(1)


@pytest.fixture
def used(db: Database) -> Database:
    """A database with a key. The first key of a database is made by one session, and others wait for it."""
    db.sql("SELECT envelope.create_key('first')")
    return db


def make(db: Database, name: str, owner: str) -> None:
    db.sql(f"CREATE TABLE {name} (id int PRIMARY KEY, note text CHECK (note <> ''))")
    db.sql(f"INSERT INTO {name} VALUES (1, 'a'), (2, 'b'); ALTER TABLE {name} OWNER TO {owner}")


def works(db: Database, *names: str) -> None:
    """Reads and writes, each in a session that has no key yet. Nothing is wrong with the keys."""
    fresh = db.connect()
    for name in names:
        fresh.execute(f"INSERT INTO {name} VALUES (9, 'z')")
        assert fresh.execute(f"SELECT note FROM {name} ORDER BY id").fetchall() == [("a",), ("b",), ("z",)]
        fresh.execute(f"DELETE FROM {name} WHERE id = 9")
    fresh.close()
    assert db.sql("SELECT * FROM envelope.status() WHERE state = 'failed'") == []


def test_the_first_table_of_an_owner_keeps_no_reader_out(db: Database) -> None:
    make(db, "old", "alice")
    make(db, "new", "bob")
    db.sql(PROTECT.format("old"))
    with db.connect().transaction() as protecting:
        protecting.connection.execute(PROTECT.format("new"))
        fresh = db.connect()
        fresh.execute("SET lock_timeout = '2s'")
        fresh.execute("INSERT INTO old VALUES (3, 'c')")
        assert fresh.execute("SELECT note FROM old ORDER BY id").fetchall() == [("a",), ("b",), ("c",)]
        fresh.execute("SELECT envelope.rotate('old'); SELECT envelope.create_key('beside')")
    db.sql("DELETE FROM old WHERE id = 3")
    works(db, "old", "new")


def test_owners_and_vacuum(db: Database) -> None:
    """VACUUM waits for a GRANT of an open transaction while it holds a lock of its own."""
    make(db, "a", "alice")
    make(db, "b", "bob")
    ended = threading.Event()

    def there_and_back(name: str) -> None:
        with db.stack.connect(db.name) as session:
            for _ in range(ROUNDS):
                execute(session, PROTECT.format(name))
                execute(session, f"CALL envelope.unprotect('{name}')")

    def vacuum() -> None:
        with db.stack.connect(db.name) as session:
            while not ended.is_set():
                session.execute("VACUUM ANALYZE envelope_private.capability")

    with ThreadPoolExecutor() as pool:
        beside = pool.submit(vacuum)
        runs = [pool.submit(there_and_back, name) for name in "ab"]
        try:
            for run in runs:
                run.result()
        finally:
            ended.set()
        beside.result()
    db.sql(PROTECT.format("a"))
    works(db, "a")


def execute(session: psycopg.Connection[object], statement: str) -> None:
    session.execute(statement)  # type: ignore[call-overload]


def attempt(session: psycopg.Connection[object], statement: str) -> None:
    """What does not fit the state of the table is refused, and leaves the transaction as it was."""
    with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UndefinedObject), session.transaction():
        execute(session, statement)


@contextmanager
def beside(db: Database, statement: str, act: Act = execute) -> Iterator[None]:
    """Runs a statement in a session of its own, and waits until it is done or waits for another session."""
    session = db.connect()
    with ThreadPoolExecutor() as pool:
        run = pool.submit(act, session, statement)
        wait_until(lambda: run.done() or db.one(WAITS, session.info.backend_pid), WAIT, "a wait")
        yield
        run.result(WAIT)
    session.close()


LENT = {
    "protect": (None, SEARCHED.format("b")),
    "protect online": (None, SEARCHED.format("b").replace("')", "', online => true)")),
    "add search": (PROTECT.format("b"), "CALL envelope.add_search('b', 'note')"),
    "rotate search": (SEARCHED.format("b"), "CALL envelope.rotate_search('b', 'note')"),
    "checks": ("ALTER TABLE b ENABLE ROW LEVEL SECURITY", PROTECT.format("b")),
    "dependents": (
        "GRANT CREATE ON SCHEMA public TO bob; SET ROLE bob; CREATE VIEW w AS SELECT note FROM b; RESET ROLE;"
        " REVOKE CREATE ON SCHEMA public FROM bob",
        PROTECT.format("b"),
    ),
    "index back": (f"CREATE INDEX ON b (note); {PROTECT.format('b')}", "CALL envelope.unprotect('b')"),
}


@pytest.mark.parametrize("case", LENT)
def test_rights_are_lent_one_after_the_other(used: Database, case: str) -> None:
    """A right that PostgreSQL keeps in a row with the rights of others is changed by both."""
    db, (before, statement) = used, LENT[case]
    make(db, "a", "alice")
    make(db, "b", "bob")
    db.sql("ALTER TABLE a ENABLE ROW LEVEL SECURITY")
    if before:
        db.sql(before)
    first = db.connect()
    first.execute("BEGIN")
    execute(first, SEARCHED.format("a"))
    with beside(db, statement):
        first.execute("COMMIT")
    works(db, "a", "b")
    lent = (
        "SELECT count(*) FROM pg_namespace, aclexplode(nspacl) a WHERE nspname ~ 'public|search' AND a.grantee IN (%s)"
    )
    assert db.one(lent % "SELECT oid FROM pg_roles WHERE rolname IN ('alice', 'bob')") == 0


def test_rights_that_stay_in_use(used: Database) -> None:
    db = used
    make(db, "a", "alice")
    make(db, "b", "bob")
    first, second = db.connect(), db.connect()
    first.execute("BEGIN")
    execute(first, SEARCHED.format("a"))
    second.execute("SET lock_timeout = '100ms'")
    with pytest.raises(psycopg.errors.LockNotAvailable, match="another transaction changes the same rights") as refused:
        execute(second, SEARCHED.format("b"))
    assert "USAGE ON SCHEMA envelope_search" in (refused.value.diag.message_detail or "")
    assert refused.value.diag.message_hint
    first.execute("COMMIT")
    execute(second, SEARCHED.format("b"))
    works(db, "a", "b")


@pytest.mark.parametrize("statement", [PROTECT.format("b"), "CALL envelope.unprotect('c')"])
def test_a_transaction_that_stays_open_keeps_no_table_locked(used: Database, statement: str) -> None:
    db = used
    for name in "abc":
        make(db, name, "alice")
    db.sql(PROTECT.format("c"))
    first, second = db.connect(), db.connect()
    first.execute("BEGIN")
    execute(first, PROTECT.format("a"))
    second.execute("SET lock_timeout = '100ms'")
    with pytest.raises(psycopg.errors.LockNotAvailable, match="another transaction changes the same rights") as refused:
        execute(second, statement)
    assert refused.value.diag.message_detail == "owners of protected tables"
    works(db, "b", "c")
    first.execute("COMMIT")
    execute(second, statement)
    works(db, "a", "b", "c")


FOLLOWING = {
    "row security": "ALTER TABLE {} ENABLE ROW LEVEL SECURITY",
    "upsert relation": "CALL envelope.allow_upsert('{}')",
}


@pytest.mark.parametrize("kind", FOLLOWING)
def test_a_grant_waits_for_no_other_table(db: Database, kind: str) -> None:
    """A base table under row-level security and an upsert relation follow the privileges of their view."""
    for name in "ab":
        make(db, name, "owner")
        db.sql(PROTECT.format(name))
        db.sql(FOLLOWING[kind].format(name))
    with db.connect().transaction() as changing:
        changing.connection.execute("ALTER TABLE a ADD COLUMN more int; GRANT SELECT ON a TO bob")
        granting = db.connect()
        granting.execute("SET lock_timeout = '2s'")
        granting.execute("GRANT SELECT ON b TO bob")
    for name in "ab":
        assert db.sql(f"SELECT count(note) FROM {name}", user="bob") == [(2 * (kind != "row security"),)]
    works(db, "a", "b")


STEPS = {
    "protect": PROTECT,
    "unprotect": "CALL envelope.unprotect('{}')",
    "to alice": "ALTER TABLE {} OWNER TO alice",
    "to bob": "ALTER TABLE {} OWNER TO bob",
    "drop": "DROP TABLE {}",
    "refresh": "CALL envelope.refresh('{}')",
}


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["alice", "bob"]), min_size=3, max_size=3),
    st.sets(st.integers(0, 2)),
    st.lists(st.sampled_from(sorted(STEPS)), min_size=2, max_size=2),
)
def test_rights_of_owners_in_any_order(
    shared_db: Database, owners: list[str], known: set[int], steps: list[str]
) -> None:
    """Whichever of two transactions ends first, each owner can use the tables that are left."""
    db, number = shared_db, next(NUMBERS)
    names = [f"t{number}_{place}" for place in range(3)]
    for name, owner in zip(names, owners, strict=True):
        make(db, name, owner)
    for place in known | {2}:
        db.sql(PROTECT.format(names[place]))
    first = db.connect()
    first.execute("BEGIN")
    attempt(first, STEPS[steps[0]].format(names[0]))
    with beside(db, STEPS[steps[1]].format(names[1]), attempt):
        first.execute("COMMIT")
    first.close()
    left = [name for name in names if db.one("SELECT to_regclass(%s) IS NOT NULL", name)]
    works(db, *left)
    for name in left:
        db.sql(f"DROP TABLE {name}")
    released = "SELECT count(*) FROM envelope_private.allowed_owners()"
    assert db.one(released) == 0
