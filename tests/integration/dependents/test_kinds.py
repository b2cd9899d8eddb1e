"""Each kind of dependent comes back alike: text, owner, privileges, comments, options, and what a reader gets."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.dependents.fix_facts import facts
from tests.integration.sql.conftest import shared_db

__all__ = ["shared_db"]

TABLE = """
GRANT CREATE ON SCHEMA public TO alice, owner;
CREATE DOMAIN mail AS text COLLATE "C" CHECK (VALUE <> '');
CREATE TABLE t (id int PRIMARY KEY, a mail, b int, c numeric(8,2) DEFAULT 1);
INSERT INTO t VALUES (1, 'x', 10, 1.5), (2, 'y', 20, NULL), (3, NULL, 10, 3);
ALTER TABLE t OWNER TO owner;
GRANT ALL ON t TO alice WITH GRANT OPTION;
CREATE TABLE o (id int PRIMARY KEY, note text);
INSERT INTO o VALUES (1, 'one'), (2, 'two');
ALTER TABLE o OWNER TO alice;
GRANT ALL ON o TO bob;
SET ROLE alice;
"""
# What alice makes, and the query by which bob sees it.
KINDS = {
    "view": ("CREATE VIEW v AS SELECT id, a AS mail FROM t; GRANT SELECT ON v TO bob", "TABLE v"),
    "view of open columns": (
        "CREATE VIEW v AS SELECT b, count(*) FROM t GROUP BY b; GRANT SELECT ON v TO bob",
        "TABLE v",
    ),
    "count": ("CREATE VIEW v AS SELECT count(*) FROM t; GRANT SELECT ON v TO bob", "TABLE v"),
    "view without columns": ("CREATE VIEW v AS SELECT FROM t; GRANT SELECT ON v TO bob", "SELECT count(*) FROM v"),
    "options": (
        "CREATE VIEW v WITH (security_barrier, check_option = cascaded) AS SELECT * FROM t WHERE b < 15;"
        "CREATE VIEW i WITH (security_invoker = true, security_barrier = false) AS SELECT a FROM t;"
        "GRANT SELECT ON v, i TO bob; GRANT SELECT ON t TO bob",
        "SELECT v.a, i.a FROM v, i",
    ),
    "grants and comments": (
        "CREATE VIEW v (one, two) AS SELECT id, a FROM t; COMMENT ON VIEW v IS 'w'; COMMENT ON COLUMN v.two IS 'n';"
        "GRANT SELECT (two) ON v TO bob; GRANT UPDATE ON v TO PUBLIC; GRANT INSERT ON v TO bob WITH GRANT OPTION;"
        "REVOKE DELETE ON v FROM alice; ALTER VIEW v ALTER one SET DEFAULT 7",
        "SELECT two FROM v",
    ),
    "tower": (
        "CREATE VIEW v AS SELECT id, a, t.* IS NULL AS empty FROM t;"
        "CREATE VIEW w AS SELECT v.a, t.c FROM v JOIN t USING (id);"
        "CREATE VIEW x AS SELECT * FROM w UNION ALL SELECT a, c FROM t; GRANT SELECT ON x TO bob",
        "TABLE x",
    ),
    "with query, whole rows and names": (
        """CREATE VIEW "V ""x" AS WITH t AS (SELECT old.a, to_jsonb(old) AS j FROM t old) SELECT a AS "A b", j,
            (SELECT max(new.a) FROM t new) AS "new" FROM t; GRANT SELECT ON "V ""x" TO bob""",
        'TABLE "V ""x"',
    ),
    "writable view": (
        "CREATE VIEW v AS SELECT id, a, b FROM t WHERE b < 15 WITH LOCAL CHECK OPTION; GRANT ALL ON v TO bob",
        "UPDATE v SET a = a || '!' WHERE id = 1 RETURNING a",
    ),
    "trigger of a view": (
        "CREATE VIEW v AS SELECT id, a FROM t; GRANT ALL ON v TO bob;"
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';"
        "CREATE TRIGGER instead INSTEAD OF DELETE ON v FOR EACH ROW EXECUTE FUNCTION f();"
        "COMMENT ON TRIGGER instead ON v IS 'why'",
        "DELETE FROM v RETURNING a",
    ),
    "rules": (
        "CREATE RULE r AS ON UPDATE TO o WHERE new.note <> old.note DO ALSO"
        " UPDATE t SET a = new.note WHERE id = new.id; COMMENT ON RULE r ON o IS 'keeps t';"
        "CREATE RULE n AS ON DELETE TO o DO INSTEAD NOTHING; ALTER TABLE o DISABLE RULE n;"
        "CREATE VIEW v AS SELECT id FROM o; GRANT ALL ON v TO bob;"
        "CREATE RULE i AS ON INSERT TO v DO INSTEAD INSERT INTO t (id, a) VALUES (new.id, 'by rule')",
        "INSERT INTO v VALUES (9); UPDATE o SET note = 'new' WHERE id = 1; RESET ROLE; SELECT id, a FROM t",
    ),
    "rules of the table itself": (
        "GRANT ALL ON t TO bob; GRANT INSERT ON o TO owner; SET ROLE owner;"
        "CREATE RULE d AS ON DELETE TO t DO ALSO INSERT INTO o VALUES (old.id + 10, old.a);"
        "CREATE RULE i AS ON INSERT TO t WHERE new.b > 50 DO INSTEAD INSERT INTO o VALUES (new.id + 20, new.a);"
        "CREATE RULE u AS ON UPDATE TO t DO ALSO INSERT INTO o VALUES (old.id + 30, old.a || '>' || new.a);"
        "COMMENT ON RULE u ON t IS 'tells'",
        "DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (7, 'in', 1), (8, 'elsewhere', 60);"
        " UPDATE t SET a = 'z' WHERE id = 1; RESET ROLE; SELECT o.id, note, t.a FROM o FULL JOIN t USING (id)",
    ),
    "policies": (
        "ALTER TABLE o ENABLE ROW LEVEL SECURITY; GRANT SELECT ON t TO bob;"
        "CREATE POLICY p ON o FOR UPDATE TO bob USING (id IN (SELECT id FROM t WHERE a = 'x')) WITH CHECK (true);"
        "CREATE POLICY q ON o AS RESTRICTIVE USING (EXISTS (SELECT FROM t WHERE t.id = o.id));"
        "CREATE POLICY r ON o FOR SELECT USING ((SELECT count(b) FROM t) > 0); COMMENT ON POLICY q ON o IS 'both'",
        "UPDATE o SET note = 'mine' RETURNING *",
    ),
    "materialized view": (
        "CREATE MATERIALIZED VIEW m WITH (fillfactor = 70) AS"
        " SELECT b, count(*) AS n, sum(id) AS ids FROM t GROUP BY b;"
        "CREATE UNIQUE INDEX mi ON m (b) INCLUDE (n); CREATE INDEX mx ON m ((n + 1) DESC) WHERE n > 0;"
        "ALTER MATERIALIZED VIEW m CLUSTER ON mi; COMMENT ON INDEX mi IS 'i'; COMMENT ON COLUMN m.n IS 'n';"
        "COMMENT ON MATERIALIZED VIEW m IS 'm'; GRANT SELECT (b, n) ON m TO bob; REVOKE TRUNCATE ON m FROM alice;"
        "ALTER MATERIALIZED VIEW m ALTER n SET STATISTICS 77, ALTER b SET (n_distinct = 3);"
        "CREATE VIEW over AS SELECT * FROM m; GRANT SELECT ON over TO bob;"
        "CREATE MATERIALIZED VIEW empty AS SELECT n FROM over WITH NO DATA;"
        "CREATE MATERIALIZED VIEW full_one AS SELECT max(n) FROM over; GRANT SELECT ON full_one TO bob",
        "SELECT over.*, full_one.* FROM over, full_one",
    ),
    "atomic function": (
        "CREATE FUNCTION f(x int DEFAULT 1, OUT y text) STABLE COST 7 BEGIN ATOMIC SELECT a FROM t WHERE id = x; END;"
        "COMMENT ON FUNCTION f IS 'why'; REVOKE EXECUTE ON FUNCTION f FROM PUBLIC; GRANT EXECUTE ON FUNCTION f TO bob;"
        "ALTER FUNCTION f SET work_mem = '1MB'; ALTER FUNCTION f SECURITY DEFINER;"
        "CREATE PROCEDURE p(x int) BEGIN ATOMIC UPDATE t SET a = 'by p' WHERE id = x; DELETE FROM t WHERE false; END;"
        "CREATE VIEW v AS SELECT f(2) AS f; GRANT SELECT ON v TO bob",
        "SELECT f(), v.f FROM v",
    ),
    "row type": (
        "CREATE FUNCTION f(t) RETURNS text LANGUAGE sql AS 'SELECT $1.a'; GRANT EXECUTE ON FUNCTION f TO bob;"
        "CREATE FUNCTION g(r t[], n int DEFAULT 3) RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS"
        " 'DECLARE x t%ROWTYPE; BEGIN RETURN cardinality(r) + n; END'; COMMENT ON FUNCTION g IS 'counts';"
        "CREATE FUNCTION h() RETURNS SETOF t STABLE SECURITY DEFINER LANGUAGE sql AS 'SELECT * FROM t'"
        " SET search_path = public;"
        "CREATE FUNCTION k(int) RETURNS t STABLE BEGIN ATOMIC SELECT t FROM t WHERE id = $1; END;"
        "CREATE VIEW v AS SELECT f(t) AS f, (k(t.id)).c, g(ARRAY[t]) AS g FROM t; CREATE VIEW w AS SELECT a FROM h();"
        "REVOKE EXECUTE ON FUNCTION g FROM PUBLIC; GRANT SELECT ON v, w TO bob;"
        "CREATE FUNCTION calls(int) RETURNS numeric STABLE SECURITY DEFINER RETURN (k($1)).c",
        "SELECT w.a, calls(1) FROM w",
    ),
    "row type of a materialized view": (
        "CREATE MATERIALIZED VIEW m AS SELECT b, count(*) AS n FROM t GROUP BY b;"
        "CREATE FUNCTION f(m) RETURNS bigint LANGUAGE sql AS 'SELECT $1.n';"
        "CREATE VIEW v AS SELECT f(m) FROM m;"
        "CREATE POLICY p ON o USING (EXISTS (SELECT FROM m WHERE f(m) = o.id)); GRANT SELECT ON v TO bob",
        "TABLE v",
    ),
    "circle": (
        "CREATE FUNCTION f() RETURNS bigint STABLE RETURN 1; CREATE VIEW v AS SELECT a, f() FROM t;"
        "CREATE OR REPLACE FUNCTION f() RETURNS bigint STABLE BEGIN ATOMIC SELECT 1 FROM v WHERE false; END;"
        "GRANT SELECT ON v TO bob",
        "SELECT a FROM v WHERE false",
    ),
}


@pytest.fixture
def db(shared_db: Database) -> Iterator[Database]:
    """What a test makes is rolled back."""
    with shared_db.admin.transaction(force_rollback=True):
        yield shared_db


def seen(db: Database, query: str) -> list[tuple[object, ...]]:
    """What bob gets, and what would change for nobody."""
    with db.admin.transaction(force_rollback=True):
        db.sql("SET LOCAL ROLE bob")
        *statements, last = query.split("; ")
        for statement in statements:
            db.sql(statement)
        return sorted(db.sql(last), key=repr)


@pytest.mark.parametrize("kind", KINDS)
def test_a_dependent_comes_back_alike(db: Database, kind: str) -> None:
    made, query = KINDS[kind]
    db.sql(TABLE + made + "; RESET ROLE")
    before, rows = facts(db), seen(db, query)
    db.sql("""CALL envelope.protect('t', '["a", "c"]')""")
    assert facts(db) == before
    assert seen(db, query) == rows
    db.sql("CALL envelope.unprotect('t')")
    assert facts(db) == before
    assert seen(db, query) == rows


def test_open_columns_need_no_right_to_the_base_table(db: Database) -> None:
    """The reader of a view has its owner's right to the table, which is the view of the protected one by then."""
    db.sql(TABLE + "CREATE VIEW v AS SELECT b FROM t; GRANT SELECT ON v TO bob; RESET ROLE")
    db.sql("""CALL envelope.protect('t', '["a"]')""")
    assert not db.one("SELECT has_table_privilege('alice', 't_encrypted', 'SELECT')")
    assert seen(db, "TABLE v") == [(10,), (10,), (20,)]
    db.sql("REVOKE ALL ON t FROM alice")
    with pytest.raises(psycopg.errors.InsufficientPrivilege), db.admin.transaction():
        seen(db, "TABLE v")


