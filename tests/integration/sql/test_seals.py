"""The seals of a table, which its triggers read in one row: as new as the key catalog, and nobody else's."""

from __future__ import annotations

import json

import pytest

from tests.fix_stack import Database

KEY_IDS = "SELECT id, get_byte(substr(note, 3), 3) FROM memo_encrypted ORDER BY id"
SEALS = "SELECT format('envelope_private.seal_%s', replace(key_uuid::text, '-', '')) FROM envelope_private.key"


@pytest.fixture
def memo(db: Database) -> Database:
    db.sql("CREATE TABLE memo (id int PRIMARY KEY, note text, code text)")
    db.sql("""CALL envelope.protect('memo', '["note", "code"]')""")
    return db


def test_a_rotation_counts_from_the_next_write_also_in_a_transaction(memo: Database) -> None:
    with memo.connect(autocommit=False) as writer:
        for number in range(1, 8):
            writer.execute("INSERT INTO memo VALUES (%s, 'a', 'b')", [number], prepare=True)
        memo.sql("SELECT envelope.rotate_field('memo', 'note')")
        writer.execute("INSERT INTO memo VALUES (8, 'a', 'b')", prepare=True)
        writer.execute("UPDATE memo SET note = 'c' WHERE id = 1")
        writer.commit()
    ids = dict(memo.sql(KEY_IDS))
    assert ids[1] == ids[8] > ids[2] == ids[7]
    assert memo.sql("SELECT DISTINCT substr(code, 1, 6) FROM memo_encrypted") != []
    assert memo.one("SELECT count(DISTINCT substr(code, 1, 6)) FROM memo_encrypted") == 1


def test_a_rotation_that_is_rolled_back_leaves_the_old_seal(memo: Database) -> None:
    with memo.connect(autocommit=False) as other:
        other.execute("SELECT envelope.rotate('memo')")
        other.execute("INSERT INTO memo VALUES (1, 'a', 'b')")
        other.rollback()
    memo.sql("INSERT INTO memo VALUES (2, 'a', 'b')")
    assert memo.sql("SELECT note, code FROM memo") == [("a", "b")]
    assert memo.one("SELECT count(*) FROM memo_encrypted WHERE envelope.is_stale(note)") == 0


def test_after_a_crash_which_empties_it_writes_go_on(memo: Database) -> None:
    memo.sql(f"TRUNCATE {memo.one(SEALS)}")
    memo.sql("INSERT INTO memo VALUES (1, 'a', 'b'), (2, NULL, 'c')")
    memo.sql("UPDATE memo SET note = 'd' WHERE id = 1")
    assert memo.sql("TABLE memo ORDER BY id") == [(1, "d", "b"), (2, None, "c")]
    memo.sql("SELECT envelope.rotate('memo')")
    memo.sql("INSERT INTO memo VALUES (3, 'e', 'f')")
    assert memo.one("SELECT count(*) FROM memo_encrypted WHERE envelope.is_stale(code)") == 2
    memo.sql("CALL envelope.refresh('memo')")
    assert memo.one(f"SELECT count(*) FROM {memo.one(SEALS)}") == 1
    memo.sql("INSERT INTO memo VALUES (4, 'g', 'h')")
    assert memo.sql("SELECT note, code FROM memo WHERE id > 2 ORDER BY id") == [("e", "f"), ("g", "h")]


def test_no_publication_has_it(memo: Database) -> None:
    memo.sql("CREATE PUBLICATION everything FOR ALL TABLES")
    assert memo.one("SELECT count(*) FROM pg_publication_tables WHERE tablename LIKE 'seal%%'") == 0
    assert memo.one("SELECT count(*) FROM pg_publication_tables WHERE tablename = 'memo_encrypted'") == 1


def test_new_capabilities_reach_the_seals(memo: Database) -> None:
    before = memo.sql(f"TABLE {memo.one(SEALS)}")
    memo.sql("SELECT envelope.renew_capabilities()")
    assert memo.sql(f"TABLE {memo.one(SEALS)}") != before
    memo.sql("INSERT INTO memo VALUES (1, 'a', 'b')")
    assert memo.sql("TABLE memo") == [(1, "a", "b")]


def test_they_go_with_the_protection(memo: Database) -> None:
    seals = memo.one(SEALS)
    memo.sql("CALL envelope.unprotect('memo')")
    assert memo.one(f"SELECT to_regclass('{seals}')") is None


@pytest.mark.parametrize("count", [300, 301])
def test_as_many_columns_as_fit_into_a_row_and_one_more(db: Database, count: int) -> None:
    names = [f"c{number}" for number in range(count)]
    db.sql(f"CREATE TABLE wide (id int PRIMARY KEY, {', '.join(f'{name} text' for name in names)})")
    db.sql("CALL envelope.protect('wide', %s::jsonb)", json.dumps(names))
    assert (db.one(f"SELECT to_regclass('{db.one(SEALS)}')") is None) == (count > 300)
    db.sql(f"INSERT INTO wide (id, c0, c{count - 1}) VALUES (1, 'first', 'last')")
    assert db.sql(f"SELECT c0, c{count - 1} FROM wide") == [("first", "last")]
