"""Tenant and subject scope: one DEK for each value of a column, made at its first write."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from stack.processes import wait_until
from tests.fix_stack import Database, Fill

SUBJECTS = """CALL envelope.protect('visit', '["note"]', scope => 'subject', scope_column => 'person')"""
DEKS = "SELECT scope, version, state, store FROM envelope.keys WHERE relation = 'visit'::regclass ORDER BY 1, 2"


def fill(db: Database) -> None:
    """visit (id, person, note), with two persons of three rows, protected by subject."""
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person text NOT NULL, note text)")
    db.sql("INSERT INTO visit VALUES (1, 'ann', 'one'), (2, 'ben', 'two'), (3, 'ann', NULL)")
    db.sql(SUBJECTS)


@pytest.fixture
def visits(filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy keys in the catalog alone, of which the broker hears nothing, so a copy will do."""
    return filled(fill)


def test_rows_of_before_get_a_key_for_each_subject(visits: Database) -> None:
    assert visits.sql("TABLE visit ORDER BY id") == [(1, "ann", "one"), (2, "ben", "two"), (3, "ann", None)]
    assert visits.sql(DEKS) == [("ann", 1, "active", "catalog"), ("ben", 1, "active", "catalog")]


def test_a_new_subject_gets_a_key_at_its_first_write(visits: Database) -> None:
    visits.sql("INSERT INTO visit VALUES (4, 'cid', 'four'), (5, 'cid', 'five'), (6, 'ann', 'six')")
    assert visits.sql("SELECT note FROM visit WHERE id > 3 ORDER BY id") == [("four",), ("five",), ("six",)]
    assert [scope for scope, *_ in visits.sql(DEKS)] == ["ann", "ben", "cid"]


def test_an_update_of_the_scope_column_encrypts_under_the_new_subjects_key(visits: Database) -> None:
    before = visits.one("SELECT note FROM visit_encrypted WHERE id = 1")
    visits.sql("UPDATE visit SET person = 'dan' WHERE id = 1")
    after = visits.one("SELECT note FROM visit_encrypted WHERE id = 1")
    assert before[:6] != after[:6]
    assert visits.sql("SELECT person, note FROM visit WHERE id = 1") == [("dan", "one")]
    assert "dan" in [scope for scope, *_ in visits.sql(DEKS)]


def test_an_update_of_another_column_leaves_the_envelope(db: Database) -> None:
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person text NOT NULL, note text, day date)")
    db.sql("INSERT INTO visit VALUES (1, 'ann', 'one', '2026-01-01')")
    db.sql(SUBJECTS)
    before = db.one("SELECT note FROM visit_encrypted")
    db.sql("UPDATE visit SET day = '2026-01-02'")
    assert db.one("SELECT note FROM visit_encrypted") == before


def test_no_scope_is_refused_as_the_table_would(visits: Database) -> None:
    with pytest.raises(psycopg.errors.NotNullViolation, match='column "person" of relation "visit"'):
        visits.sql("INSERT INTO visit VALUES (7, NULL, 'x')")


def test_a_key_made_in_a_block_that_was_rolled_back_is_not_used_again(visits: Database) -> None:
    visits.sql("""
        DO $$ BEGIN
            BEGIN
                INSERT INTO visit VALUES (4, 'eve', 'lost');
                RAISE EXCEPTION 'undo';
            EXCEPTION WHEN raise_exception THEN
                NULL;
            END;
            INSERT INTO visit VALUES (5, 'eve', 'kept');
        END $$""")
    assert visits.one("SELECT note FROM visit WHERE id = 5", user="postgres") == "kept"


def test_a_key_made_before_a_rollback_in_a_procedure_is_not_used_again(visits: Database) -> None:
    visits.sql("""
        CREATE PROCEDURE twice() LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO visit VALUES (4, 'eve', 'lost');
            ROLLBACK;
            INSERT INTO visit VALUES (5, 'eve', 'kept');
        END $$""")
    visits.sql("CALL twice()")
    assert visits.one("SELECT note FROM visit WHERE id = 5", user="postgres") == "kept"


def test_two_sessions_with_the_same_new_subject_get_one_key(visits: Database) -> None:
    first, second = visits.connect(), visits.connect()
    first.execute("BEGIN")
    first.execute("INSERT INTO visit VALUES (4, 'eve', 'four')")
    second.pgconn.send_query(b"INSERT INTO visit VALUES (5, 'eve', 'five')")
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    wait_until(lambda: visits.one(waiting) == 1, 60, "the wait for the other session's key")
    first.execute("COMMIT")
    while (result := second.pgconn.get_result()) is not None:
        assert result.command_tuples == 1, result.error_message
    assert visits.sql("SELECT note FROM visit WHERE person = 'eve' ORDER BY id") == [("four",), ("five",)]
    assert visits.sql(f"SELECT version FROM ({DEKS}) k WHERE scope = 'eve'") == [(1,)]


