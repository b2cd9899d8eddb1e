"""A database in which many keys were made: the ids of new keys need all four bytes of an envelope's header."""

from __future__ import annotations

import pytest

from tests.fix_stack import Database

MOST = 2**32 - 1
# The last id before each byte of the header that comes into use, and the last ids that there are.
LAST_SMALL = (2**8 - 2, 2**16 - 2, 2**24 - 2, 2**31 - 2, MOST - 500)
CHANGED = (
    "SELECT envelope.rotate('visit'); CALL envelope.reencrypt('visit')",
    "CALL envelope.rotate_emergency('visit', 'test', 'ann')",
    "CALL envelope.rotate_emergency('visit', 'test')",
)
STALE = "SELECT count(*) FROM visit_encrypted WHERE envelope.is_stale(note)"
RETIRED = "SELECT count(*) FROM visit_encrypted WHERE envelope_internal.is_retired(note)"
KEY_IDS = "SELECT min(key_id), max(key_id) FROM envelope_private.field_key"
NOTES = "SELECT id, note FROM visit ORDER BY id"
READABLE = "SELECT id, note FROM visit WHERE person = 'ben' ORDER BY id"
ROWS = [(1, "one"), (2, "two"), (3, "three")]


def people(db: Database, scope: str, last: int) -> None:
    """visit (id, person, note), protected after `last` key ids were drawn."""
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, person text NOT NULL, note text)")
    db.sql("SELECT setval('envelope_private.key_id_seq', %s)", last)
    db.sql("""CALL envelope.protect('visit', '["note"]', scope => %s, scope_column => 'person')""", scope)
    db.sql("INSERT INTO visit VALUES (1, 'ann', 'one'), (2, 'ben', 'two'), (3, 'ann', 'three')")


def run(db: Database, statements: str) -> None:
    for statement in statements.split("; "):
        db.sql(statement)


@pytest.mark.parametrize("last", LAST_SMALL)
@pytest.mark.parametrize("scope", ["tenant", "subject"])
def test_a_key_lives_as_any_other(db: Database, scope: str, last: int) -> None:
    people(db, scope, last)
    for statement in CHANGED:
        run(db, statement)
        assert (db.one(STALE), db.one(RETIRED), db.sql(NOTES)) == (0, 0, ROWS), statement
    db.sql("SELECT envelope.rotate('visit', 'ann')")
    assert (db.one(STALE), db.one(RETIRED), db.sql(NOTES)) == (2, 2, ROWS)
    lowest, highest = db.sql(KEY_IDS)[0]
    assert last < lowest < highest <= MOST
    db.sql("UPDATE visit SET note = note || '!'")
    assert (db.one(STALE), db.one(RETIRED)) == (0, 0)
    db.sql("CALL envelope.verify('visit')")


@pytest.mark.parametrize("last", LAST_SMALL)
def test_an_erased_person_stays_erased(db: Database, last: int) -> None:
    people(db, "subject", last)
    db.sql("CALL envelope.shred('visit', 'ann', 'test')")
    assert db.sql(READABLE) == [(2, "two")]
    assert (db.one(STALE), db.one(RETIRED)) == (0, 2)


@pytest.mark.parametrize("last", LAST_SMALL)
def test_a_column_for_all(db: Database, last: int) -> None:
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, note text)")
    db.sql("SELECT setval('envelope_private.key_id_seq', %s)", last)
    db.sql("""CALL envelope.protect('visit', '["note"]')""")
    db.sql("INSERT INTO visit VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    for statement in (CHANGED[0], CHANGED[2], "SELECT envelope.rotate_field('visit', 'note')"):
        assert (db.one(STALE), db.sql(NOTES)) == (0, ROWS)
        run(db, statement)
    assert (db.one(STALE), db.sql(NOTES)) == (3, ROWS)


def test_the_very_last(db: Database) -> None:
    people(db, "tenant", MOST - 30)
    with pytest.raises(Exception, match="all key ids of this database are used") as failed:
        db.sql("INSERT INTO visit SELECT i, 'p' || i, 'n' FROM generate_series(4, 80) i")
    assert getattr(failed.value, "sqlstate", None) == "54000"
    assert db.sql(NOTES) == ROWS
