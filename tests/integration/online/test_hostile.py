"""Hostile and unlucky acts beside roll-outs of tables with subjects, and of tables with search columns."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.online.fix_phases import CALLS, DIGEST, PHASES, ROWS, SUBJECTS, scoped
from tests.integration.online.test_back import FURTHER, INDEXES, WANTED
from tests.integration.rotation.fix_jobs import Beside
from tests.integration.sql.test_there_and_back import dump

PROTECT, UNPROTECT = scoped("subject")["protect"], CALLS["unprotect"]
INDEXED = f"CALL envelope.protect('person', '{WANTED}', online => true)"
# Texts as people and attackers write them. A subject is told apart by the bytes.
NAMES = (
    "",
    " ",
    "ann",
    "Ann",
    "o'hara",
    '"x"',
    "{a,b}",
    "NULL",
    "a\\b",
    "line\nbreak",
    "ü",
    "u\u0308",
    "💩",
    "x" * 900,
)
VERIFIED = "SELECT count(*) FROM envelope.faults"


def test_subjects_of_any_text(db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, n text NOT NULL, email text)")
    for name in NAMES:
        db.sql("INSERT INTO person (n, email) VALUES (%s, 'of ' || %s), (%s, NULL)", name, name, name)
    db.sql(
        "CALL envelope.protect('person', '[\"email\"]', scope => 'subject', scope_column => 'n', online => true,"
        " batch_size => 1)"
    )
    assert db.one("SELECT count(*) FROM person WHERE email = 'of ' || n") == len(NAMES)
    assert db.one("SELECT count(DISTINCT scope) FROM envelope.keys") == len(NAMES)
    db.sql(UNPROTECT)
    assert db.one("SELECT count(*) FROM person WHERE email = 'of ' || n") == len(NAMES)


def test_a_subject_that_can_have_no_key_stops_it_and_it_is_taken_back(person: Database) -> None:
    """Its text is too long for the key catalog's index, and does not compress."""
    long = "SELECT string_agg(md5(i::text), '') FROM generate_series(1, 200) i"
    person.sql("ALTER TABLE person ADD who text NOT NULL DEFAULT 'x'")
    person.sql(f"UPDATE person SET who = ({long}) WHERE id = {ROWS}")
    schema, rows = dump(person), person.sql(DIGEST)
    with pytest.raises(psycopg.errors.ProgramLimitExceeded):
        person.sql(PROTECT.replace("'n'", "'who'"))
    assert person.sql(DIGEST) == rows
    person.sql(UNPROTECT)
    assert dump(person) == schema
    assert person.sql(DIGEST) == rows


def test_two_tables_make_the_same_keys_at_once(person: Database) -> None:
    person.sql("CREATE TABLE visit (id int PRIMARY KEY, n int NOT NULL, note text)")
    person.sql("CALL envelope.protect('visit', '[\"note\"]', scope => 'subject', scope_column => 'n')")
    shared = PROTECT.replace("online", "scope_of => 'visit', online").replace(")", ", batch_size => 50)")
    person.sql(
        "CREATE TABLE other AS SELECT * FROM person ORDER BY id DESC; ALTER TABLE other ADD PRIMARY KEY (id),"
        " ALTER n SET NOT NULL, ALTER email SET NOT NULL"
    )
    rows = person.sql(DIGEST)
    jobs = [Beside(person, call) for call in (shared, shared.replace("'person'", "'other'"))]
    jobs.append(Beside(person, f"INSERT INTO visit SELECT i, i, 'x' FROM generate_series(1, {SUBJECTS}) i"))
    assert [(error.diag.message_detail, str(error)) for job in jobs if (error := job.end())] == []
    assert person.sql(DIGEST) == rows
    assert person.sql(DIGEST.replace("FROM person", "FROM other")) == rows
    assert person.one("SELECT count(*) FROM envelope.keys WHERE scope = '7'") == 1


