"""envelope.plan() and dry_run tell what protect() would do, and leave everything as it was."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.sql.test_refusals import snapshot

TABLE = """
CREATE TABLE t (id int PRIMARY KEY, a text CHECK (a <> ''), b int, e text);
INSERT INTO t SELECT n, 'value ' || n, n FROM generate_series(1, 1000) n;
CREATE VIEW v AS SELECT a FROM t; CREATE MATERIALIZED VIEW m AS SELECT count(b) FROM t; CREATE INDEX i ON t (a);
CREATE FUNCTION f(t) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE STATISTICS s ON a, b FROM t;
CREATE PUBLICATION news FOR TABLE t;
"""
PLAN = """SELECT step, object, detail FROM envelope.plan('t', '["a"]')"""


@pytest.fixture
def planned(db: Database) -> Database:
    db.sql(TABLE)
    return db


def test_the_plan_has_every_part(planned: Database) -> None:
    found = planned.sql(PLAN)
    by_step = {step: [(of, detail) for at, of, detail in found if at == step] for step, _, _ in found}
    assert [of for of, _ in by_step["lock"]][-1] == '"public"."t"'
    assert {of for of, _ in by_step["lock"]} == {"public.v", "public.m", '"public"."t"'}
    assert by_step["rows"] == [('"public"."t"', "1,000")]
    assert "written again" in by_step["bytes"][0][1]
    assert "about 0.0 s" in by_step["time"][0][1]
    assert {of for of, _ in by_step["dependent"]} == {
        "view public.v",
        "materialized view public.m",
        "function public.f(public.t)",
    }
    assert {of for of, _ in by_step["difference"]} == {
        "i",
        "a_search",
        "s",
        "materialized view public.m",
        "publication news",
    }
    statements = "\n".join(detail for _, detail in by_step["statement"])
    for part in (
        "DROP CONSTRAINT",
        "TYPE envelope.ciphertext",
        "RENAME TO",
        "DROP MATERIALIZED VIEW",
        "DROP STATISTICS",
    ):
        assert part in statements
    assert "obstacle" not in by_step


def test_nothing_is_changed_and_no_lock_stays(planned: Database) -> None:
    planned.sql("ANALYZE")
    before, keys = snapshot(planned), planned.one("SELECT count(*) FROM envelope.keys")
    with planned.admin.transaction():
        planned.sql(PLAN)
        planned.sql("""CALL envelope.protect('t', '["a"]', dry_run => true)""")
        planned.connect().execute("SET lock_timeout = '1s'; INSERT INTO t VALUES (0, 'y')")
    assert snapshot(planned) == before
    assert planned.one("SELECT count(*) FROM envelope.keys") == keys


def test_dry_run_prints_the_plan(planned: Database) -> None:
    told: list[str | None] = []
    planned.admin.add_notice_handler(lambda found: told.append(found.message_primary))
    planned.sql("""CALL envelope.protect('t', '["a"]', dry_run => true)""")
    assert [f"{step}: {of}: {detail}" for step, of, detail in planned.sql(PLAN)] == told


def test_obstacles_are_rows(planned: Database) -> None:
    planned.sql("CREATE VIEW g AS SELECT id, b FROM t GROUP BY id; CREATE INDEX up ON t (upper(e))")
    rows = planned.sql("""SELECT object, detail FROM envelope.plan('t', '["a", "e"]') WHERE step = 'obstacle'""")
    assert [of for of, _ in rows] == ['"public"."t"', "e"]
    assert "GROUP BY" in rows[0][1]
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        planned.sql("""SELECT * FROM envelope.plan('t', '["nope"]')""")


def test_only_a_superuser_plans(planned: Database) -> None:
    """The grants are not enough, as with protect()."""
    planned.sql("ALTER TABLE t OWNER TO owner; GRANT EXECUTE ON FUNCTION envelope.plan TO owner")
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
        planned.sql(PLAN, user="owner")
    assert "plan()" in str(refused.value)
