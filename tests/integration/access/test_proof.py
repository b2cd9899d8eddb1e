"""What a proof of access() meets: code of others runs with nobody's rights but those that its author has already."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.fix_elevation import ELEVATE
from tests.fix_stack import Database

CODE = (
    ELEVATE
    + """
CREATE FUNCTION tries(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
    'BEGIN PERFORM public.elevate(); RETURN $1; END';
CREATE OPERATOR ~~~ (RIGHTARG = text, FUNCTION = tries);
CREATE SEQUENCE leak;
GRANT ALL ON leak TO public;
CREATE TABLE note (id int PRIMARY KEY, body text);
INSERT INTO note VALUES (1, 'of the owner');
"""
)
POLICY = "ALTER TABLE note ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON note USING ({})"
# By name: what the owner does before the table is protected, and after it. `{view}` is the query of the view.
PLANTED = {
    "function of a policy": (POLICY.format("tries('x') IS NOT NULL"), ""),
    "operator of a policy": (POLICY.format("(~~~ 'x'::text) IS NOT NULL"), ""),
    "function in a sub-select of a policy": (
        "CREATE VIEW mine AS SELECT tries('x') AS x; GRANT SELECT ON mine TO public;"
        + POLICY.format("EXISTS (SELECT FROM mine WHERE x IS NOT NULL)"), ""
    ),
    "volatile function of PostgreSQL in a policy": (POLICY.format("setval('public.leak', 7) > 0"), ""),
    "materialized view in a policy": (
        "CREATE MATERIALIZED VIEW mine AS SELECT 1 AS x; GRANT SELECT ON mine TO public;"
        + POLICY.format("EXISTS (SELECT FROM mine)"), ""
    ),
    "domain": ("CREATE DOMAIN sly AS text CHECK (tries(VALUE) IS NOT NULL); ALTER TABLE note ALTER body TYPE sly", ""),
    "domain that has no code yet": ("CREATE DOMAIN sly AS text; ALTER TABLE note ALTER body TYPE sly", ""),
    "domain in a domain": (
        "CREATE DOMAIN sly AS text CHECK (tries(VALUE) IS NOT NULL); CREATE DOMAIN sweet AS sly;"
        "ALTER TABLE note ALTER body TYPE sweet", ""
    ),
    "expression of an index": ("", "CREATE INDEX ON note_encrypted ((tries('x')))"),
    "condition of an index": ("", "CREATE INDEX ON note_encrypted (id) WHERE tries('x') IS NOT NULL"),
    "expression of statistics": ("", "CREATE STATISTICS s ON (tries('x')), id FROM note_encrypted"),
    "constraint": ("ALTER TABLE note ADD CHECK (tries('x') IS NOT NULL)", ""),
    "the view": ("", "CREATE OR REPLACE VIEW note AS {view} WHERE tries('x') IS NOT NULL"),
    "volatile function of PostgreSQL in the view": (
        "", "CREATE OR REPLACE VIEW note AS {view} WHERE setval('public.leak', 7) > 0"
    ),
    "aggregate in the view": (
        "CREATE FUNCTION more(text, text) RETURNS text LANGUAGE sql AS 'SELECT public.tries($1)';"
        "CREATE AGGREGATE all_of(text) (SFUNC = more, STYPE = text)",
        "CREATE OR REPLACE VIEW note AS {view} WHERE (SELECT all_of('x')) IS NULL",
    ),
}  # fmt: skip
# The code of PostgreSQL and of the superuser harms nobody.
HARMLESS = {
    "nothing": "",
    "policy by the role": POLICY.format("id = 1 OR current_user = 'bob'"),
    "policy by a setting": POLICY.format("current_setting('app.tenant', true) IS DISTINCT FROM 'x'"),
    "policy by another table": (
        "CREATE TABLE member (who name); INSERT INTO member VALUES ('alice'); GRANT SELECT ON member TO public;"
        + POLICY.format("EXISTS (SELECT FROM member WHERE who = current_user) OR id > 0")
    ),
    "index": "CREATE INDEX ON note ((lower(id::text)))",
    "array": "ALTER TABLE note ALTER body TYPE text[] USING ARRAY[body]",
}


@pytest.fixture
def proved(db: Database) -> Callable[[str, str], dict[str, str]]:
    def prove(before: str, after: str) -> dict[str, str]:
        owner = db.connect("owner")
        owner.execute((CODE + before).encode())
        db.sql("""CALL envelope.protect('note', '["body"]'); GRANT SELECT ON note TO alice, bob""")
        view = db.one("SELECT pg_get_viewdef('note'::regclass)").rstrip(";")
        try:
            owner.execute(after.format(view=view).encode())
        except psycopg.errors.InsufficientPrivilege as refused:
            # Newer versions of PostgreSQL ask for the right to each type to which a view casts.
            assert "permission denied for type envelope.plaintext" in str(refused)  # noqa: PT017
            pytest.skip("PostgreSQL does not let the owner write this view")
        db.sql("DELETE FROM ran")
        with db.connect() as session:
            was = session.execute("SELECT current_user, current_setting('search_path')").fetchall()
            rows = session.execute("SELECT role::text, proved FROM envelope.access()").fetchall()
            assert session.execute("SELECT current_user, current_setting('search_path')").fetchall() == was
        assert db.one("SELECT rolsuper FROM pg_roles WHERE rolname = 'owner'") is False
        assert {who for (who,) in db.sql("TABLE ran")} <= {"owner"}
        return dict(rows)

    return prove


@pytest.mark.parametrize("name", PLANTED)
def test_no_code_runs_as_another_role(db: Database, proved: Callable[[str, str], dict[str, str]], name: str) -> None:
    found = proved(*PLANTED[name])
    tried = {role for role, outcome in found.items() if outcome != "not tried"}
    assert tried <= {"owner"}
    assert {"postgres", "alice", "bob"} <= found.keys()
    assert db.one("SELECT is_called FROM leak") is ("volatile" in name and bool(tried))


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_code_is_run(proved: Callable[[str, str], dict[str, str]], name: str) -> None:
    found = proved(HARMLESS[name], "")
    assert {role: found[role] for role in ("alice", "bob", "owner", "postgres")} == dict.fromkeys(
        ("alice", "bob", "owner", "postgres"), "clear"
    )


def test_nothing_is_tried_while_the_table_may_change(
    db: Database, proved: Callable[[str, str], dict[str, str]]
) -> None:
    """Else its owner could add code between the look at it and the read."""
    assert proved("", "")["alice"] == "clear"
    with db.admin.transaction():
        db.sql("CREATE STATISTICS s ON id, body FROM note_encrypted")
        with db.connect() as other:
            rows = other.execute("SELECT DISTINCT proved FROM envelope.access()").fetchall()
    assert rows == [("not tried",)]


def test_nothing_changes_while_it_is_tried(db: Database, proved: Callable[[str, str], dict[str, str]]) -> None:
    proved("", "")
    with db.admin.transaction():
        db.sql("SELECT * FROM envelope.access()")
        locked = db.sql(
            "SELECT relation::regclass::text FROM pg_locks"
            " WHERE mode = 'ShareUpdateExclusiveLock' AND pid = pg_backend_pid()"
        )
        with db.connect() as other, pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("SET lock_timeout = '100ms'; ALTER SCHEMA public RENAME TO elsewhere")
    assert {("note",), ("note_encrypted",)} <= set(locked)


def test_a_view_that_fails_hides_no_other_table(db: Database, proved: Callable[[str, str], dict[str, str]]) -> None:
    found = proved("", "CREATE OR REPLACE VIEW note AS {view} WHERE 1 / (id - id) > 0")
    assert (found["alice"], found["owner"]) == ("error 22012", "error 22012")
