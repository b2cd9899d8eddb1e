"""Statements of applications that a view takes in another way than a table: docs/protected-tables.md has each."""

from __future__ import annotations

import pytest

from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure

MADE = """
CREATE TABLE t (id serial PRIMARY KEY, login text UNIQUE, s text);
INSERT INTO t (login, s) VALUES ('a', 'A'), ('b', 'B');
CALL envelope.protect('t', '["s"]')"""
REFUSED = {
    "INSERT INTO t (login, s) VALUES ('a', 'x') ON CONFLICT (login) DO UPDATE SET s = excluded.s": "42P10",
    "INSERT INTO t (login, s) VALUES ('a', 'x') ON CONFLICT (login) DO NOTHING": "42P10",
    "SELECT id, login, count(*) FROM t GROUP BY id": "42803",
    "BEGIN; DECLARE c CURSOR FOR SELECT * FROM t; FETCH c; UPDATE t SET s = 'x' WHERE CURRENT OF c": "0A000",
    "TRUNCATE t": "42809",
    "SELECT ctid FROM t": "42703",
    "COPY t TO STDOUT": "42809",
}
WORKS = {
    "SELECT id, login, count(*) FROM t GROUP BY id, login ORDER BY id": [(1, "a", 1), (2, "b", 1)],
    "SELECT pg_get_serial_sequence('t', 'id')": [(None,)],
    "SELECT pg_get_serial_sequence('t_encrypted', 'id')": [("public.t_id_seq",)],
    "INSERT INTO t (login, s) VALUES ('c', 'C') RETURNING id = lastval(), id = currval('t_id_seq')": [(True, True)],
    "SELECT s FROM t WHERE id = 1 FOR UPDATE": [("A",)],
}


@pytest.mark.parametrize("statement", REFUSED)
def test_it_is_refused(db: Database, statement: str) -> None:
    db.sql(MADE)
    assert failure(db.connect(), statement)[0] == REFUSED[statement]


def test_it_works(db: Database) -> None:
    db.sql(MADE)
    for statement, rows in WORKS.items():
        assert db.sql(statement) == rows, statement


def test_lock_table_locks_the_view_and_the_base_table(db: Database) -> None:
    db.sql(MADE)
    held = "SELECT relation::regclass::text FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'ExclusiveLock'"
    db.sql("BEGIN; LOCK TABLE t IN EXCLUSIVE MODE")
    assert set(db.sql(f"{held} AND locktype = 'relation'")) == {("t",), ("t_encrypted",)}
    db.sql("ROLLBACK")
