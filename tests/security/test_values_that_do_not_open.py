"""Values that do not open are counted where an alert sees them, and the error waits for nothing."""

from __future__ import annotations

import re
from typing import Any

import psycopg

from stack.processes import wait_until
from tests.fix_fake_broker import hanging
from tests.fix_stack import Database

from .fix_people import failure

MOVED = "UPDATE people_encrypted SET email = (SELECT email FROM people_encrypted WHERE id = 1) WHERE id = 2"
READ = "SELECT email FROM people WHERE id = 2"
DOES_NOT_OPEN = "XX001"


def counted(db: Database) -> int:
    page = db.stack.broker.page("metrics")
    (found,) = re.findall(r'^pg_envelope_decrypt_failures_total{error="invalid_envelope"} (\d+)$', page, re.MULTILINE)
    return int(found)


def test_each_is_counted_also_in_a_loop(people: Database) -> None:
    """Those that were not told at once are told later."""
    people.sql(MOVED)
    before, reader = counted(people), people.connect()
    reader.execute("SELECT email FROM people WHERE id = 1")
    for _ in range(30):
        assert failure(reader, READ).sqlstate == DOES_NOT_OPEN
    reader.execute("SELECT pg_sleep(1.5)")
    failure(reader, READ)
    wait_until(lambda: counted(people) - before >= 31, 60, "the count of all")
    assert counted(people) - before == 31


def test_an_erased_value_does_not_count(db: Database) -> None:
    db.sql("CREATE TABLE gone (id int PRIMARY KEY, email text); INSERT INTO gone VALUES (1, 'x')")
    db.sql("""CALL envelope.protect('gone', '["email"]', store => 'catalog')""")
    before = counted(db)
    db.sql("CALL envelope.shred('gone', reason => 'a reason')")
    assert failure(db.connect(), "SELECT email FROM gone").sqlstate == "55000"
    db.sql("SELECT count(*) FROM envelope.status()")
    assert counted(db) == before


def test_a_broker_that_is_away_changes_nothing(people: Database, alice: psycopg.Connection[Any]) -> None:
    people.sql(MOVED)
    people.sql("GRANT SELECT ON people TO alice")
    here = failure(alice, READ).public()
    people.stack.broker.stop()
    try:
        assert failure(alice, READ).public() == here
        with hanging(people.stack.broker.socket, uid=people.stack.broker.account.uid):
            assert failure(alice, READ).public() == here
    finally:
        people.stack.broker.start()
