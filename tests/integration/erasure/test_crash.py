"""A shred that ends between its steps: the key is dead from the ledger on, and calling again completes the rest."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import POLICY, failure
from tests.integration.operations.test_crash import kill_backend

from .conftest import allow_shred, entries_of

READ = "SELECT email FROM person"
SHRED = "CALL envelope.shred('person', reason => 'ticket 7')"
STATE = """
SELECT d.state, count(t.*) FROM envelope_private.dek d LEFT JOIN envelope_private.tombstone t USING (dek_id)
GROUP BY 1"""
ONLY_ID_0 = '\npath "kv/metadata/pg_envelope/+/0" { capabilities = ["delete"] }\n'


def shop(db: Database, store: str) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql(f"""CALL envelope.protect('person', '["email"]', store => '{store}')""")
    db.sql("INSERT INTO person VALUES (1, 'a@b.c')")


def completed(db: Database) -> None:
    """Called again, it ends well, with one entry in the ledger."""
    assert failure(db.connect(), READ)[:2] == ("55000", "pg_envelope: the key was destroyed")
    db.connect().execute(SHRED)
    with db.connect() as connection:
        assert connection.execute(STATE).fetchall() == [("destroyed", 1)]
        assert failure(connection, READ)[0] == "55000"


def stopped(db: Database, end: Callable[[int], Any]) -> None:
    """A shred whose backend `end`s when the broker has carried it out, and the catalog does not know yet."""

    def run() -> None:
        with pytest.raises(psycopg.Error):
            session.execute(SHRED)

    known = len(entries_of(db))
    session, other = db.connect(), db.connect()
    thread = threading.Thread(target=run)
    with contextlib.suppress(psycopg.OperationalError), other.transaction():
        other.execute("LOCK TABLE envelope_private.tombstone")
        thread.start()
        wait_until(lambda: len(entries_of(db)) > known, 60, "the entry in the ledger")
        assert other.execute(STATE).fetchall() == [("active", 0)]
        end(session.info.backend_pid)
    thread.join()


def test_a_session_that_ends_before_the_catalog_knows(db: Database) -> None:
    shop(db, "catalog")
    stopped(db, lambda pid: db.admin.execute("SELECT pg_terminate_backend(%s)", [pid]))
    completed(db)
    assert len(entries_of(db)) == 1


def test_a_backend_that_is_killed_before_the_catalog_knows(db: Database) -> None:
    db.durable()
    shop_of = db.connect()
    shop_of.execute("CREATE TABLE person (id int PRIMARY KEY, email text)")
    shop_of.execute("""CALL envelope.protect('person', '["email"]', store => 'catalog')""")
    shop_of.execute("INSERT INTO person VALUES (1, 'a@b.c')")
    stopped(db, lambda pid: kill_backend(db.stack, pid))
    db.admin = db.connect()
    completed(db)
    assert len(entries_of(db)) == 1


def test_a_store_that_stops_half_way_and_a_broker_that_dies(breakable: Stack, db: Database) -> None:
    shop(db, "vault")
    policy = breakable.openbao.request("GET", POLICY)["data"]["policy"]
    breakable.openbao.request("PUT", POLICY, {"policy": policy + ONLY_ID_0})
    state, _, hint = failure(db.admin, SHRED)
    assert (state, "call again" in hint) == ("58000", True)
    assert db.sql(STATE) == [("active", 0)]
    breakable.broker.kill()
    breakable.openbao.request("PUT", POLICY, {"policy": policy})
    allow_shred(breakable)
    breakable.broker.start()
    completed(db)
    assert len(entries_of(db)) == 1


def test_a_broker_that_is_gone_has_erased_nothing(breakable: Stack, db: Database) -> None:
    shop(db, "catalog")
    breakable.broker.kill()
    assert failure(db.admin, SHRED)[0] == "58000"
    breakable.broker.start()
    assert db.sql(READ) == [("a@b.c",)]
    assert entries_of(db) == []