def test_copies_are_kept_on_demand_and_told(db: Database) -> None:
    db.sql(TABLE + "CREATE MATERIALIZED VIEW m AS SELECT a FROM t; GRANT SELECT ON m TO bob; RESET ROLE")
    db.sql("""CALL envelope.protect('t', '["a", "c"]', keep_copies => true)""")
    assert seen(db, "TABLE m") == [("x",), ("y",), (None,)]
    found = db.sql("SELECT state, detail FROM envelope.status() WHERE check_name = 'copies'")
    assert found == [("warning", "materialized views that store decrypted columns: public.m")]
    db.sql("UPDATE t SET a = 'z' WHERE id = 1; REFRESH MATERIALIZED VIEW m")
    assert ("z",) in seen(db, "TABLE m")


def test_what_keeps_columns_from_changing_comes_back_to_the_table(db: Database) -> None:
    """Triggers of single columns and publications of columns; statistics would hold values, and come back later."""
    db.sql(
        TABLE + "RESET ROLE; CREATE TABLE fired (name name);"
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO fired VALUES (TG_NAME); RETURN NEW; END';"
        "CREATE TRIGGER one BEFORE UPDATE OF a, b ON t FOR EACH ROW WHEN (new.b > 0) EXECUTE FUNCTION f('it''s');"
        "CREATE TRIGGER off BEFORE UPDATE OF a ON t FOR EACH ROW EXECUTE FUNCTION f();"
        "ALTER TABLE t DISABLE TRIGGER off; COMMENT ON TRIGGER off ON t IS 'why';"
        "CREATE PUBLICATION parts FOR TABLE t (id, a) WHERE (id > 1);"
        "CREATE STATISTICS s (mcv) ON a, b FROM t; CREATE STATISTICS open ON id, b FROM t"
    )
    triggers = """
        SELECT replace(pg_get_triggerdef(oid), '_encrypted', ''), tgenabled::text, obj_description(oid, 'pg_trigger')
        FROM pg_trigger WHERE tgname IN ('one', 'off') ORDER BY 1"""
    published = "SELECT replace(tablename, '_encrypted', ''), attnames, rowfilter FROM pg_publication_tables"
    statistics = "SELECT stxname, pg_get_statisticsobjdef(oid) FROM pg_statistic_ext ORDER BY 1"
    before = [db.sql(query) for query in (triggers, published, statistics)]
    db.sql("""CALL envelope.protect('t', '["a", "c"]')""")
    assert [db.sql(query) for query in (triggers, published)] == before[:2]
    assert [name for name, _ in db.sql(statistics)] == ["open"]
    db.sql("UPDATE t SET a = 'new' WHERE id = 1")
    assert db.sql("TABLE fired") == [("one",)]
    db.sql("CALL envelope.unprotect('t')")
    assert [db.sql(query) for query in (triggers, published, statistics)] == before


