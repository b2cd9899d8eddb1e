"""A value that its type's own text does not give back is refused when it is written, not lost until it is read."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database

# A number that is written as its last byte's character, and read as a number.
ODD = """
CREATE TYPE odd;
CREATE FUNCTION odd_in(cstring) RETURNS odd LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
CREATE FUNCTION odd_out(odd) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'charout';
CREATE TYPE odd (INPUT = odd_in, OUTPUT = odd_out, LIKE = int4);
"""
# Type → values that it takes and loses, one that it keeps.
TYPES = {
    "odd": (["49", "50", "65"], None),
    "timestamp(0)": (["294276-12-31 23:59:59.5", "294276-12-31 23:59:59.999999"], "2001-02-03 04:05:06.7"),
    "timestamptz(1)": (["294276-12-31 23:59:59.96+00"], "2001-02-03 04:05:06.789+00"),
    "timestamp(0)[]": ([], "{2001-02-03 04:05:06.7}"),
    "citext": ([], "Ab"),
    "cube": ([], "(0.1,2),(3,4)"),
}


@pytest.mark.parametrize("type_name", TYPES)
def test_it_is_kept_or_refused(db: Database, type_name: str) -> None:
    lost, kept = TYPES[type_name]
    db.sql(f"{ODD}; CREATE EXTENSION citext; CREATE EXTENSION cube")
    db.sql(f"CREATE TABLE plain (id int PRIMARY KEY, v {type_name}); CREATE TABLE t (LIKE plain INCLUDING ALL)")
    db.sql("""CALL envelope.protect('t', '["v"]')""")
    db.sql("INSERT INTO t VALUES (0)")
    for value in lost:
        db.sql(f"INSERT INTO plain VALUES (1, '{value}'); TRUNCATE plain")
        for statement in (f"INSERT INTO t VALUES (1, '{value}')", f"UPDATE t SET v = '{value}'"):
            with pytest.raises(psycopg.Error) as error:
                db.sql(statement)
            assert error.value.sqlstate in ("0A000", "22008", "22P02")
    if kept is not None:
        db.sql(f"INSERT INTO t VALUES (1, '{kept}'); INSERT INTO plain VALUES (1, '{kept}'); UPDATE t SET v = v")
        assert db.one("SELECT ROW(t.v)::record *= ROW(p.v)::record FROM t JOIN plain p USING (id)")
    assert db.one("SELECT v::text FROM t WHERE id = 0") is None
