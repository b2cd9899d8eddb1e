"""One person's rows are erased, wherever they are, and nobody else's; nothing of ours remembers who it was."""

from __future__ import annotations

import hashlib

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure

from .conftest import entries_of, ledger

VISITS = """CALL envelope.protect('visit', '["note"]', scope => 'subject', scope_column => 'person', erased => '{}')"""
NOTES = "SELECT id, note FROM visit ORDER BY id"
WHO = "ann.unmistakable@example.org"


@pytest.fixture
def visits(db: Database) -> Database:
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person text NOT NULL, note text)")
    db.sql("INSERT INTO visit VALUES (1, %s, 'one'), (2, 'ben', 'two')", WHO)
    return db


def shred(db: Database, who: str = WHO) -> None:
    with db.connect() as connection:
        connection.execute("SET log_statement = 'none'")
        connection.execute("SET log_parameter_max_length = 0")
        connection.execute("SET log_parameter_max_length_on_error = 0")
        connection.execute("CALL envelope.shred('visit', %s::text, 'ticket 7')", [who])


def test_an_error_for_the_erased_and_nothing_for_others(visits: Database) -> None:
    visits.sql(VISITS.format("error"))
    warm = visits.connect()
    assert warm.execute(NOTES).fetchall() == [(1, "one"), (2, "two")]
    shred(visits)
    for connection in (warm, visits.connect()):
        assert failure(connection, NOTES)[:2] == ("55000", "pg_envelope: the key was destroyed")
        assert connection.execute("SELECT note FROM visit WHERE id = 2").fetchall() == [("two",)]


def test_null_for_the_erased_where_the_policy_says_so(visits: Database) -> None:
    visits.sql(VISITS.format("null"))
    warm = visits.connect()
    warm.execute(NOTES)
    shred(visits)
    for connection in (warm, visits.connect()):
        assert connection.execute(NOTES).fetchall() == [(1, None), (2, "two")]


@pytest.mark.parametrize("policy", ["error", "null"])
def test_what_is_written_for_the_erased_is_refused(visits: Database, policy: str) -> None:
    visits.sql(VISITS.format(policy))
    visits.sql("SELECT envelope.rotate('visit')")
    visits.sql("UPDATE visit SET note = 'new' WHERE id = 1")
    shred(visits)
    assert visits.sql("SELECT state, count(*) FROM envelope_private.dek WHERE scope = %s GROUP BY 1", WHO) == [
        ("destroyed", 2)
    ]
    with visits.connect() as connection, pytest.raises(Exception, match="the key was destroyed"):
        connection.execute("INSERT INTO visit VALUES (3, %s, 'x')", [WHO])
    visits.sql("INSERT INTO visit VALUES (4, 'cid', 'four')")
    assert visits.sql("SELECT note FROM visit WHERE id = 4") == [("four",)]


def test_all_tables_of_the_person(visits: Database) -> None:
    visits.sql(VISITS.format("null"))
    visits.sql("CREATE TABLE mail (id int PRIMARY KEY, person text NOT NULL, body text)")
    visits.sql("INSERT INTO mail VALUES (1, %s, 'dear'), (2, 'ben', 'hi')", WHO)
    visits.sql(
        """CALL envelope.protect('mail', '["body"]', scope => 'subject', scope_column => 'person',"""
        " scope_of => 'visit', erased => 'null')"
    )
    told: list[str] = []
    visits.admin.add_notice_handler(lambda report: told.append(report.message_primary or ""))
    visits.admin.execute("CALL envelope.shred('mail', %s::text, 'test')", [WHO])
    assert "erased in: public.mail, public.visit" in told[-1]
    assert visits.sql("SELECT id, body FROM mail ORDER BY id") == [(1, None), (2, "hi")]
    assert visits.sql(NOTES) == [(1, None), (2, "two")]


def test_nobody_remembers_who_it_was(visits: Database) -> None:
    visits.sql(VISITS.format("error"))
    log = visits.stack.cluster.log
    before = len(log.read_text())
    shred(visits)
    assert WHO not in log.read_text()[before:]
    assert WHO not in visits.stack.broker.audit_log.read_text()
    assert WHO not in visits.stack.broker.log.read_text()
    assert WHO not in str(ledger(visits.stack))
    assert WHO not in str(visits.sql("SELECT * FROM envelope_private.tombstone"))
    (entry,) = entries_of(visits)
    assert entry["subject"] == hashlib.sha256(bytes.fromhex(entry["salt"]) + WHO.encode()).hexdigest()
    proof = "SELECT reason FROM envelope_private.tombstone WHERE subject = sha256(salt || convert_to(%s, 'UTF8'))"
    assert [visits.sql(proof, who) for who in (WHO, "ben")] == [[("ticket 7",)], []]


def test_a_table_of_subjects_wants_to_know_which(visits: Database) -> None:
    visits.sql(VISITS.format("error"))
    assert failure(visits.admin, "CALL envelope.shred('visit', reason => 'test')")[0] == "22023"
    state, message, hint = failure(visits.admin, "CALL envelope.shred('visit', 'nobody', 'test')")
    assert (state, "nobody" in message + hint) == ("42704", False)
    assert entries_of(visits) == []


@pytest.mark.parametrize("way", ["error", "null"])
def test_of_many_new_rows_the_error_says_whose_it_is(visits: Database, way: str) -> None:
    """By a number, with which an administrator finds the person; the log learns no name."""
    visits.sql(VISITS.format(way))
    shred(visits)
    before = len(visits.stack.cluster.log.read_text())
    with visits.connect() as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(
            "INSERT INTO visit SELECT n, CASE n WHEN 50 THEN (SELECT person FROM visit WHERE id = 1)"
            " ELSE 'p' || n END, 'x' FROM generate_series(10, 99) n"
        )
    detail = caught.value.diag.message_detail or ""
    assert visits.one(detail.removeprefix("Whose it is: ")) == WHO
    assert WHO not in visits.stack.cluster.log.read_text()[before:]