@pytest.mark.parametrize("condition", ["OLD.a <> NEW.a", "NEW.c > 0"])
def test_a_condition_on_a_protected_column_is_refused(db: Database, condition: str) -> None:
    db.sql(
        TABLE + "RESET ROLE; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        f"CREATE TRIGGER cond BEFORE UPDATE OF b ON t FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION f()"
    )
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        db.sql("""CALL envelope.protect('t', '["a", "c"]')""")
    assert "the condition of trigger cond would meet an envelope" in str(refused.value.diag.message_detail)


def test_references_and_truncate_reach_the_base_table(db: Database) -> None:
    """No view can serve them, so their holders have them on the base table."""
    db.sql(TABLE + "RESET ROLE; REVOKE ALL ON t FROM alice; GRANT REFERENCES (id), TRUNCATE ON t TO alice")
    db.sql("""CALL envelope.protect('t', '["a"]'); SET LOCAL ROLE alice""")
    db.sql("CREATE TABLE child (t int REFERENCES t_encrypted (id)); DROP TABLE child; TRUNCATE t_encrypted; RESET ROLE")
    assert db.one("SELECT has_any_column_privilege('alice', 't_encrypted', 'SELECT, INSERT, UPDATE')") is False


def test_under_row_level_security_readers_are_told(db: Database) -> None:
    """Their owner's right counts no more: PostgreSQL asks for the right of the caller. That is less, never more."""
    db.sql(
        TABLE
        + "CREATE VIEW v AS SELECT id FROM t; CREATE VIEW i WITH (security_invoker) AS SELECT id FROM t; RESET ROLE;"
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (b > 15)"
    )
    told: list[tuple[str | None, str | None]] = []
    db.admin.add_notice_handler(lambda found: told.append((found.message_primary, found.message_detail)))
    differences = "SELECT object FROM envelope.plan('t', '[\"a\"]') WHERE detail LIKE 'shows the rows of who asks%%'"
    assert db.sql(differences) == [("view public.v",)]
    db.sql("""CALL envelope.protect('t', '["a"]')""")
    assert [detail for message, detail in told if "rows of who asks" in str(message)] == ["view public.v"]


def test_search_columns_leave_the_views_that_never_used_them(db: Database) -> None:
    """PostgreSQL writes each column of a function's row type into a view, whether the view uses it or not."""
    db.sql(
        TABLE
        + """CREATE FUNCTION rows() RETURNS SETOF t STABLE BEGIN ATOMIC SELECT t FROM t; END; RESET ROLE;
        CREATE INDEX ON t (a); CREATE VIEW v AS SELECT "X y".a FROM rows() "X y", LATERAL rows() WITH ORDINALITY"""
    )
    before = facts(db)
    db.sql("""CALL envelope.protect('t', '["a", "c"]')""")
    db.sql("CREATE VIEW w AS SELECT r.b AS a_search, s.a FROM rows() r (one), rows() s")
    db.sql("CALL envelope.drop_search('t', 'a')")
    assert db.one("SELECT count(*) FROM w") == 9
    db.sql("CALL envelope.unprotect('t'); DROP VIEW w; CREATE INDEX ON t (a)")
    assert facts(db) == before
