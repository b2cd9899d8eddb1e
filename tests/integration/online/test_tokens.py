"""Tables with indexes on the columns that are protected online: every value is unique at every moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from stack.postgres import Cluster
from tests.fix_stack import Database
from tests.integration.online.fix_phases import DIGEST, PHASES, ROWS
from tests.integration.operations.fix_clusters import run
from tests.integration.operations.test_crash import kill_backend
from tests.integration.rotation.fix_jobs import Beside, until
from tests.integration.sql.test_there_and_back import dump

INDEXES = """
ALTER TABLE person ADD CONSTRAINT one_mail UNIQUE (email), ADD tenant int NOT NULL DEFAULT 1;
COMMENT ON CONSTRAINT one_mail ON person IS 'one mail, one person';
CREATE INDEX by_tenant ON person (tenant, note DESC) WHERE n > 5;
CREATE UNIQUE INDEX lower_mail ON person (lower(email)); REVOKE SELECT (id, note) ON person FROM bob"""
PROTECT = """CALL envelope.protect('person', '{"email": {}, "note": {}, "born": {}}', online => true)"""
UNPROTECT = "CALL envelope.unprotect('person', online => true)"
SLOWLY = ", batch_size => 100, pause_ms => 100)"
FILLING = "SELECT count(*) > 0 FROM envelope.progress WHERE what = 'search' AND rows > 0 AND state = 'running'"
NAMES = """
SELECT c.relname, i.indisunique FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = to_regclass('person_encrypted') ORDER BY 1"""
# Without the search columns, which the view has in the end.
VALUES = DIGEST.replace("FROM person p", "FROM (SELECT id, email, note, n, born, tenant FROM person) p")
UNFINISHED = "SELECT FROM envelope.status() WHERE check_name = 'online' AND state <> 'ok'"
TWICE = "INSERT INTO person (email) VALUES (%s)"


@pytest.fixture
def indexed(person: Database) -> Database:
    person.sql(INDEXES)
    return person


@contextmanager
def in_the_tokens(db: Database, act: str) -> Iterator[Beside]:
    job = Beside(db, {"protect": PROTECT, "unprotect": UNPROTECT}[act].replace("true)", f"true{SLOWLY}"))
    until(db, FILLING, "the first tokens")
    yield job


@contextmanager
def in_the_envelopes(db: Database, act: str) -> Iterator[Beside]:
    with in_the_tokens(db, act) as job:
        until(db, "SELECT count(*) > 0 FROM envelope.progress WHERE what = 'online' AND rows > 0", "envelopes")
        yield job


STEPS = {"tokens": in_the_tokens, "envelopes": in_the_envelopes}


def assert_unique(db: Database) -> None:
    """Tries the value of the first row, of the last one, and of one that was written a moment ago. Both indexes refuse
    each: which of them comes first is not told.
    """
    db.sql("INSERT INTO person (id, email) VALUES (9001, 'fresh@x')")
    for value in ("value 1", f"value {ROWS}", "fresh@x"):
        for statement in (TWICE, "UPDATE person SET email = %s WHERE id = 3"):
            with pytest.raises(psycopg.errors.UniqueViolation) as caught:
                db.sql(statement, value)
            assert caught.value.diag.constraint_name in ("one_mail", "lower_mail")
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        db.sql(TWICE, "VALUE 7")
    assert caught.value.diag.constraint_name == "lower_mail"
    db.sql("DELETE FROM person WHERE id = 9001")


def test_there_and_back(indexed: Database) -> None:
    schema, rows = dump(indexed), indexed.sql(DIGEST)
    indexed.sql(PROTECT)
    assert indexed.sql(NAMES) == [
        ("by_tenant", False), ("lower_mail", True), ("one_mail", True), ("person_note_search_idx", False),
        ("person_pkey", True),
    ]  # fmt: skip
    assert_unique(indexed)
    assert indexed.one("SELECT id FROM person WHERE email_search = 'value 77'") == 77
    assert indexed.one("SELECT count(*) FROM person WHERE note_search = 'note 77'") == 1
    assert indexed.sql("SELECT * FROM envelope.status() WHERE state <> 'ok' AND check_name <> 'residue'") == []
    indexed.sql("CALL envelope.unprotect('person')")
    assert indexed.sql(DIGEST) == rows
    assert dump(indexed) == schema


def test_the_same_table_as_offline(indexed: Database) -> None:
    """The view shows the same columns, and the same indexes find them."""
    indexed.sql(PROTECT)
    online = indexed.sql("SELECT column_name, is_nullable FROM information_schema.columns WHERE table_name = 'person'")
    names = indexed.sql(NAMES)
    indexed.sql("CALL envelope.unprotect('person')")
    indexed.sql(PROTECT.replace(", online => true", ""))
    told = "SELECT column_name, is_nullable FROM information_schema.columns WHERE table_name = 'person'"
    assert indexed.sql(told) == online
    assert indexed.sql(NAMES) == names


@pytest.mark.parametrize("step", STEPS)
def test_values_are_unique_in_every_step(indexed: Database, step: str) -> None:
    with STEPS[step](indexed, "protect") as job:
        assert_unique(indexed)
    assert job.end() is None
    assert_unique(indexed)
    assert indexed.one("SELECT count(*) FROM person WHERE email_search IS NULL") == 0


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("way", ["online", "offline"])
def test_it_is_killed_and_goes_on_or_is_taken_back(indexed: Database, step: str, way: str) -> None:
    indexed.durable()
    schema, rows = dump(indexed), indexed.sql(DIGEST)
    with STEPS[step](indexed, "protect") as job:
        kill_backend(indexed.stack, job.pid)
    job.end()
    with Database(indexed.stack, indexed.name) as again:
        assert again.sql(DIGEST) == rows
        assert_unique(again)
        if way == "online":
            again.sql(PROTECT)
            assert_unique(again)
            assert again.one("SELECT count(*) FROM person WHERE email_search IS NULL") == 0
        again.sql("CALL envelope.unprotect('person')")
        assert again.sql(DIGEST) == rows
        assert dump(again) == schema


@pytest.mark.parametrize("step", STEPS)
def test_an_aborted_protect_leaves_no_trace(indexed: Database, step: str) -> None:
    schema, rows = dump(indexed), indexed.sql(DIGEST)
    with STEPS[step](indexed, "protect") as job:
        assert indexed.one("SELECT envelope.abort('person')") == 1
    error = job.end()
    assert error is not None
    assert error.sqlstate == "57014"
    assert_unique(indexed)
    assert indexed.sql(DIGEST) == rows
    assert dump(indexed) == schema
    assert indexed.one("SELECT count(*) FROM envelope.searches") == 0


@pytest.mark.parametrize(("step", "act"), [("tokens", PROTECT), ("envelopes", UNPROTECT)])
def test_a_database_that_is_restored_from_the_middle_goes_on_or_back(
    indexed: Database,
    other_cluster: Cluster,
    empty_database: Callable[[str], str],
    tmp_path: Path,
    step: str,
    act: str,
) -> None:
    rows = indexed.sql(VALUES)
    with STEPS[step](indexed, "protect") as job:
        indexed.sql("SELECT pg_cancel_backend(%s)", job.pid)
    job.end()
    run(indexed.stack.cluster, indexed.name, "pg_dump", "--format=custom", "--file", tmp_path / "dump")
    name = empty_database(f"tokens_{step}_{'to' if act == PROTECT else 'back'}")
    run(other_cluster, name, "pg_restore", "--dbname", name, tmp_path / "dump")
    with other_cluster.connect(name) as restored:
        restored.execute("SELECT envelope.this_is_the_original()")
        for _ in range(2):
            assert restored.execute(VALUES).fetchall() == rows
            with pytest.raises(psycopg.errors.UniqueViolation):
                restored.execute(TWICE, ("value 1",))
            restored.execute(act if restored.execute(UNFINISHED).fetchall() else "SELECT 1")
        if act == PROTECT:
            assert restored.execute("SELECT id FROM person WHERE email_search = 'value 77'").fetchall() == [(77,)]


def test_values_that_are_equal_after_normalising_stop_it_and_nothing_is_lost(person: Database) -> None:
    person.sql("REVOKE SELECT (id, note) ON person FROM bob; UPDATE person SET email = 'VALUE 1' WHERE id = 2")
    schema, rows = dump(person), person.sql(DIGEST)
    wanted = '{"email": {"search": {"exact": {"normalize": "casefold"}}, "unique": true}}'
    protect = f"CALL envelope.protect('person', '{wanted}', online => true)"
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        person.sql(protect)
    assert "equal after normalising" in str(caught.value)
    assert person.sql(DIGEST) == rows
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="other columns or options"):
        person.sql(protect.replace("casefold", "email"))
    person.sql(UNPROTECT)
    assert dump(person) == schema
    person.sql(protect.replace('"unique": true', '"unique": false'))
    assert person.one("SELECT count(*) FROM person WHERE email_search = 'Value 1'") == 2


def test_writes_of_a_table_with_triggers_and_policies_get_their_tokens(indexed: Database) -> None:
    """There the guard makes envelopes and tokens, in each step."""
    indexed.sql("""
        CREATE FUNCTION trim_note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := NEW.n + 1; RETURN NEW; END';
        CREATE TRIGGER trim_note BEFORE INSERT ON person FOR EACH ROW EXECUTE FUNCTION trim_note();
        ALTER TABLE person ENABLE ROW LEVEL SECURITY; CREATE POLICY all_of_it ON person USING (true)""")
    for step in STEPS:
        with STEPS[step](indexed, "protect") as job:
            indexed.sql("INSERT INTO person (id, email, note) VALUES (9002, 'new@x', 'first')")
            indexed.sql("UPDATE person SET email = 'newer@x', note = NULL WHERE id = 9002")
            indexed.sql("UPDATE person SET note = 'third' WHERE id IN (9002, 5)")
        assert job.end() is None
        assert indexed.sql("SELECT id FROM person WHERE email_search = 'newer@x'") == [(9002,)]
        assert indexed.sql("SELECT id FROM person WHERE note_search = 'third' ORDER BY id") == [(5,), (9002,)]
        assert indexed.one("SELECT count(*) FROM person WHERE email_search = 'new@x'") == 0
        indexed.sql("DELETE FROM person WHERE id = 9002; CALL envelope.unprotect('person')")


@pytest.mark.parametrize("phase", PHASES)
def test_it_ends_well_whatever_holds_it_up(indexed: Database, phase: str) -> None:
    rows = indexed.sql(DIGEST)
    with PHASES[phase](indexed, PROTECT) as job:
        assert indexed.sql(DIGEST) == rows
    assert job.end() is None
    assert_unique(indexed)
