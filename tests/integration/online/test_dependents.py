"""What depends on a table is carried along by a roll-out, there and back, and can be used all the time."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.online.fix_phases import CALLS
from tests.integration.sql.test_there_and_back import dump

DEPENDENTS = (
    "CREATE VIEW mails AS SELECT id, lower(email) AS mail, born FROM person",
    "CREATE VIEW long_mails AS SELECT * FROM mails WHERE length(mail) > 8",
    "CREATE VIEW open_only AS SELECT id, n FROM person",
    "CREATE MATERIALIZED VIEW counted AS SELECT n % 10 AS last, count(*) FROM person GROUP BY 1",
    "CREATE FUNCTION mail_of(wanted int) RETURNS text LANGUAGE sql BEGIN ATOMIC"
    " SELECT email FROM person WHERE id = wanted; END",
    "CREATE TABLE seen (id int, at timestamptz DEFAULT now())",
    "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN INSERT INTO seen VALUES (NEW.id); RETURN NULL; END'",
    "CREATE TRIGGER sees AFTER UPDATE OF email ON person FOR EACH ROW EXECUTE FUNCTION see()",
    "GRANT SELECT ON mails, long_mails, open_only TO alice",
)
READS = (
    "SELECT count(*), md5(string_agg(m::text, ',' ORDER BY id)) FROM mails m",
    "SELECT count(*) FROM long_mails",
    "SELECT sum(n) FROM open_only",
    "SELECT mail_of(7)",
)
OIDS = "SELECT 'mails'::regclass::oid, 'long_mails'::regclass::oid, 'open_only'::regclass::oid"


@pytest.fixture
def used(person: Database) -> Database:
    """The table with views, a function and a trigger that use its columns."""
    for statement in DEPENDENTS:
        person.sql(statement)
    return person


def read(db: Database) -> list[object]:
    return [db.sql(statement) for statement in READS]


def test_there_and_back(used: Database) -> None:
    schema, before, oids = dump(used), read(used), used.sql(OIDS)
    used.sql(CALLS["protect"])
    assert (read(used), used.sql(OIDS)) == (before, oids)
    assert used.one("SELECT count(*) FROM mails", user="alice") == before[0][0][0]
    used.sql("UPDATE person SET email = 'other@x' WHERE id = 7")
    used.sql("UPDATE person SET n = n WHERE id = 8")
    assert used.sql("SELECT id FROM seen") == [(7,)]
    assert used.sql("SELECT mail_of(7)") == [("other@x",)]
    used.sql("UPDATE person SET email = 'value 7' WHERE id = 7")
    used.sql("DELETE FROM seen")
    used.sql(CALLS["unprotect"])
    assert (read(used), used.sql(OIDS)) == (before, oids)
    assert dump(used) == schema


def test_copies_of_values_are_kept_on_request(person: Database) -> None:
    person.sql("CREATE MATERIALIZED VIEW copied AS SELECT id, email FROM person")
    before = person.sql("SELECT count(*), max(email) FROM copied")
    person.sql(CALLS["protect"].replace("online", "keep_copies => true, online"))
    assert person.sql("SELECT count(*), max(email) FROM copied") == before
    state, detail = person.sql("SELECT state, detail FROM envelope.status() WHERE check_name = 'copies'")[0]
    assert (state, "copied" in detail) == ("warning", True)


def test_a_view_that_needs_the_protected_table_keeps_it_so(person: Database) -> None:
    person.sql(CALLS["protect"])
    person.sql("CREATE TABLE other (p person)")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="cannot be unprotected"):
        person.sql(CALLS["unprotect"])
    assert person.one("SELECT count(*) FROM envelope.columns") == 3


@pytest.mark.parametrize(
    "change",
    [
        "CALL envelope.drop_search('person', 'email')",
        "ALTER TABLE person DROP COLUMN born",
        "ALTER TABLE person ALTER n TYPE bigint",
    ],
)
def test_the_view_is_made_again_after_a_roll_out(person: Database, change: str) -> None:
    """The base table has the comment of a column that the view does not show."""
    told = "SELECT col_description('person'::regclass, attnum) FROM pg_attribute WHERE attrelid = 'person'::regclass"
    person.sql(CALLS["protect"].replace('["email", "note", "born"]', '{"email": {"search": "exact"}, "note": {}}'))
    person.sql(change)
    assert person.one(f"{told} AND attname = 'email'") == "where mail goes"
    person.sql("INSERT INTO person (id) VALUES (9001)")
    assert person.one("SELECT email FROM person WHERE id = 9001") == "none@x"