def test_rotate_one_subject_and_reencrypt(visits: Database) -> None:
    old = dict(visits.sql("SELECT id, note FROM visit_encrypted"))
    assert visits.one("SELECT envelope.rotate('visit', 'ann')") == 2
    assert visits.sql("SELECT id FROM visit_encrypted WHERE envelope.is_stale(note)") == [(1,)]
    visits.sql("CALL envelope.reencrypt('visit')")
    new = dict(visits.sql("SELECT id, note FROM visit_encrypted"))
    assert [old[row][:6] == new[row][:6] for row in (1, 2)] == [False, True]
    assert visits.sql("SELECT note FROM visit ORDER BY id") == [("one",), ("two",), (None,)]


def test_rotate_all_subjects(visits: Database) -> None:
    assert visits.one("SELECT envelope.rotate('visit')") == 2
    states = [(scope, version, state) for scope, version, state, _ in visits.sql(DEKS)]
    assert states == [
        (scope, version, state) for scope in ("ann", "ben") for version, state in ((1, "decrypt-only"), (2, "active"))
    ]


def test_rotate_of_an_unknown_subject(visits: Database) -> None:
    with pytest.raises(psycopg.errors.UndefinedObject):
        visits.sql("SELECT envelope.rotate('visit', 'nobody')")


def test_a_field_key_of_all_subjects_there_is_none(visits: Database) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="subject scope"):
        visits.sql("SELECT envelope.rotate_field('visit', 'note')")


ERASE = "UPDATE envelope_private.dek SET state = 'destroyed', wrapped = NULL WHERE scope = 'ann'"


def test_an_erased_subject_reads_as_an_error(visits: Database) -> None:
    visits.sql(ERASE)
    visits.sql("SELECT envelope.flush('test')")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="destroyed"):
        visits.sql("SELECT note FROM visit WHERE id = 1")
    assert visits.one("SELECT note FROM visit WHERE id = 2") == "two"
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="destroyed"):
        visits.sql("INSERT INTO visit VALUES (8, 'ann', 'again')")


def test_an_erased_subject_reads_as_null_where_the_table_says_so(db: Database) -> None:
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person text NOT NULL, note text NOT NULL, day date)")
    db.sql("INSERT INTO visit VALUES (1, 'ann', 'one'), (2, 'ben', 'two')")
    db.sql(SUBJECTS.replace("'person')", "'person', erased => 'null')"))
    db.sql(ERASE)
    db.sql("SELECT envelope.flush('test')")
    assert db.sql("SELECT note FROM visit ORDER BY id") == [(None,), ("two",)]
    db.sql("UPDATE visit SET day = '2026-01-01'")
    assert db.sql("SELECT note, day IS NULL FROM visit ORDER BY id") == [(None, False), ("two", False)]
    with pytest.raises(psycopg.errors.NotNullViolation):
        db.sql("UPDATE visit SET note = NULL WHERE id = 2")


def test_a_suspended_subject_is_an_error_either_way(visits: Database) -> None:
    visits.sql("UPDATE envelope_private.dek SET suspended_from = state, state = 'suspended' WHERE scope = 'ann'")
    visits.sql("SELECT envelope.flush('test')")
    for statement in ("SELECT note FROM visit WHERE id = 1", "INSERT INTO visit VALUES (8, 'ann', 'again')"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="suspended"):
            visits.sql(statement)


def test_another_table_shares_the_keys(visits: Database) -> None:
    visits.sql("CREATE TABLE bill (id int PRIMARY KEY, who text NOT NULL, text text)")
    visits.sql("INSERT INTO bill VALUES (1, 'ann', 'ten')")
    visits.sql(
        """CALL envelope.protect('bill', '["text"]', scope => 'subject', scope_column => 'who', scope_of => 'visit')"""
    )
    assert visits.sql("TABLE bill") == [(1, "ann", "ten")]
    assert [scope for scope, *_ in visits.sql(DEKS)] == ["ann", "ben"]
    visits.sql("CALL envelope.unprotect('visit')")
    assert visits.sql("TABLE bill") == [(1, "ann", "ten")]
    visits.sql("INSERT INTO bill VALUES (2, 'ann', 'two')")
    visits.sql("CALL envelope.unprotect('bill')")
    assert visits.sql("TABLE bill ORDER BY id") == [(1, "ann", "ten"), (2, "ann", "two")]
    assert visits.sql("SELECT DISTINCT state FROM envelope.keys WHERE scope IS NOT NULL") == [("decrypt-only",)]


def test_tenants_of_store_vault_get_keys_there(db: Database) -> None:
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person text NOT NULL, note text)")
    db.sql(SUBJECTS.replace("'subject'", "'tenant'").replace("scope =>", "store => 'vault', scope =>", 1))
    db.sql("INSERT INTO visit VALUES (1, 'ann', 'one'), (2, 'ben', 'two')")
    assert db.sql(DEKS) == [("ann", 1, "active", "vault"), ("ben", 1, "active", "vault")]
    assert db.sql("SELECT note FROM visit ORDER BY id") == [("one",), ("two",)]


