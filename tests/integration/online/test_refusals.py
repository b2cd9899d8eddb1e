"""What cannot be done online is refused before anything is touched; other acts wait for the end of a roll-out."""

from __future__ import annotations

from itertools import product

import psycopg
import pytest

from pg_envelope.backend.sqltext import constraint_name
from tests.fix_stack import Database
from tests.integration.online.fix_phases import CALLS, DIGEST, PHASES
from tests.integration.sql.test_there_and_back import dump

OBSTACLES = {
    "an index that tokens cannot stand in for": (
        "CREATE INDEX by_note ON person (upper(note))",
        "used by index public.by_note",
    ),
    "an index that takes NULLs for equal": (
        "ALTER TABLE person ADD CONSTRAINT alike UNIQUE NULLS NOT DISTINCT (email)",
        "index alike takes NULLs for equal",
    ),
    "an index whose condition is about a column": (
        "CREATE INDEX mailed ON person (n) WHERE email IS NOT NULL",
        "mailed",
    ),
    "an index of tokens whose condition is about a column": (
        "CREATE UNIQUE INDEX noted ON person (email) WHERE note IS NOT NULL AND n > 3",
        "noted",
    ),
    "a unique constraint that waits": ("ALTER TABLE person ADD CONSTRAINT one UNIQUE (email) DEFERRABLE", "one"),
    "the name of a search column is taken": (
        "CREATE UNIQUE INDEX one_mail ON person (email); ALTER TABLE person ADD email_search text",
        "email_search",
    ),
    "a taken name": ("ALTER TABLE person ADD email_plain text", "email_plain"),
    "a domain that refuses NULL": (
        "CREATE DOMAIN given AS varchar(40) CHECK (VALUE IS NOT NULL); UPDATE person SET note = coalesce(note, '-');"
        "ALTER TABLE person ALTER note TYPE given",
        "does not take NULL",
    ),
    "a trigger that looks at values": (
        "CREATE FUNCTION looks() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.n := length(NEW.email); RETURN NEW; END';"
        "CREATE TRIGGER looks BEFORE INSERT ON person FOR EACH ROW EXECUTE FUNCTION looks()",
        "trigger looks",
    ),
    "hidden rows": (
        "ALTER TABLE person ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "row-level security with FORCE",
    ),
    "a view that cannot follow": (
        "CREATE VIEW mails AS SELECT id, email, n FROM person GROUP BY id",
        "name every column in GROUP BY",
    ),
    "a copy of the values": (
        "CREATE MATERIALIZED VIEW copied AS SELECT email FROM person",
        "would stay readable in materialized view",
    ),
    "a publication": ("CREATE PUBLICATION news FOR TABLE person", "publications send it"),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_it_is_refused_before_anything_is_touched(person: Database, obstacle: str) -> None:
    statement, told = OBSTACLES[obstacle]
    person.sql("REVOKE SELECT (id, note) ON person FROM bob")
    person.sql(statement)
    schema = dump(person)
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        person.sql(CALLS["protect"])
    assert told in (caught.value.diag.message_detail or "")
    assert dump(person) == schema
    assert person.one("SELECT count(*) FROM envelope.keys") == 0


def test_it_commits_so_it_runs_in_no_transaction(person: Database) -> None:
    for act in CALLS.values():
        with pytest.raises(psycopg.errors.ActiveSqlTransaction), person.admin.transaction():
            person.sql(act)


def test_what_is_protected_is_protected_already(person: Database) -> None:
    person.sql(CALLS["protect"])
    with pytest.raises(psycopg.errors.DuplicateObject):
        person.sql(CALLS["protect"])


def test_a_table_that_was_protected_offline_is_unprotected_offline(person: Database) -> None:
    person.sql("""CALL envelope.protect('person', '["email"]')""")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="cannot be unprotected online") as caught:
        person.sql(CALLS["unprotect"])
    assert "Leave out online" in (caught.value.diag.message_hint or "")


