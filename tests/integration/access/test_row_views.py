"""Views of roles over a table with row-level security: they show what they show over a plain twin of two relations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database, Fill

from .fix_access import outcome

MEMBERS = 3
NUMBERS = st.integers(0, MEMBERS - 1)
TABLE = """
CREATE TABLE {t} (id int PRIMARY KEY, who text, body text, code text);
INSERT INTO {t} VALUES (1, 'a', 'first', 'x'), (2, 'b', 'second', 'y');
ALTER TABLE {t} OWNER TO owner;
ALTER TABLE {t} ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON {t} USING (id = 1 OR current_user = 'owner')
"""
# `{t}` is the view, and `{below}` what was made before.
MADE = {
    "v": "VIEW {} AS SELECT t.body AS v FROM {t} t",
    "w": "VIEW {} AS SELECT to_jsonb(t) ->> 'body' AS v FROM {t} t",
    "m": "VIEW {} AS SELECT t.id::text || (t).body || row_to_json(t)::text AS v FROM {t} t",
    "j": "VIEW {} AS SELECT to_jsonb(j) ->> 'body' AS v FROM ({t} t NATURAL JOIN (SELECT 1 AS id) one) j",
    "x": "VIEW {} AS SELECT t.who || (to_jsonb(o) ->> 'k') AS v FROM {t} t, other o",
    "i": "VIEW {} WITH (security_invoker) AS SELECT to_jsonb(t) ->> 'body' AS v FROM {t} t",
    "o": "VIEW {} AS SELECT v FROM {below} b",
    "p": "VIEW {} WITH (security_invoker) AS SELECT v FROM {below} b",
    "q": "VIEW {} AS SELECT to_jsonb(b) ->> 'v' AS v FROM {below} b",
}
COLUMNS = ("", " (id, who)", " (body)", " (id, who, body)", " (id, who, body, code)")


def fill(db: Database) -> None:
    for table in ("note", "twin_encrypted"):
        db.sql(TABLE.format(t=table))
    db.sql("CREATE TABLE other AS SELECT 'k' AS k; GRANT SELECT ON other TO public")
    db.sql("CREATE VIEW twin WITH (security_invoker) AS SELECT * FROM twin_encrypted; ALTER VIEW twin OWNER TO owner")
    db.sql("""CALL envelope.protect('note', '["body", "code"]')""")


@pytest.fixture
def notes(filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(fill)


@pytest.fixture
def bob(notes: Database) -> psycopg.Connection[Any]:
    """One session for all that he does in a test."""
    return notes.connect("bob")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    grants=st.lists(st.tuples(st.sampled_from(COLUMNS), st.booleans(), NUMBERS), max_size=5),
    makers=st.lists(st.tuples(st.sampled_from([*MADE]), NUMBERS), min_size=1, max_size=4),
    users=st.lists(st.tuples(st.integers(0, 3), NUMBERS), max_size=6),
)
def test_any_views_of_any_roles(
    notes: Database,
    grants: list[tuple[str, bool, int]],
    makers: list[tuple[str, int]],
    users: list[tuple[int, int]],
) -> None:
    with notes.admin.transaction(force_rollback=True):
        group = [f"member_{number}" for number in range(MEMBERS)]
        for role in group:
            notes.sql(f"CREATE ROLE {role}")
        # GRANT on the view is one on the base table, too, and takes away what else the base table had.
        for columns, of_base, role in sorted(grants, key=lambda grant: grant[1]):
            notes.sql(f"GRANT SELECT{columns} ON note{'_encrypted' if of_base else ''} TO {group[role]}")
        for role in group:
            grant_alike(notes, role)
        seen = [shown(notes, table, group, makers, users) for table in ("note", "twin")]
    assert seen[0] == seen[1]


def grant_alike(db: Database, role: str) -> None:
    """Gives a role the rights to the twin that it has to the table."""
    for relation, twin in (("note", "twin"), ("note_encrypted", "twin_encrypted")):
        for column in ("id", "who", "body", "code"):
            if db.one("SELECT has_column_privilege(%s, %s, %s, 'SELECT')", role, relation, column):
                db.sql(f"GRANT SELECT ({column}) ON {twin} TO {role}")


def shown(
    db: Database,
    table: str,
    group: list[str],
    makers: list[tuple[str, int]],
    users: list[tuple[int, int]],
) -> list[Any]:
    """What each role gets of each view."""
    views = [table]
    for place, (letter, maker) in enumerate(makers):
        views.append(f"{table}_{place}")
        below = views[-2] if place else f"(SELECT body AS v FROM {table})"
        db.sql(f"CREATE {MADE[letter].format(views[-1], t=table, below=below)}")
        db.sql(f"ALTER VIEW {views[-1]} OWNER TO {group[maker]}")
    for place, role in users:
        db.sql(f"GRANT SELECT ON {views[min(place + 1, len(views) - 1)]} TO {group[role]}")
    asked = [f"SELECT body FROM {table}", *(f"SELECT v FROM {view}" for view in views[1:])]
    return [outcome(db, role, statement) for role in group for statement in asked]


def test_a_view_of_whole_rows_hands_its_right_on(notes: Database, bob: psycopg.Connection[Any]) -> None:
    notes.sql("GRANT SELECT ON note TO alice; GRANT SELECT ON note_encrypted TO bob")
    notes.sql("CREATE VIEW rows AS SELECT to_jsonb(n) ->> 'body' AS v FROM note n; ALTER VIEW rows OWNER TO alice")
    notes.sql("GRANT SELECT ON rows TO bob")
    assert bob.execute("TABLE rows").fetchall() == [("first",)]
    notes.sql("REVOKE SELECT ON note FROM alice; GRANT SELECT (id, who, body) ON note TO alice")
    notes.sql("GRANT SELECT ON note_encrypted TO bob")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        bob.execute("TABLE rows")
    notes.sql("GRANT SELECT (code) ON note TO alice; GRANT SELECT ON note_encrypted TO bob")
    assert bob.execute("TABLE rows").fetchall() == [("first",)]


def test_whole_rows_of_another_table_are_no_right(notes: Database, bob: psycopg.Connection[Any]) -> None:
    """By hand, with an envelope of the base table."""
    notes.sql("GRANT SELECT ON note TO alice; GRANT SELECT ON note_encrypted TO bob")
    notes.sql("CREATE VIEW rows AS SELECT n.id, to_jsonb(o) FROM note n, other o; ALTER VIEW rows OWNER TO alice")
    notes.sql("GRANT SELECT ON rows TO bob")
    field = notes.one("SELECT field_uuid::text FROM envelope.columns WHERE \"column\" = 'body'")
    by_hand = f"SELECT envelope_internal.decrypt_text_as_role(body, '{field}', id::text) FROM note_encrypted"
    assert len(bob.execute("TABLE rows").fetchall()) == 1
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        bob.execute(by_hand)
    notes.sql("CREATE VIEW whole AS SELECT to_jsonb(n) FROM note n; ALTER VIEW whole OWNER TO alice")
    notes.sql("GRANT SELECT ON whole TO bob")
    assert bob.execute(by_hand).fetchall() == [("first",)]