def test_refresh_follows_a_renamed_scope_column(visits: Database) -> None:
    visits.sql("ALTER TABLE visit_encrypted RENAME person TO patient")
    visits.sql("CALL envelope.refresh('visit')")
    visits.sql("INSERT INTO visit (id, patient, note) VALUES (4, 'ann', 'four')")
    assert visits.sql("SELECT patient, note FROM visit WHERE id IN (1, 4) ORDER BY id") == [
        ("ann", "one"),
        ("ann", "four"),
    ]


def test_under_row_level_security(db: Database) -> None:
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person text NOT NULL, note text)")
    db.sql("ALTER TABLE visit ENABLE ROW LEVEL SECURITY")
    db.sql("CREATE POLICY own ON visit USING (person = current_user)")
    db.sql("GRANT SELECT, INSERT ON visit TO alice")
    db.sql(SUBJECTS)
    alice = db.connect("alice")
    alice.execute("INSERT INTO visit VALUES (1, 'alice', 'one')")
    db.sql("INSERT INTO visit VALUES (2, 'bob', 'two')")
    assert alice.execute("TABLE visit").fetchall() == [(1, "alice", "one")]


@pytest.mark.parametrize(
    ("column", "arguments", "message"),
    [
        ("person text", "scope => 'subject', scope_column => 'person'", "may be NULL"),
        ("person text NOT NULL", "scope => 'subject', scope_column => 'note'", "protected itself"),
        (
            "person text NOT NULL GENERATED ALWAYS AS ('x') STORED",
            "scope => 'subject', scope_column => 'person'",
            "generated",
        ),
        ("person money NOT NULL", "scope => 'tenant', scope_column => 'person'", "money"),
        ("person text NOT NULL", "scope => 'subject', scope_column => 'nobody'", "nobody"),
        ("person text NOT NULL", "scope => 'subject'", "scope_column"),
        ("person text NOT NULL", "scope_column => 'person'", "scope_column"),
        ("person text NOT NULL", "scope => 'family', scope_column => 'person'", "scope must be"),
        ("person text NOT NULL", "erased => 'zero'", "erased must be"),
    ],
)
def test_refusals(shared_db: Database, column: str, arguments: str, message: str) -> None:
    shared_db.sql("DROP TABLE IF EXISTS visit")
    shared_db.sql(f"CREATE TABLE visit (id int PRIMARY KEY, note text NOT NULL, {column})")
    with pytest.raises(psycopg.Error) as raised:
        shared_db.sql(f"""CALL envelope.protect('visit', '["note"]', {arguments})""")
    diagnosis = raised.value.diag
    assert message in f"{diagnosis.message_primary} {diagnosis.message_detail}"
    assert shared_db.sql("SELECT * FROM envelope.columns") == []


def test_rotate_kek_leaves_no_spare_under_the_old_version(visits: Database) -> None:
    assert visits.one("SELECT count(*) FROM envelope_private.spare_dek") > 0
    visits.sql("CALL envelope.rotate_kek('default')")
    assert visits.one("SELECT count(*) FROM envelope_private.spare_dek") == 0
    visits.sql("INSERT INTO visit VALUES (4, 'eve', 'four')")
    assert visits.sql("SELECT count(DISTINCT kek_version) FROM envelope_private.dek WHERE scope IS NOT NULL") == [(1,)]


def test_a_dump_brings_subjects_and_no_spares(visits: Database, tmp_path: Path) -> None:
    run = functools.partial(subprocess.run, check=True, env=visits.stack.environ(), capture_output=True)
    bindir, dump, restored = visits.stack.cluster.bindir, tmp_path / "dump", f"{visits.name}_restored"
    run([bindir / "pg_dump", "-Fc", "-f", dump, visits.name])
    visits.sql(f"CREATE DATABASE {restored}")
    try:
        run([bindir / "pg_restore", "--exit-on-error", "-d", restored, dump])
        with visits.stack.connect(restored) as connection:
            connection.execute("INSERT INTO visit VALUES (4, 'ann', 'four'), (5, 'eve', 'five')")
            notes = connection.execute("SELECT note FROM visit ORDER BY id").fetchall()
            scopes = connection.execute("SELECT DISTINCT scope FROM envelope.keys ORDER BY 1").fetchall()
    finally:
        visits.sql(f"DROP DATABASE {restored} WITH (FORCE)")
    assert notes == [("one",), ("two",), (None,), ("four",), ("five",)]
    assert scopes == [("ann",), ("ben",), ("eve",)]


def test_status_finds_nothing_wrong(visits: Database) -> None:
    found = dict(visits.sql("SELECT check_name, state FROM envelope.status() WHERE state = 'failed'"))
    assert found == {}