WAITING = {
    "CALL envelope.protect('person', '[\"email\"]', online => true)": psycopg.errors.ObjectNotInPrerequisiteState,
    "CALL envelope.protect('person', '[\"email\"]')": psycopg.errors.DuplicateObject,
    "CALL envelope.add_search('person', 'email')": psycopg.errors.ObjectInUse,
    "CALL envelope.set_audit('person', 'email', 'row')": psycopg.errors.ObjectInUse,
    "CALL envelope.shred('person', reason => 'values in the clear would stay')": psycopg.errors.ObjectInUse,
    CALLS["protect"]: psycopg.errors.ObjectInUse,
    CALLS["unprotect"]: psycopg.errors.ObjectInUse,
}


def test_nothing_comes_between(person: Database) -> None:
    """The roll-out that runs goes on undisturbed."""
    rows = person.sql(DIGEST)
    with PHASES["backfill"](person, CALLS["protect"]) as job:
        for statement, error in WAITING.items():
            with pytest.raises(error):
                person.sql(statement)
        assert person.one("SELECT detail FROM envelope.status() WHERE check_name = 'online'").endswith(
            "public.person (protect)"
        )
    assert job.end() is None
    assert person.sql(DIGEST) == rows


def test_a_refresh_keeps_a_roll_out_going(person: Database) -> None:
    rows = person.sql(DIGEST)
    with PHASES["backfill"](person, CALLS["protect"]) as job:
        person.sql("CALL envelope.refresh('person')")
        person.sql("ALTER TABLE person_encrypted ADD late text; CALL envelope.refresh('person')")
        person.sql("GRANT INSERT ON person TO bob")
    assert job.end() is None
    assert person.one("SELECT count(late) FROM person") == 0
    assert person.sql(DIGEST.replace("FROM person", "FROM (SELECT id, email, note, n, born FROM person)")) == rows


def test_plaintext_cannot_come_back(person: Database) -> None:
    """Neither past the view, nor where no trigger fires."""
    person.sql(CALLS["protect"])
    for setting in ("origin", "replica"):
        person.sql(f"SET session_replication_role = {setting}")
        with pytest.raises(psycopg.errors.CheckViolation):
            person.sql("UPDATE person_encrypted SET email_plain = 'plain' WHERE id = 1")


def test_dead_rows_are_told_of_until_the_table_is_rewritten(person: Database) -> None:
    residue = "SELECT state, detail FROM envelope.status() WHERE check_name = 'residue'"
    assert person.sql(residue) == [("ok", "tables whose dead rows still hold plaintext: none")]
    person.sql(CALLS["protect"])
    warned = [("warning", "tables whose dead rows still hold plaintext: public.person_encrypted")]
    assert person.sql(residue) == warned
    person.sql("VACUUM person_encrypted")
    assert person.sql(residue) == warned
    person.sql("VACUUM FULL person_encrypted")
    assert person.sql(residue)[0][0] == "ok"
    file = person.one("SELECT current_setting('data_directory') || '/' || pg_relation_filepath('person_encrypted')")
    person.sql("CHECKPOINT")
    assert person.one("SELECT position('value 77'::bytea IN pg_read_binary_file(%s))", file) == 0


def test_statistics_hold_no_value_of_before(person: Database) -> None:
    """ANALYZE keeps values. An envelope may be among them, and no value in the clear."""
    kept = "SELECT count(*) FROM pg_stats s WHERE s.tablename = 'person_encrypted' AND s::text LIKE '%value 7%'"
    assert person.one(kept.replace("_encrypted", "")) == 1
    with PHASES["backfill"](person, CALLS["protect"]) as job:
        person.sql("ANALYZE person_encrypted")
        assert person.one(kept) == 1
    assert job.end() is None
    assert person.one(kept) == 0


def test_the_names_of_constraints_are_those_that_postgresql_makes(db: Database) -> None:
    for table, column in product(["t", "x" * 63, "ü" * 31, "y" * 40], ["c", "z" * 63, "ö" * 31, "v" * 22]):
        db.sql(f'CREATE TABLE "{table}" ("{column}" text CHECK ("{column}" <> \'\'))')
        made = db.one("SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass", f'"{table}"')
        db.sql(f'DROP TABLE "{table}"')
        assert made == constraint_name(table, column, "check")


def test_a_plan_is_that_of_the_other_way(person: Database) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="without online"):
        person.sql(CALLS["protect"].replace("online", "dry_run => true, online"))
