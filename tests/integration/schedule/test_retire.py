"""retire(): only what nothing needs, first suspended, then destroyed; and the catalog against accidents."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure

RETIRE = "CALL envelope.retire('person', 1)"
DESTROY = "CALL envelope.retire('person', 1, destroy => true)"
STATES = "SELECT version, state FROM envelope.keys WHERE relation IS NOT NULL ORDER BY version"
OVER = """
UPDATE envelope_private.dek
SET state_since = state_since - interval '25 hours', created_at = created_at - interval '9 days'"""


@pytest.fixture
def rotated(people: Database) -> Database:
    """Version 2 is active, and no value is under version 1."""
    people.sql("SELECT envelope.rotate('person')")
    people.sql("CALL envelope.reencrypt('person')")
    return people


def refusal(db: Database, statement: str) -> tuple[str | None, str]:
    """SQLSTATE and DETAIL of a statement that must fail."""
    with pytest.raises(psycopg.Error) as caught:
        db.sql(statement)
    return caught.value.diag.sqlstate, caught.value.diag.message_detail or ""


@pytest.mark.usefixtures("policy")
def test_suspended_then_destroyed(rotated: Database) -> None:
    rotated.sql(RETIRE)
    assert rotated.sql(STATES) == [(1, "suspended"), (2, "active")]
    rotated.sql(OVER)
    rotated.sql(RETIRE)
    assert rotated.sql(STATES) == [(1, "suspended"), (2, "active")], "only when it is asked for"
    rotated.sql(DESTROY)
    assert rotated.sql(STATES) == [(1, "destroyed"), (2, "active")]
    assert rotated.sql("SELECT count(*) FROM envelope_private.dek WHERE version = 1 AND wrapped IS NOT NULL") == [(0,)]
    assert rotated.sql("SELECT email FROM person ORDER BY id") == [("a@b.c",), ("d@e.f",)]
    assert failure(rotated.admin, DESTROY)[0] == "55000"


def test_it_comes_back_by_its_number(rotated: Database) -> None:
    rotated.sql(RETIRE)
    rotated.sql("CALL envelope.unsuspend('person', version => 1)")
    assert rotated.sql(STATES) == [(1, "decrypt-only"), (2, "active")]


def test_nothing_else_brings_it_back(rotated: Database) -> None:
    """Revoked and restored, a table has the versions that it had, and no retired one."""
    rotated.sql(RETIRE)
    rotated.sql("CALL envelope.suspend('person', reason => 'test')")
    assert rotated.sql(STATES) == [(1, "suspended"), (2, "suspended")]
    rotated.sql("CALL envelope.unsuspend('person')")
    assert rotated.sql(STATES) == [(1, "suspended"), (2, "active")]


@pytest.mark.usefixtures("policy")
def test_a_revoked_version_is_not_a_retired_one(rotated: Database) -> None:
    """Its grace begins with retire(), however long ago it was revoked."""
    rotated.sql("CALL envelope.suspend('person', reason => 'test')")
    rotated.sql(OVER)
    rotated.sql(DESTROY)
    assert rotated.sql(STATES) == [(1, "suspended"), (2, "suspended")]
    assert refusal(rotated, DESTROY)[1].startswith("it is suspended, and can be destroyed from ")
    rotated.sql("CALL envelope.unsuspend('person')")
    assert rotated.sql(STATES) == [(1, "suspended"), (2, "active")]


def test_a_value_needs_it(people: Database) -> None:
    people.sql("SELECT envelope.rotate('person')")
    assert refusal(people, RETIRE) == ("55006", 'values in "public"."person_encrypted" under it: email: 2')
    assert people.sql(STATES) == [(1, "decrypt-only"), (2, "active")]


def test_a_value_that_came_back_needs_it(rotated: Database) -> None:
    """From a backup, by hand, after it was suspended."""
    rotated.sql("SELECT envelope.rotate('person')")
    old = rotated.one("SELECT email FROM person_encrypted WHERE id = 1")
    rotated.sql("CALL envelope.reencrypt('person')")
    rotated.sql("CALL envelope.retire('person', 2)")
    rotated.sql(OVER)
    with rotated.connect() as session:
        # As the guard's hint says for an old backup.
        session.execute("SET session_replication_role = replica")
        session.execute("UPDATE person_encrypted SET email = %s WHERE id = 1", [old])
    sqlstate, detail = refusal(rotated, "CALL envelope.retire('person', 2, true)")
    assert (sqlstate, detail.rpartition(": ")[2]) == ("55006", "1")
    rotated.sql("CALL envelope.unsuspend('person', version => 2)")
    assert rotated.connect().execute("SELECT email FROM person WHERE id = 1").fetchall() == [("a@b.c",)]


@pytest.mark.usefixtures("policy")
def test_not_before_its_grace(rotated: Database) -> None:
    rotated.sql(RETIRE)
    sqlstate, detail = refusal(rotated, DESTROY)
    assert sqlstate == "55006"
    assert detail.startswith("it is suspended, and can be destroyed from ")
    rotated.sql("SELECT envelope.set_schedule('dek', '90 days', 'public.person', grace => '0')")
    rotated.sql(DESTROY)
    assert rotated.sql(STATES) == [(1, "destroyed"), (2, "active")]


@pytest.mark.usefixtures("policy")
def test_a_backup_needs_it(rotated: Database) -> None:
    rotated.sql(RETIRE)
    rotated.sql(OVER)
    rotated.sql("SELECT envelope.register_backup('after', now() - interval '1 hour')")
    rotated.sql("SELECT envelope.register_backup('gone', now() - interval '8 days', now() - interval '1 day')")
    rotated.sql("SELECT envelope.register_backup('older', now() - interval '90 days')")
    rotated.sql("SELECT envelope.register_backup('weekly', now() - interval '7 days')")
    assert refusal(rotated, DESTROY) == ("55006", "backups with values under it: weekly (expires: never)")
    rotated.sql("SELECT envelope.forget_backup('weekly')")
    rotated.sql(DESTROY)


@pytest.mark.usefixtures("policy")
def test_a_standby_that_is_away_needs_it(rotated: Database) -> None:
    rotated.sql("SELECT pg_create_physical_replication_slot('away', true)")
    try:
        rotated.sql(RETIRE)
        rotated.sql(OVER)
        assert refusal(rotated, DESTROY) == ("55006", "standbys or slots that are behind: slot away")
    finally:
        rotated.sql("SELECT pg_drop_replication_slot('away')")
    rotated.sql(DESTROY)


@pytest.mark.parametrize(("version", "sqlstate"), [("2", "55000"), ("3", "42704"), ("NULL", "42704")])
def test_the_active_and_the_unknown(rotated: Database, version: str, sqlstate: str) -> None:
    assert failure(rotated.admin, f"CALL envelope.retire('person', {version})")[0] == sqlstate
    assert rotated.sql(STATES) == [(1, "decrypt-only"), (2, "active")]


def test_not_in_a_transaction_nor_for_others(rotated: Database) -> None:
    with rotated.connect(autocommit=False) as connection:
        connection.execute("SELECT 1")
        assert failure(connection, RETIRE)[0] == "25001"
    rotated.sql("GRANT EXECUTE ON PROCEDURE envelope.retire(regclass, integer, boolean) TO alice")
    assert failure(rotated.connect("alice"), RETIRE)[0] == "42501"
    assert rotated.sql(STATES) == [(1, "decrypt-only"), (2, "active")]


@pytest.mark.parametrize("table", ["dek", "field_key"])
def test_keys_in_use_are_not_deleted_by_accident(rotated: Database, table: str) -> None:
    for statement in (f"DELETE FROM envelope_private.{table}", f"TRUNCATE envelope_private.{table}"):
        assert failure(rotated.admin, statement)[0] == "55006"
    assert rotated.one(f"SELECT count(*) FROM envelope_private.{table}") >= 2


@pytest.mark.usefixtures("policy")
def test_destroyed_rows_may_go(rotated: Database) -> None:
    rotated.sql(RETIRE)
    rotated.sql(OVER)
    rotated.sql(DESTROY)
    rotated.sql("DELETE FROM envelope_private.dek WHERE state = 'destroyed'")
    assert rotated.sql(STATES) == [(2, "active")]
