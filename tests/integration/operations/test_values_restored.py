"""Values of every kind, with casts of a user's own beside them, after pg_dump and pg_restore into another cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stack.postgres import Cluster
from tests.fix_stack import Database

from .fix_clusters import run

# Each cast gives something else than the value; the dump makes them before the views that must not use them.
SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'NULL');
CREATE TYPE addr AS (street text, moods mood[]);
CREATE TYPE span AS RANGE (subtype = mood);
CREATE FUNCTION word(mood) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'word' $$;
CREATE FUNCTION place(text) RETURNS addr LANGUAGE sql IMMUTABLE AS $$ SELECT NULL::addr $$;
CREATE CAST (mood AS text) WITH FUNCTION word(mood);
CREATE CAST (text AS addr) WITH FUNCTION place(text) AS ASSIGNMENT;
CREATE TABLE plain (id int, m mood, who mood NOT NULL, a addr, l mood[], s span, d xml, t timestamptz,
    PRIMARY KEY (id, m));
INSERT INTO plain VALUES
    (1, 'sad', 'NULL', ROW('x, "y"', '{sad,NULL,"NULL"}'), '{"NULL",NULL}', '[sad,NULL]', '<?xml version="1.0"?><a/>',
        now()),
    (2, 'NULL', 'sad', ROW(NULL, NULL), '{}', 'empty', 'text', 'infinity');
CREATE TABLE sealed (LIKE plain INCLUDING ALL);
INSERT INTO sealed TABLE plain
"""
# Without the xml: a dump of the plain table drops its declaration.
DIFFERENT = """
SELECT count(*) FROM plain p FULL JOIN sealed s USING (id)
WHERE s.id IS NULL OR NOT ROW(s.m, s.who, s.a, s.l, s.s, s.t)::record *= ROW(p.m, p.who, p.a, p.l, p.s, p.t)::record"""


def test_values_come_back_from_a_dump(
    db: Database, other_cluster: Cluster, empty_database: Callable[[str], str], tmp_path: Path
) -> None:
    db.sql(SCHEMA)
    db.sql("""CALL envelope.protect('sealed', '["a","l","s","d","t"]', scope => 'subject', scope_column => 'who')""")
    dump, target = tmp_path / "dump", empty_database("restored_values")
    run(db.stack.cluster, db.name, "pg_dump", "--format=custom", "--file", dump)
    run(other_cluster, target, "pg_restore", "--exit-on-error", "--dbname", target, dump)
    with other_cluster.connect(target) as connection:
        connection.execute("SET array_nulls = off")
        assert connection.execute(DIFFERENT).fetchall() == [(0,)]
        xml = connection.execute("SELECT d::text FROM sealed ORDER BY id").fetchall()
        assert xml == [('<?xml version="1.0"?><a/>',), ("text",)]
        connection.execute("UPDATE sealed SET id = id + 10; UPDATE plain SET id = id + 10")
        assert connection.execute(DIFFERENT).fetchall() == [(0,)]
