"""A statement over many subjects asks the broker for many keys at once, whatever order it meets them in."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.fix_stack import Database, Fill
from tests.integration.scopes.test_spares import audit_end, events

COUNT = re.compile(r'^pg_envelope_requests_total\{[^}]*op="derive"[^}]*\} (\d+)', re.MULTILINE)
SUBJECTS = 1000
# Without read-ahead it is one request for each subject.
MOST_REQUESTS = 60
ORDERS = {
    "as they were made": "ORDER BY person",
    "backwards": "ORDER BY person DESC",
    "in any order": "ORDER BY pg_catalog.md5(person::text)",
    "every third": "WHERE person % 3 = 0 ORDER BY person",
}


def fill(db: Database) -> None:
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person int NOT NULL, note text)")
    db.sql("""CALL envelope.protect('visit', '["note"]', scope => 'subject', scope_column => 'person')""")
    # A row's place, its id and its subject's key say nothing of each other.
    db.sql("INSERT INTO visit SELECT i, i * 7 %% 1009, 'x' || i FROM generate_series(1, %s) i", SUBJECTS)


@pytest.fixture
def visits(filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(fill)


def asked(db: Database) -> int:
    """How often the broker was asked for field keys."""
    return sum(map(int, COUNT.findall(db.stack.broker.page("metrics"))))


def requests(db: Database, query: str) -> tuple[list[tuple[object, ...]], int]:
    """What a new session reads, and how often it asks the broker for keys."""
    start = asked(db)
    rows = db.connect().execute(query).fetchall()
    return rows, asked(db) - start


def test_in_any_order(visits: Database) -> None:
    for order, words in ORDERS.items():
        rows, count = requests(visits, f"SELECT id, note FROM visit {words}")
        assert rows == [(number, f"x{number}") for number, _ in rows], order
        assert 1 <= count <= MOST_REQUESTS, order


def test_a_join_and_a_group(visits: Database) -> None:
    joined = "SELECT count(v.note) FROM generate_series(1, 1000) i JOIN visit v ON v.id = i * 13 % 997 + 1"
    rows, count = requests(visits, joined)
    assert rows == [(SUBJECTS,)]
    assert count <= MOST_REQUESTS
    rows, count = requests(visits, "SELECT count(*) FROM (SELECT note FROM visit GROUP BY note) n")
    assert rows == [(SUBJECTS,)]
    assert count <= MOST_REQUESTS


def test_a_statement_of_one_subject_takes_its_key_alone(visits: Database) -> None:
    start, reader = audit_end(visits), visits.connect()
    for number in (500, 3, 700):
        reader.execute("SELECT note FROM visit WHERE id = %s", [number]).fetchall()
    assert [event.get("ahead", 0) for event in events(visits, "derive", start)] == [0, 0, 0]


@pytest.mark.parametrize("together", [True, False])
def test_new_subjects_one_by_one_ask_for_many_keys_at_once(visits: Database, together: bool) -> None:
    start, writer = asked(visits), visits.connect(autocommit=not together)
    for number in range(2001, 2201):
        writer.execute("INSERT INTO visit VALUES (%s, %s, 'new')", [number, number])
    if together:
        writer.commit()
    assert asked(visits) - start <= 20
    assert visits.one("SELECT count(*) FROM visit WHERE note = 'new'") == 200
