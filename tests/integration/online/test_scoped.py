"""Tables in tenant and subject scope: the roll-out makes a key for each, in batches, beside writers that make some."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.online.fix_phases import CALLS, DIGEST, PHASES, ROWS, SUBJECTS, scoped
from tests.integration.rotation.fix_jobs import until
from tests.integration.sql.test_there_and_back import dump

PROTECT = scoped("subject")["protect"]
UNPROTECT = CALLS["unprotect"]
KEYS = "SELECT count(DISTINCT scope) FROM envelope.keys WHERE relation = 'person'::regclass AND state = 'active'"
WAITS_FOR_KEY = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s AND locktype = 'transactionid' AND NOT granted)"
# The table whose keys are shared.
VISITS = """
CREATE TABLE visit (id int PRIMARY KEY, n int NOT NULL, note text);
INSERT INTO visit SELECT i, i, 'visit ' || i FROM generate_series(1, 20) i"""
PROTECT_VISITS = "CALL envelope.protect('visit', '[\"note\"]', scope => 'subject', scope_column => 'n')"
SHARED = PROTECT.replace("online", "scope_of => 'visit', online")
ERASE = "CALL envelope.shred('{}', '7', 'asked for')"


@pytest.fixture
def visits(person: Database) -> Database:
    person.sql(VISITS)
    person.sql(PROTECT_VISITS)
    return person


@pytest.mark.parametrize(("scope", "store"), [("subject", "catalog"), ("tenant", "vault")])
def test_each_has_a_key(person: Database, scope: str, store: str) -> None:
    person.sql("DELETE FROM person WHERE n > 40 AND %s = 'vault'", store)
    schema, rows = dump(person), person.sql(DIGEST)
    person.sql(PROTECT.replace("subject", scope).replace("online", f"store => '{store}', online"))
    assert person.sql(DIGEST) == rows
    assert person.one(KEYS) == person.one("SELECT count(DISTINCT n) FROM person")
    assert person.sql("SELECT DISTINCT store FROM envelope.keys WHERE relation = 'person'::regclass") == [(store,)]
    person.sql("UPDATE person SET n = n + 5000 WHERE id = 5; INSERT INTO person (email, n) VALUES ('new@x', 9000)")
    assert person.sql("SELECT email FROM person WHERE n IN (5005, 9000) ORDER BY n") == [("value 5",), ("new@x",)]
    person.sql("UPDATE person SET n = n - 5000 WHERE id = 5; DELETE FROM person WHERE n = 9000")
    person.sql(UNPROTECT)
    assert person.sql(DIGEST) == rows
    assert dump(person) == schema


def test_a_table_with_search_columns(person: Database) -> None:
    person.sql("CREATE UNIQUE INDEX one_mail ON person (email); REVOKE SELECT (id, note) ON person FROM bob")
    person.sql(PROTECT)
    assert person.one("SELECT n FROM person WHERE email_search = 'value 77'") == 77
    with pytest.raises(psycopg.errors.UniqueViolation):
        person.sql("INSERT INTO person (email, n) VALUES ('value 77', 9000)")


def test_a_row_moves_to_another_subject_meanwhile(person: Database) -> None:
    """It may have its values in the clear or in envelopes then."""
    for call in (PROTECT, UNPROTECT):
        with PHASES["backfill"](person, call) as job:
            person.sql(f"UPDATE person SET n = n + 10000 WHERE id IN (1, {ROWS})")
            person.sql(f"UPDATE person_encrypted SET n = n + 20000 WHERE id IN (2, {ROWS - 1})")
        assert job.end() is None
        assert person.one("SELECT count(*) FROM person WHERE email = 'value ' || id") == ROWS
    assert person.one("SELECT count(*) FROM person WHERE n > 10000") == 4


def test_a_writer_that_makes_the_same_key_meets_no_deadlock(person: Database) -> None:
    """It then wants rows that the batch would have locked before it came to the one with this key."""
    person.sql(f"UPDATE person SET n = {ROWS} WHERE id = {ROWS}")
    person.sql("VACUUM FULL person")
    with PHASES["backfill"](person, PROTECT) as job, person.connect() as writer, writer.transaction():
        writer.execute("SET deadlock_timeout = '50ms'")
        writer.execute("INSERT INTO person (email, n) VALUES ('new@x', %s)", (ROWS,))
        until(person, WAITS_FOR_KEY, "the same key", job.pid)
        writer.execute("UPDATE person SET note = 'written' WHERE id BETWEEN %s AND %s", (ROWS - 100, ROWS - 1))
    assert job.end() is None
    assert person.one("SELECT count(*) FROM person WHERE note = 'written'") == 100
    assert person.one(f"SELECT count(*) FROM person WHERE n = {ROWS}") == 2


def test_a_broker_that_is_killed_stops_it_and_it_goes_on(person: Database) -> None:
    schema, rows = dump(person), person.sql(DIGEST)
    for call in (PROTECT, UNPROTECT):
        with PHASES["backfill"](person, call) as job:
            person.stack.broker.kill()
        error = job.end()
        person.stack.broker.start()
        assert error is not None
        assert error.sqlstate == "58000"
        assert person.sql(DIGEST) == rows
        person.sql(call)
        assert person.sql(DIGEST) == rows
    assert dump(person) == schema


def test_it_goes_on_with_the_same_scope_only(person: Database) -> None:
    with PHASES["backfill"](person, PROTECT) as job:
        person.sql("SELECT pg_cancel_backend(%s)", job.pid)
    job.end()
    for other in (
        CALLS["protect"], PROTECT.replace("'n'", "'id'"), PROTECT.replace("subject", "tenant"),
        PROTECT.replace("online", "erased => 'null', online"),
    ):  # fmt: skip
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="other columns or options"):
            person.sql(other)
    person.sql(PROTECT)
    assert person.one(KEYS) == SUBJECTS


def test_keys_are_shared_with_another_table(visits: Database) -> None:
    rows, before = visits.sql(DIGEST), visits.one("SELECT count(*) FROM envelope.keys WHERE scope = '7'")
    visits.sql(SHARED)
    assert visits.sql(DIGEST) == rows
    assert visits.one("SELECT count(*) FROM envelope.keys WHERE scope = '7'") == before
    visits.sql(ERASE.format("visit"))
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        visits.sql("SELECT email FROM person WHERE n = 7")


@pytest.mark.parametrize("act", ["protect", "unprotect"])
def test_nobody_is_erased_while_values_are_in_the_clear(visits: Database, act: str) -> None:
    """Whichever of the tables that share the keys is named: values in the clear would stay."""
    rows = visits.sql(DIGEST)
    if act == "unprotect":
        visits.sql(SHARED)
    with PHASES["backfill"](visits, SHARED if act == "protect" else UNPROTECT) as job:
        for table in ("visit", "person"):
            with pytest.raises(psycopg.errors.ObjectInUse, match="not ready for shred"):
                visits.sql(ERASE.format(table))
    assert job.end() is None
    assert visits.sql(DIGEST) == rows
    visits.sql(ERASE.format("visit"))


def refused_before(db: Database, call: str, told: str) -> None:
    """The call tells of the rows that it could not bring over, and changes nothing."""
    schema = dump(db)
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        db.sql(call)
    assert told in (caught.value.diag.message_detail or "")
    assert dump(db) == schema


@pytest.mark.parametrize("lock", [ERASE.format("visit"), "CALL envelope.suspend('visit', '7', reason => 'theft')"])
def test_rows_that_could_not_be_sealed_are_told_of_before(visits: Database, lock: str) -> None:
    visits.sql(lock)
    refused_before(visits, SHARED, f"the subjects of {ROWS // SUBJECTS} rows have keys that are destroyed or suspended")
    visits.sql("DELETE FROM person WHERE n = 7")
    visits.sql(SHARED)


def test_a_key_that_is_suspended_meanwhile_stops_it_and_nothing_is_lost(visits: Database) -> None:
    rows = visits.sql(DIGEST)
    with PHASES["first step"](visits, SHARED) as job:
        visits.sql("CALL envelope.suspend('visit', '7', reason => 'theft')")
    error = job.end()
    assert error is not None
    assert error.sqlstate == "55000"
    visits.sql("CALL envelope.unsuspend('visit', '7')")
    visits.sql(SHARED)
    assert visits.sql(DIGEST) == rows


@pytest.mark.parametrize("lock", ["shred", "suspend"])
def test_values_that_would_not_come_back_are_told_of_before(person: Database, lock: str) -> None:
    person.sql(PROTECT)
    person.sql(f"CALL envelope.{lock}('person', '7', reason => 'asked for')")
    refused_before(
        person, UNPROTECT, f"the values of {ROWS // SUBJECTS} rows are under keys that are destroyed or suspended"
    )
    person.sql("DELETE FROM person WHERE n = 7")
    person.sql(UNPROTECT)