def test_keys_change_meanwhile(person: Database) -> None:
    rows = person.sql(DIGEST)
    for call in (PROTECT, UNPROTECT):
        with PHASES["backfill"](person, call) as job:
            person.sql("SELECT envelope.rotate('person')")
            person.sql("CALL envelope.refresh('person')")
            person.sql("SELECT envelope.rotate('person', '1')")
        assert job.end() is None
        assert person.sql(DIGEST) == rows
        if call == PROTECT:
            person.sql("CALL envelope.reencrypt('person')")
            person.sql("CALL envelope.verify('person')")
            assert person.one(VERIFIED) == 0


def test_settings_of_the_session_do_no_harm(person: Database) -> None:
    rows = person.sql(DIGEST)
    with person.connect() as session:
        session.execute("SET default_transaction_isolation = 'serializable'; SET search_path = pg_temp")
        session.execute("SET DateStyle = 'German'; SET extra_float_digits = -5; SET lock_timeout = '9s'")
        for call in (PROTECT, UNPROTECT):
            session.execute(call.replace("'person'", "'public.person'"))
            assert session.execute("SHOW lock_timeout").fetchall() == [("9s",)]
            assert person.sql(DIGEST) == rows


def test_who_may_only_write_neither_begins_nor_ends_it(person: Database) -> None:
    person.sql("GRANT ALL ON person TO alice")
    schema = dump(person)
    for call in (PROTECT, INDEXED, UNPROTECT):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            person.sql(call, user="alice")
    assert dump(person) == schema
    with PHASES["backfill"](person, PROTECT) as job:
        for statement in ("SELECT envelope.abort('person')", "SELECT envelope.pause('person')", UNPROTECT):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                person.sql(statement, user="alice")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            person.sql("SELECT email_plain FROM person_encrypted", user="alice")
        assert person.one("SELECT count(*) FROM person WHERE email = 'value ' || id", user="alice") == ROWS
    assert job.end() is None


def test_what_cannot_be_made_ahead_is_made_in_the_end(person: Database) -> None:
    """The name of the empty table is taken, rows violate what was dropped, and a column has another name by then."""
    person.sql(INDEXES + ";" + FURTHER)
    person.sql("CREATE UNIQUE INDEX once ON person (upper(note))")
    person.sql(INDEXED)
    person.sql("CREATE TABLE person_encrypted_pg_envelope_scratch (x int)")
    person.sql("UPDATE person SET note = 'Note 1' WHERE id = 2; ALTER TABLE person RENAME COLUMN n TO number")
    rows = person.one("SELECT count(*) FROM person WHERE email = 'value ' || id")
    job = Beside(person, UNPROTECT)
    assert job.end() is None
    assert any("once could not be put back" in notice for notice in job.notices)
    assert person.one("SELECT count(*) FROM person WHERE email = 'value ' || id") == rows == ROWS
    made = {name for (name,) in person.sql("SELECT indexname FROM pg_indexes WHERE tablename = 'person'")}
    assert made >= {"one_mail", "by_tenant", "lower_mail", "email_parts", "alike", "late"}
    assert not any("pg_envelope" in name for name in made)


def test_search_columns_that_came_later_go_with_it(person: Database) -> None:
    person.sql("REVOKE SELECT (id, note) ON person FROM bob")
    schema, rows = dump(person), person.sql(DIGEST)
    person.sql(CALLS["protect"])
    person.sql("""CALL envelope.add_search('person', 'email', '{"exact": {"normalize": "casefold"}}')""")
    person.sql("CALL envelope.add_search('person', 'note', '\"exact\"')")
    with PHASES["backfill"](person, UNPROTECT) as job:
        assert person.sql("SELECT id FROM person WHERE email_search = 'VALUE 77'") == [(77,)]
        person.sql("UPDATE person SET note = 'other' WHERE id = 5")
        assert person.sql("SELECT id FROM person WHERE note_search = 'other'") == [(5,)]
        person.sql("UPDATE person SET note = 'note 5' WHERE id = 5")
    assert job.end() is None
    assert person.sql(DIGEST) == rows
    assert dump(person) == schema
