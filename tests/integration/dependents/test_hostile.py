"""Who may make a view over a table lays traps for who protects it: their code runs with their own rights only."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.sql.test_hostile_owner import TRAP

# Reading the literal runs the CHECK of a domain, and so code of the role that wrote it.
LITERAL = "'(a)'::nest"
DEPENDENTS = {
    "view": f"CREATE VIEW v AS SELECT a, {LITERAL} AS trap FROM t",
    "materialized view": f"CREATE MATERIALIZED VIEW m AS SELECT b, {LITERAL} IS NULL AS trap FROM t;"
    f"CREATE INDEX ON m (({LITERAL} IS NULL)) WHERE {LITERAL} IS NULL",
    "rule": f"CREATE RULE r AS ON INSERT TO mine WHERE {LITERAL} IS NOT NULL DO ALSO DELETE FROM t",
    "policy": f"ALTER TABLE mine ENABLE ROW LEVEL SECURITY;"
    f"CREATE POLICY p ON mine USING ({LITERAL} IS NOT NULL AND EXISTS (SELECT FROM t))",
    "function": f"CREATE FUNCTION f(x nest DEFAULT {LITERAL}) RETURNS int STABLE"
    f" BEGIN ATOMIC SELECT id FROM t WHERE {LITERAL} IS NULL; END",
    "row type": f"CREATE FUNCTION f(t, x nest DEFAULT {LITERAL}) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "row type and body": f"CREATE FUNCTION f() RETURNS t STABLE"
    f" BEGIN ATOMIC SELECT t FROM t WHERE {LITERAL} IS NULL; END",
}
CALLS = (
    """SELECT * FROM envelope.plan('t', '["a"]')""",
    """CALL envelope.protect('t', '["a"]', dry_run => true)""",
    """CALL envelope.protect('t', '["a"]')""",
    "CALL envelope.refresh('t')",
    "CALL envelope.unprotect('t')",
)
# The trap of somebody who may not create in the schema, while the package lets them put their own object back.
SNEAKS = """
CREATE OR REPLACE FUNCTION trap(value text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'CREATE FUNCTION public.sneaked() RETURNS int LANGUAGE sql AS ''SELECT 1''';
    RETURN true;
EXCEPTION WHEN insufficient_privilege OR duplicate_function THEN RETURN true;
END $$"""


@pytest.fixture
def trapped(db: Database) -> Database:
    """A table of `owner`, and alice, who may create in its schema and read it."""
    db.sql("GRANT CREATE ON SCHEMA public TO alice")
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text, b int); INSERT INTO t VALUES (1, 'x', 2), (2, 'y', 3)")
    db.sql("ALTER TABLE t OWNER TO owner; GRANT ALL ON t TO alice")
    # In a session of the superuser the trap would be one at once.
    db.sql(f"{TRAP} CREATE TABLE mine (id int)", user="alice")
    return db


@pytest.mark.parametrize("kind", DEPENDENTS)
def test_code_of_a_dependent_runs_with_its_owner_s_rights(trapped: Database, kind: str) -> None:
    trapped.sql(DEPENDENTS[kind], user="alice")
    trapped.sql("TRUNCATE seen, later")
    for call in CALLS:
        trapped.sql(call)
    assert {who for (who,) in trapped.sql("SELECT DISTINCT who FROM seen")} == {"alice"}
    assert trapped.sql("SELECT rolname FROM pg_roles WHERE rolsuper") == [("postgres",)]
    assert trapped.sql("SELECT id, a, b FROM t ORDER BY id") == [(1, "x", 2), (2, "y", 3)]


# PostgreSQL asks nobody for the right to create, who changes a part of a relation of his own.
PARTS = {"rule", "policy"}


@pytest.mark.parametrize("kind", sorted(DEPENDENTS.keys() - PARTS))
def test_a_lent_right_makes_nothing_else(trapped: Database, kind: str) -> None:
    sneak(trapped, kind)
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        trapped.sql("""CALL envelope.protect('t', '["a"]')""")
    assert "changed the session of its caller" in str(refused.value.diag.message_detail)
    assert_nothing_sneaked(trapped)


@pytest.mark.parametrize("kind", sorted(PARTS))
def test_parts_of_relations_need_no_right_to_create(trapped: Database, kind: str) -> None:
    sneak(trapped, kind)
    trapped.sql("""CALL envelope.protect('t', '["a"]')""")
    assert_nothing_sneaked(trapped)


def sneak(trapped: Database, kind: str) -> None:
    trapped.sql(DEPENDENTS[kind], user="alice")
    trapped.sql(SNEAKS, user="alice")
    trapped.sql("REVOKE CREATE ON SCHEMA public FROM alice")


def assert_nothing_sneaked(trapped: Database) -> None:
    assert not trapped.sql("SELECT proname FROM pg_proc WHERE proname = 'sneaked'")
    assert not trapped.one("SELECT has_schema_privilege('alice', 'public', 'CREATE')")
    assert trapped.sql("SELECT id, a FROM t ORDER BY id") == [(1, "x"), (2, "y")]


HARMLESS = """
CREATE FUNCTION trap(value text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
CREATE DOMAIN sly AS text CHECK (public.trap(VALUE));
CREATE TYPE nest AS (inner_value sly);
CREATE FUNCTION trap_later(value text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true'"""


@pytest.mark.parametrize("kind", DEPENDENTS)
def test_a_literal_of_another_role_s_type_is_not_read_again(db: Database, kind: str) -> None:
    """The type was harmless when a superuser used it. Its owner has given it another check since."""
    db.sql("GRANT CREATE ON SCHEMA public TO alice; CREATE TABLE mine (id int)")
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text, b int); INSERT INTO t VALUES (1, 'x', 2), (2, 'y', 3)")
    db.sql(HARMLESS, user="alice")
    db.sql(DEPENDENTS[kind])
    db.sql(SNEAKS, user="alice")
    (obstacles,) = db.sql(f"SELECT string_agg(detail, ', ') FROM ({CALLS[0]}) AS plan WHERE step = 'obstacle'")
    assert "has a literal of type public.nest, and reading it would run code of alice" in obstacles[0]
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        db.sql("""CALL envelope.protect('t', '["a"]')""")
    assert not db.sql("SELECT proname FROM pg_proc WHERE proname = 'sneaked'")
