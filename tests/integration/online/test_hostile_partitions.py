"""Hostile and unlucky acts on partitions: odd names, other schemas, ways around the view, ways to lose a value."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.online.fix_phases import CALLS, DIGEST, KINDS, PHASES
from tests.integration.sql.test_there_and_back import dump

ODD = ('p"; DROP TABLE t; --', "p%s", "p'x'", "P q", "ü💩", "x" * 63, "t_encrypted2", "select")
PROTECT = """CALL envelope.protect('t', '{"a": {"bind": "column"}}', online => true)"""
UNPROTECT = "CALL envelope.unprotect('t', online => true)"
VALUES = "SELECT id, a FROM t ORDER BY id"


@pytest.fixture
def protected(db: Database) -> Database:
    db.sql(KINDS["partitioned"])
    db.sql(CALLS["protect"])
    return db


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def test_partitions_of_any_name_in_any_schema(db: Database) -> None:
    db.sql('CREATE TABLE t (id int, a text) PARTITION BY LIST (id); CREATE SCHEMA "Other one"')
    for number, name in enumerate(ODD):
        schema = '"Other one"' if number % 2 else "public"
        made = quoted(name).encode().replace(b"%", b"%%").decode()
        db.sql(f"CREATE TABLE {schema}.{made} PARTITION OF t FOR VALUES IN ({number})")
    db.sql("CREATE INDEX ON t (a)")
    db.sql("INSERT INTO t SELECT i %% %s, 'value ' || i FROM generate_series(1, 400) i", len(ODD))
    schema, rows = dump(db), db.sql("SELECT id, a FROM t ORDER BY id, a")
    db.sql(PROTECT)
    assert db.sql("SELECT id, a FROM t ORDER BY id, a") == rows
    assert db.one("SELECT count(*) FROM t WHERE a_search = 'value 7'") == 1
    db.sql("SELECT envelope.rotate('t')")
    db.sql("CALL envelope.reencrypt('t', batch_size => 10)")
    db.sql("CALL envelope.verify('t')")
    assert db.one("SELECT fault_count FROM envelope.verifications") == 0
    db.sql(UNPROTECT)
    assert db.sql("SELECT id, a FROM t ORDER BY id, a") == rows
    assert dump(db) == schema


def test_a_table_without_any_partition(db: Database) -> None:
    db.sql("CREATE TABLE t (id int, a text) PARTITION BY LIST (id)")
    schema = dump(db)
    db.sql(PROTECT)
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition"):
        db.sql("INSERT INTO t VALUES (1, 'x')")
    db.sql("CREATE TABLE one PARTITION OF t DEFAULT; INSERT INTO t VALUES (1, 'x')")
    assert db.sql(VALUES) == [(1, "x")]
    db.sql("DROP TABLE one")
    db.sql(UNPROTECT)
    assert dump(db) == schema


def test_unlogged_partitions_and_one_that_lost_columns(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text) PARTITION BY LIST (id)")
    db.sql("CREATE UNLOGGED TABLE one PARTITION OF t FOR VALUES IN (1)")
    db.sql("CREATE TABLE two (x int, a text, y int, id int NOT NULL); ALTER TABLE two DROP x, DROP y")
    db.sql("ALTER TABLE t ATTACH PARTITION two DEFAULT; INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    schema = dump(db)
    for _ in range(2):
        db.sql(PROTECT)
        assert db.sql(VALUES) == [(1, "x"), (2, "y")]
        db.sql("UPDATE t SET id = id + 10 WHERE id = 1")
        db.sql("UPDATE t SET id = id - 10 WHERE id = 11")
        db.sql(UNPROTECT)
    assert dump(db) == schema


PAST_THE_VIEW = {
    "a value in the clear": "INSERT INTO person_low (id, email) VALUES (601, 'plain')",
    "a value in the old column": "UPDATE person_low SET email_plain = 'plain' WHERE id = 5",
    "a row that belongs elsewhere": "UPDATE person_low SET id = 5000 WHERE id = 5",
}


@pytest.mark.parametrize("way", PAST_THE_VIEW)
def test_a_partition_is_written_past_the_view(protected: Database, way: str) -> None:
    rows = protected.sql(DIGEST)
    with pytest.raises(psycopg.errors.CheckViolation):
        protected.sql(PAST_THE_VIEW[way])
    assert protected.sql(DIGEST) == rows


def test_an_envelope_of_another_row_does_not_open(protected: Database) -> None:
    other = "(SELECT email FROM person_low WHERE id = 6)"
    protected.sql(f"UPDATE person_low SET email = {other} WHERE id = 5")
    with pytest.raises(psycopg.errors.DataCorrupted):
        protected.sql("SELECT email FROM person WHERE id = 5")
    assert protected.one("SELECT email FROM person WHERE id = 6") == "value 6"


def test_who_may_read_a_partition_sees_envelopes(db: Database) -> None:
    db.sql(KINDS["partitioned"])
    db.sql("GRANT SELECT, UPDATE, INSERT ON person_low TO bob")
    with PHASES["backfill"](db, CALLS["protect"]) as job:
        assert job.alive
    assert job.end() is None
    seen = db.sql("SELECT email::text, email_plain FROM person_low WHERE id = 5", user="bob")
    assert [value.startswith("\\x") for value, _ in seen] == [True]
    assert [plain for _, plain in seen] == [None]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.sql("SELECT email FROM person WHERE id = 5", user="bob")


@pytest.mark.parametrize(
    "act",
    [
        "SELECT envelope.begin_ddl('person'); ALTER TABLE person DETACH PARTITION person_low",
        "ALTER TABLE person_low ALTER email TYPE text",
        "ALTER TABLE person_low RENAME COLUMN email TO mail",
        "ALTER TABLE person_low DROP COLUMN email",
        'DROP TRIGGER "~envelope_guard_write" ON person_low',
        "ALTER TABLE person_low INHERIT person_encrypted",
        "CREATE TABLE child () INHERITS (person_low)",
        "CREATE TEMPORARY TABLE away PARTITION OF person FOR VALUES FROM (9000) TO (9001)",
        "CREATE TABLE away PARTITION OF person FOR VALUES FROM (9000) TO (9001) PARTITION BY LIST (email)",
        "CALL envelope.protect('person_low', '[\"note\"]')",
        "CALL envelope.protect('person_low', '[\"note\"]', online => true)",
    ],
)
def test_what_would_break_a_partition_is_refused(protected: Database, act: str) -> None:
    rows = protected.sql(DIGEST)
    with pytest.raises(psycopg.Error) as caught:
        protected.sql(act)
    assert (caught.value.sqlstate or "XX")[:2] != "XX"
    assert protected.sql(DIGEST) == rows
    protected.sql("UPDATE person SET email = email || '.' WHERE id IN (5, 401)")
    assert protected.one("SELECT count(*) FROM person WHERE email LIKE 'value %.'") == 2


def test_an_emptied_partition_is_no_loss_to_others(protected: Database) -> None:
    protected.sql("TRUNCATE person_low; DROP TABLE person_odd")
    values = protected.one("SELECT count(email) + count(note) + count(born) FROM person")
    protected.sql("CALL envelope.verify('person')")
    assert protected.sql("SELECT value_count, fault_count FROM envelope.verifications") == [(values, 0)]


def test_a_subject_in_several_partitions_is_erased(db: Database) -> None:
    db.sql(KINDS["partitioned"])
    scoped = CALLS["protect"].replace(", online", ", scope => 'subject', scope_column => 'n', erased => 'null', online")
    db.sql(scoped)
    before = db.one("SELECT count(*) FROM person WHERE n = 7 AND email IS NOT NULL")
    parts = db.one("SELECT count(DISTINCT tableoid) FROM person_encrypted WHERE n = 7")
    assert min(before, parts) > 1
    db.sql("CALL envelope.shred('person', '7', 'asked for')")
    assert db.one("SELECT count(*) FROM person WHERE n = 7 AND email IS NOT NULL") == 0
    assert db.one("SELECT count(*) FROM person WHERE n <> 7 AND email IS NULL") == 0
