"""Readers of a dependent wait while a table is protected, and none of them is ended for it."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.dependents.fix_facts import facts
from tests.integration.sql.test_concurrency import in_background, wait_for_lock

QUERIES = ("TABLE above", "TABLE m", "TABLE o", "SELECT count(*) FROM t")


@pytest.fixture
def towered(db: Database) -> Database:
    db.sql(
        "CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t SELECT n, 'x' || n FROM generate_series(1, 50) n"
    )
    db.sql("CREATE VIEW v AS SELECT a FROM t; CREATE VIEW above AS SELECT v.a FROM v JOIN t USING (a)")
    db.sql("CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM t")
    db.sql("CREATE TABLE o (id int); ALTER TABLE o ENABLE ROW LEVEL SECURITY")
    db.sql("CREATE POLICY p ON o USING (EXISTS (SELECT FROM t)); GRANT SELECT ON o, t, v, above, m TO alice")
    return db


def test_a_dependent_in_use_is_named(towered: Database) -> None:
    before = facts(towered)
    with towered.connect() as other:
        other.execute("BEGIN; REFRESH MATERIALIZED VIEW m; COMMIT; BEGIN; TABLE m")
        towered.sql("SET lock_timeout = '100ms'")
        for call in ("CALL envelope.protect('t', '[\"a\"]')", "SELECT * FROM envelope.plan('t', '[\"a\"]')"):
            with pytest.raises(psycopg.errors.LockNotAvailable) as refused:
                towered.sql(call)
            assert "public.m" in str(refused.value.diag.message_detail)
    assert facts(towered) == before
    towered.sql("""CALL envelope.protect('t', '["a"]')""")


@pytest.mark.parametrize("query", QUERIES)
def test_a_reader_goes_on_after_it_has_waited(towered: Database, query: str) -> None:
    reader = towered.connect("alice")
    expected = sorted(reader.execute(query).fetchall())
    for call in ("""CALL envelope.protect('t', '["a"]')""", "CALL envelope.unprotect('t')"):
        with towered.admin.transaction():
            towered.sql(call)
            thread, outcome = in_background(lambda: sorted(reader.execute(query).fetchall()))
            wait_for_lock(towered, reader)
        thread.join()
        assert outcome == [expected]
