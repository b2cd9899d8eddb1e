"""Canaries: whoever opens one raises an alarm, in every scope and on every path; jobs that show no value raise none."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.client.test_commands import Command
from tests.integration.operations.fix_clusters import run

from .fix_reads import entries

COUNTED = re.compile(r"^pg_envelope_canary_reads_total (\d+)$", re.MULTILINE)
SCOPES = {
    "table": "",
    "tenant": ", scope => 'tenant', scope_column => 'tenant'",
    "subject": ", scope => 'subject', scope_column => 'id'",
}
VALUE = ("lee@example.com", "555", b"\x01\x02")
READ = "SELECT email, phone, photo FROM person WHERE id = {}"
PLANT = """SELECT envelope.plant_canary('person', '{"id": 7}', 'a note')"""


def alarms(db: Database) -> list[dict[str, Any]]:
    return [entry for entry in entries(db.stack) if entry["event"] == "canary" and entry["database"] == db.name]


def counted(stack: Stack) -> int:
    (found,) = COUNTED.findall(stack.broker.page("metrics"))
    return int(found)


def make(db: Database, options: str = "", columns: str = '["email", "phone", "photo"]') -> Database:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, tenant text NOT NULL, email text, phone text, photo bytea)")
    db.sql("ALTER TABLE person OWNER TO owner")
    db.sql(f"CALL envelope.protect('person', '{columns}'{options})")
    db.sql("GRANT SELECT, UPDATE ON person TO alice")
    db.sql("INSERT INTO person SELECT g, 'acme', 'u' || g, g, '\\x01' FROM generate_series(1, 20) g")
    db.sql("UPDATE person SET email = %s, phone = %s, photo = %s WHERE id = 7", *VALUE)
    return db


@pytest.fixture(params=SCOPES)
def person(db: Database, request: pytest.FixtureRequest) -> Database:
    made = make(db, SCOPES[request.param])
    made.sql(PLANT)
    return made


def test_whoever_opens_it_raises_the_alarm_each_time(person: Database) -> None:
    before, reader = counted(person.stack), person.connect("alice", application_name="steal'")
    reader.execute("SELECT email, phone, photo FROM person WHERE id <> 7")
    reader.execute("SELECT id, tenant FROM person")
    assert alarms(person) == []
    for _ in range(2):
        assert reader.execute(READ.format(7)).fetchall() == [VALUE]
    assert counted(person.stack) - before == len(alarms(person)) == 6
    (key_ids,) = person.sql("SELECT key_ids FROM envelope.canaries WHERE note = 'a note'")
    for alarm in alarms(person):
        assert (alarm["user"], alarm["role"], alarm["application"]) == ("alice", "alice", "steal'")
        assert alarm["pid"] == reader.info.backend_pid
        assert set(alarm["key_ids"]) <= set(key_ids[0])
    assert {column for alarm in alarms(person) for column in alarm["columns"]} == {
        f"public.person.{name}" for name in ("email", "phone", "photo")
    }


def test_jobs_that_show_no_value_raise_none(person: Database) -> None:
    """And afterwards the row is a canary as before."""
    if person.one("SELECT scope FROM envelope.columns LIMIT 1") == "table":
        person.sql("SELECT envelope.rotate('person')")
    else:
        person.sql("SELECT envelope.rotate('person', d.scope) FROM envelope.keys d WHERE d.state = 'active'")
    stored = "SELECT email, phone, photo FROM person_encrypted WHERE id = 7"
    before = person.sql(stored)
    person.sql("CALL envelope.reencrypt('person')")
    person.sql("CALL envelope.verify('person')")
    person.sql("CALL envelope.rotate_kek('default')")
    person.sql("CALL envelope.rewrap('default')")
    person.sql("SELECT envelope.receipt('person')")
    person.sql("TABLE person_encrypted")
    person.sql("SELECT count(*) FROM envelope.status()")
    assert (alarms(person), person.sql(stored)) == ([], before)
    assert person.sql("SELECT count(*) FROM person_encrypted WHERE envelope.is_stale(email)") == [(0,)]
    assert person.one("SELECT count(*) FROM envelope.faults") == 0
    person.sql("CALL envelope.rotate_emergency('person', 'a reason')")
    assert alarms(person) == []
    assert person.sql(READ.format(7)) == [VALUE]
    assert len(alarms(person)) == 3


def test_administration_that_reads_values_raises_the_alarm(db: Database) -> None:
    """A thief with these rights has the values, too. Each of the others is silent."""
    make(db).sql(PLANT)
    command = Command(db.stack, db.name)
    for words in (("discover",), ("report", "--unsigned"), ("access",)):
        command.done(*words)
    assert alarms(db) == []
    known = 0
    for statement in (
        "SELECT FROM envelope.search_advice('person', 'email')",
        "CALL envelope.add_search('person', 'email')",
        "CALL envelope.rotate_search('person', 'email')",
        "CALL envelope.unprotect('person')",
    ):
        db.sql(statement)
        assert len(alarms(db)) > known, statement
        known = len(alarms(db))


def test_residue_raises_the_alarm_when_its_sample_has_the_row(db: Database) -> None:
    """It reads values and looks for them elsewhere. A sample of another table has no canary."""
    make(db).sql(PLANT)
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, note text)")
    db.sql("""CALL envelope.protect('visit', '["note"]')""")
    db.sql("INSERT INTO visit SELECT g, 'a note of visit ' || g FROM generate_series(1, 9) g")
    command = Command(db.stack, db.name)
    assert command.run("residue", "visit").code in (0, 1)
    assert alarms(db) == []
    assert command.run("residue", "person").code in (0, 1)
    found = {column for alarm in alarms(db) for column in alarm["columns"]}
    assert "public.person.email" in found


def test_access_raises_the_alarm_when_its_proof_reads_the_row(db: Database) -> None:
    """The proof reads the first rows. What is only computed is silent, and so is a canary further down."""
    make(db).sql(PLANT)
    db.sql("SELECT count(*) FROM envelope.access(false)")
    db.sql("SELECT count(*) FROM envelope.access()")
    assert alarms(db) == []
    db.sql("DELETE FROM person WHERE id <> 7")
    db.sql("SELECT count(*) FROM envelope.access(false)")
    assert alarms(db) == []
    assert db.sql("SELECT DISTINCT finding FROM envelope.access()") == [(None,)]
    found = {column for alarm in alarms(db) for column in alarm["columns"]}
    assert found == {f"public.person.{name}" for name in ("email", "phone", "photo")}
    assert {"owner", "alice"} <= {alarm["role"] for alarm in alarms(db)}


@pytest.mark.parametrize("scope", ["tenant", "subject"])
def test_it_is_not_read_ahead(db: Database, scope: str) -> None:
    make(db, SCOPES[scope]).sql(PLANT)
    reader = db.connect("alice")
    names = ["acme"] if scope == "tenant" else [str(number) for number in range(1, 21)]
    reader.execute("SELECT envelope.prefetch('person', %s)", [names])
    db.connect("alice").execute("SELECT email, phone, photo FROM person WHERE id <> 7 ORDER BY id")
    assert alarms(db) == []
    assert reader.execute(READ.format(7)).fetchall() == [VALUE]
    assert len(alarms(db)) == 3


def test_a_made_up_subject_looks_like_the_others(db: Database) -> None:
    """Its columns share a key id, as those of each subject do."""
    make(db, SCOPES["subject"]).sql(PLANT)
    columns = [f"substr({name}, 1, 6)" for name in ("email", "phone", "photo")]
    same = f"SELECT id, {columns[0]} = {columns[1]} AND {columns[1]} = {columns[2]} FROM person_encrypted ORDER BY id"
    assert db.sql(same) == [(number, True) for number in range(1, 21)]


def test_audited_masked_and_by_right(db: Database) -> None:
    """Each path to a value is an alarm."""
    columns = '{"email": {"audit": "row"}, "phone": {}, "photo": {"pad": true, "bind": "column"}}'
    make(db, columns=columns).sql(PLANT)
    db.sql("SELECT envelope.mask('person', 'phone', 'public', 'null')")
    reader = db.connect("alice")
    assert reader.execute(READ.format(7)).fetchall() == [(VALUE[0], None, VALUE[2])]
    assert len(alarms(db)) == 3
    assert reader.execute("SELECT count(*) FROM person WHERE email = 'lee@example.com'").fetchone() == (1,)
    assert len(alarms(db)) == 4


def test_row_level_security(db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text); INSERT INTO person VALUES (7, 'x'), (8, 'y')")
    db.sql("ALTER TABLE person ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON person USING (true)")
    db.sql("""CALL envelope.protect('person', '["email"]')""")
    db.sql("GRANT SELECT ON person TO alice")
    db.sql(PLANT)
    assert db.sql("SELECT email FROM person WHERE id = 8", user="alice") == [("y",)]
    assert alarms(db) == []
    assert db.sql("SELECT email FROM person ORDER BY id", user="alice") == [("x",), ("y",)]
    assert [alarm["user"] for alarm in alarms(db)] == ["alice"]


def test_a_key_of_several_columns_and_types(db: Database) -> None:
    """A number keeps all of its digits, and a trial leaves the row out by the same texts."""
    row = (Decimal("12345678901234567890.10"), "o'x\"y\\", datetime(2026, 1, 2, tzinfo=UTC))
    db.sql("CREATE TABLE odd (a numeric, b text, c timestamptz, email text, PRIMARY KEY (a, b, c))")
    db.sql("INSERT INTO odd VALUES (%s, %s, %s, 'x')", *row)
    db.sql("""CALL envelope.protect('odd', '["email"]')""")
    db.sql(
        "SELECT envelope.plant_canary('odd', jsonb_build_object('a', %s::numeric, 'b', %s::text, 'c', %s::text))", *row
    )
    assert db.one("SELECT row_key ->> 'a' FROM envelope.canaries") == str(row[0])
    db.sql("SELECT count(*) FROM envelope.status()")
    db.sql("CALL envelope.verify('odd')")
    assert alarms(db) == []
    assert db.sql("SELECT email FROM odd") == [("x",)]
    assert len(alarms(db)) == 1
    db.sql("DELETE FROM odd")
    db.sql("SELECT envelope.remove_canary('odd', row_key) FROM envelope.canaries")
    assert db.sql("TABLE envelope.canaries") == []


def test_tables_that_share_their_subjects(db: Database) -> None:
    make(db, SCOPES["subject"])
    db.sql("CREATE TABLE visit (n int PRIMARY KEY, id int NOT NULL, note text)")
    db.sql(
        """CALL envelope.protect('visit', '["note"]', scope => 'subject', scope_column => 'id', scope_of => 'person')"""
    )
    db.sql("INSERT INTO visit SELECT g, g, 'n' || g FROM generate_series(1, 20) g")
    db.sql("""SELECT envelope.plant_canary('visit', '{"n": 7}')""")
    assert db.sql(READ.format(7)) == [VALUE]
    db.sql("SELECT note FROM visit WHERE n <> 7")
    assert alarms(db) == []
    assert db.sql("SELECT note FROM visit WHERE n = 7") == [("n7",)]
    assert [alarm["columns"] for alarm in alarms(db)] == [["public.visit.note"]]


def test_a_restored_copy_raises_the_alarm(db: Database, tmp_path: Path) -> None:
    """A dump opens nothing. What it holds is a canary wherever it is restored."""
    make(db).sql(PLANT)
    script, copy = tmp_path / "dump.sql", f"{db.name}_copy"
    script.write_text(run(db.stack.cluster, db.name, "pg_dump", "--format=plain"))
    assert alarms(db) == []
    db.sql(f"CREATE DATABASE {copy}")
    try:
        quiet = ("--quiet", "--set=ON_ERROR_STOP=1", "--no-psqlrc")
        run(db.stack.cluster, copy, "psql", *quiet, "--file", script)
        with db.stack.connect(copy) as restored:
            assert restored.execute("SELECT note FROM envelope.canaries").fetchall() == [("a note",)]
            restored.execute("SELECT count(*) FROM envelope.status()")
            restored.execute("CALL envelope.verify('person')")
            assert restored.execute(READ.format(8)).fetchall() == [("u8", "8", b"\x01")]
            told = [entry for entry in entries(db.stack) if entry.get("database") == copy]
            assert [entry for entry in told if entry["event"] == "canary"] == []
            assert restored.execute(READ.format(7)).fetchall() == [VALUE]
        told = [entry for entry in entries(db.stack) if entry.get("database") == copy]
        assert len([entry for entry in told if entry["event"] == "canary"]) == 3
    finally:
        db.sql(f"DROP DATABASE {copy} WITH (FORCE)")


def test_erased_values(db: Database) -> None:
    """They make no canary, and a canary that was erased has no key that could raise an alarm."""
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text); INSERT INTO person VALUES (7, 'x'), (8, 'y')")
    options = "scope => 'subject', scope_column => 'id', erased => 'null', store => 'catalog'"
    db.sql(f"""CALL envelope.protect('person', '["email"]', {options})""")
    db.sql("""SELECT envelope.plant_canary('person', '{"id": 8}')""")
    db.sql("CALL envelope.shred('person', '7', 'a reason')")
    db.sql("CALL envelope.shred('person', '8', 'a reason')")
    assert db.sql("SELECT email FROM person") == [(None,), (None,)]
    assert alarms(db) == []
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="no protected value"):
        db.sql(PLANT)


def test_it_is_removed_when_its_row_is_gone(person: Database) -> None:
    remove = """SELECT envelope.remove_canary('person', '{"id": "7"}')"""
    with pytest.raises(psycopg.Error, match="still in its row") as caught:
        person.sql(remove)
    assert caught.value.sqlstate == "55006"
    person.sql("DELETE FROM person WHERE id = 7")
    person.sql(remove)
    assert person.sql("TABLE envelope.canaries") == []
    assert alarms(person) == []
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="there is no canary"):
        person.sql(remove)


def test_values_that_were_written_anew_are_no_canary(person: Database) -> None:
    person.sql("UPDATE person SET email = 'a', phone = 'b', photo = 'c' WHERE id = 7")
    before = len(alarms(person))
    assert person.sql(READ.format(7)) == [("a", "b", b"c")]
    assert len(alarms(person)) == before
    person.sql("""SELECT envelope.remove_canary('person', '{"id": 7}')""")
    person.sql(PLANT)
    assert person.one("SELECT count(*) FROM envelope.canaries") == 1


def test_a_rollback_leaves_the_row_as_it_was(db: Database) -> None:
    make(db)
    with db.connect("postgres", autocommit=False) as session:
        session.execute(PLANT)
        assert session.execute("SHOW session_replication_role").fetchone() == ("origin",)
        session.rollback()
    assert db.sql(READ.format(7)) == [VALUE]
    assert (alarms(db), db.sql("TABLE envelope.canaries")) == ([], [])


def test_bad_input(db: Database) -> None:
    make(db).sql("INSERT INTO person (id, tenant) VALUES (30, 'acme'); CREATE TABLE plain (id int PRIMARY KEY)")
    db.sql(PLANT)
    for call, sqlstate in {
        "plant_canary('person', '{\"id\": 99}')": "22023",
        "plant_canary('person', '{\"id\": null}')": "22023",
        'plant_canary(\'person\', \'{"id": 7, "email": "x"}\')': "22023",
        "plant_canary('person', '7')": "22023",
        "plant_canary('person', NULL)": "22023",
        "plant_canary(NULL, '{\"id\": 8}')": "22023",
        "plant_canary('person', '{\"id\": 7}')": "22023",
        "plant_canary('person', '{\"id\": 30}')": "22023",
        "plant_canary('person', '{\"id\": \"x\"}')": "22P02",
        "plant_canary('plain', '{\"id\": 1}')": "42704",
        "remove_canary('person', '{\"id\": 8}')": "22023",
    }.items():
        with pytest.raises(psycopg.Error) as caught:
            db.sql(f"SELECT envelope.{call}")
        assert caught.value.sqlstate == sqlstate, call
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.sql("""SELECT envelope.plant_canary('person', '{"id": 8}')""", user="owner")
    assert alarms(db) == []
