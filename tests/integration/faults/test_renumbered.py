"""After a dump and restore columns have other numbers: nothing is passed over, and no key in use is destroyed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from stack.postgres import Cluster
from stack.stack import Stack
from tests.fix_stack import Database, Fill
from tests.integration.operations.fix_clusters import run

ROWS = 100
VERSIONS = "SELECT version, state FROM envelope.keys WHERE relation IS NOT NULL ORDER BY version"
OLD = """
SELECT count(*) FROM card_encrypted WHERE substr(number, 1, 6) <> (
    SELECT substr(seal, 17) FROM envelope_private.capability JOIN envelope_private.field f USING (field_uuid)
    WHERE f.attname = 'number')"""
# What stood before the protected column and is gone; with an envelope where the number points to, or another type.
NUMBER = "SELECT attnum FROM pg_attribute WHERE attrelid = 'card_encrypted'::regclass AND attname = 'number'"
# What stood before the protected columns and is gone; what has the old number now is another type, or another envelope.
BEFORE = {
    "dropped columns": (["a text", "b text"], ["number text", "holder text", "place text"]),
    "one dropped": (["a text"], ["number text", "holder text"]),
    "many": ([f"c{i} int" for i in range(20)], ["number text", "holder text", "place text"]),
}


@functools.cache
def fill(what: str) -> Fill:
    def make(db: Database) -> None:
        gone, kept = BEFORE[what]
        db.sql(f"CREATE TABLE card (id int PRIMARY KEY, {', '.join([*gone, *kept])})")
        db.sql("".join(f"ALTER TABLE card DROP {column.split()[0]};" for column in gone))
        db.sql(f"INSERT INTO card (id, number, holder) SELECT i, 'n' || i, 'h' || i FROM generate_series(1, {ROWS}) i")
        db.sql("""CALL envelope.protect('card', '["number", "holder"]')""")

    return make


@pytest.fixture(params=BEFORE)
def restored(
    request: pytest.FixtureRequest,
    filled: Callable[[Fill], Database],
    other_cluster: Cluster,
    empty_database: Callable[[str], str],
    tmp_path: Path,
) -> Iterator[psycopg.Connection]:
    """card (id, ..., number, holder, ...) with key version 1, of which no column has its number any more.

    These tests destroy no key, so all are restored from copies.
    """
    db = filled(fill(request.param))
    dump = tmp_path / "dump"
    run(db.stack.cluster, db.name, "pg_dump", "--format=custom", "--file", dump)
    name = empty_database("renumbered")
    run(other_cluster, name, "pg_restore", "--exit-on-error", "--dbname", name, dump)
    with other_cluster.connect(name) as session:
        assert session.execute(NUMBER).fetchone() != (db.one(NUMBER),)
        yield session


def readable(session: psycopg.Connection) -> bool:
    found = session.execute("SELECT id, number, holder FROM card ORDER BY id").fetchall()
    return found == [(i, f"n{i}", f"h{i}") for i in range(1, ROWS + 1)]


def works(session: psycopg.Connection, statement: str) -> bool:
    """False for a refusal; no other error passes."""
    try:
        session.execute(statement)
    except psycopg.errors.ObjectNotInPrerequisiteState:
        return False
    return True


def test_reencrypt_does_all_or_refuses(restored: psycopg.Connection) -> None:
    restored.execute("SELECT envelope.rotate('card')")
    done = works(restored, "CALL envelope.reencrypt('card')")
    assert (restored.execute(OLD).fetchone() == (0,)) is done
    assert (restored.execute("SELECT count(*) FROM envelope.receipts").fetchone() == (1,)) is done
    assert readable(restored)


def test_retire_never_takes_a_key_that_is_needed(restored: psycopg.Connection) -> None:
    restored.execute("SELECT envelope.rotate('card')")
    with pytest.raises((psycopg.errors.ObjectInUse, psycopg.errors.ObjectNotInPrerequisiteState)):
        restored.execute("CALL envelope.retire('card', 1)")
    assert restored.execute(VERSIONS).fetchall() == [(1, "decrypt-only"), (2, "active")]
    assert readable(restored)


def test_verify_looks_at_all_or_refuses(restored: psycopg.Connection) -> None:
    if works(restored, "CALL envelope.verify('card')"):
        found = "SELECT value_count, fault_count FROM envelope.verifications"
        assert restored.execute(found).fetchone() == (2 * ROWS, 0)


def test_unprotect_opens_all_or_refuses(restored: psycopg.Connection) -> None:
    works(restored, "CALL envelope.unprotect('card')")
    assert readable(restored)


LOST = {
    "renamed": "ALTER TABLE card_encrypted RENAME number TO digits",
    "dropped": "ALTER TABLE card_encrypted DROP number CASCADE",
    "made again": "ALTER TABLE card_encrypted DROP number CASCADE; ALTER TABLE card_encrypted ADD number text",
    "exchanged": "ALTER TABLE card_encrypted RENAME number TO x; ALTER TABLE card_encrypted RENAME plain TO number",
}


def fill_one(db: Database) -> None:
    db.sql("CREATE TABLE card (id int PRIMARY KEY, number text, holder text, plain text)")
    db.sql("INSERT INTO card VALUES (1, 'n', 'h', 'p')")
    db.sql("""CALL envelope.protect('card', '["number", "holder"]')""")
    db.sql("SELECT envelope.rotate('card')")


@pytest.mark.parametrize("how", LOST)
@pytest.mark.parametrize(
    "call",
    [f"CALL envelope.{call}" for call in ("retire('{0}', 1)", "reencrypt('{0}')", "verify('{0}')")],
    ids=["retire", "reencrypt", "verify"],
)
def test_a_column_that_is_not_found_stops_it(filled: Callable[[Fill], Database], how: str, call: str) -> None:
    db = filled(fill_one)
    # As in a restore: otherwise the table would follow at once.
    db.sql(f"SET check_function_bodies = off; {LOST[how]}; RESET check_function_bodies")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as caught:
        db.sql(call.format("card_encrypted"))
    assert "number" in (caught.value.diag.message_detail or "")
    assert db.sql("SELECT version, state FROM envelope.keys WHERE relation IS NOT NULL OR name IS NULL ORDER BY 1") == [
        (1, "decrypt-only"),
        (2, "active"),
    ]
    states = dict(db.sql("SELECT check_name, state FROM envelope.status()"))
    assert "failed" in (states["columns"], states["plaintext"], states["writes"])


def test_a_table_that_was_dropped_and_made_again(db: Database, stack: Stack, tmp_path: Path) -> None:
    """Restored alone, without the key catalog: the catalog knows nothing of the new table."""
    db.sql("CREATE TABLE card (id int PRIMARY KEY, gone int, number text)")
    db.sql("ALTER TABLE card DROP gone")
    db.sql("INSERT INTO card VALUES (1, 'n')")
    db.sql("""CALL envelope.protect('card', '["number"]')""")
    db.sql("SELECT envelope.rotate('card')")
    dump = tmp_path / "dump"
    run(stack.cluster, db.name, "pg_dump", "--format=custom", "--file", dump)
    db.sql("DROP TABLE card_encrypted CASCADE")
    run(stack.cluster, db.name, "pg_restore", "--table=card_encrypted", "--dbname", db.name, dump)
    for call in ("CALL envelope.retire('card_encrypted', 1)", "CALL envelope.reencrypt('card_encrypted')"):
        with pytest.raises(psycopg.errors.UndefinedObject):
            db.sql(call)
    assert db.sql("SELECT version, state FROM envelope.keys WHERE name IS NULL ORDER BY 1") == [
        (1, "decrypt-only"),
        (2, "active"),
    ]
