"""Which relations the text of a command names."""

from __future__ import annotations

import pglast
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.backend.ddl import commands, forms

CHANGED = [
    ("ALTER TABLE", "ALTER TABLE IF EXISTS ONLY public.T * ADD COLUMN a int DEFAULT 'x;y', DROP b", [("public", "t")]),
    ("ALTER TABLE", '/* a /* ; */ b */ ALTER TABLE "T.x" RENAME TO u -- ; ALTER TABLE v', [("T.x",)]),
    ("ALTER TABLE", "ALTER TABLE a DROP b; ALTER TABLE c DROP d", [("a",), ("c",)]),
    ("ALTER TABLE", "DO $a$ BEGIN ALTER TABLE t DROP c; END $a$", []),
    ("ALTER TABLE", "ALTER TABLE ALL IN TABLESPACE pg_default SET TABLESPACE x", [("all",)]),
    ("CREATE INDEX", 'CREATE UNIQUE INDEX IF NOT EXISTS "a on b" ON ONLY s.t (lower(c))', [("s", "t")]),
    ("CREATE INDEX", "CREATE INDEX ON t (c)", [("t",)]),
    ("DROP TABLE", 'DROP TABLE IF EXISTS a, b.c, "we""ird" CASCADE', [("a",), ("b", "c"), ('we"ird',)]),
    ("COMMENT", "COMMENT ON TABLE t IS 'COMMENT ON TABLE u'", [("t",)]),
    ("COMMENT", "COMMENT ON CONSTRAINT c ON t IS NULL", [("t",)]),
    ("COMMENT", "COMMENT ON COLUMN t.c IS NULL", []),
    ("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER x BEFORE UPDATE OF a ON t EXECUTE FUNCTION f()", [("t",)]),
    ("CREATE TRIGGER", "CREATE TRIGGER x INSTEAD OF UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()", []),
    ("DROP TRIGGER", "DROP TRIGGER IF EXISTS x ON t", [("t",)]),
    ("ALTER POLICY", "ALTER POLICY p ON t USING (true)", [("t",)]),
    ("CREATE STATISTICS", "CREATE STATISTICS s (ndistinct) ON a, b FROM t", [("t",)]),
    ("DROP TABLE", "ALTER TABLE t DROP c", []),
]
OF_VIEW = (
    "OWNER TO bob",
    "RENAME COLUMN a TO b",
    "RENAME a TO b",
    "ALTER a SET DEFAULT f(1, 2), ALTER COLUMN b DROP DEFAULT",
)
NOT_OF_VIEW = ("RENAME TO b", "ALTER a SET DEFAULT 1, DROP b", "ALTER a DROP NOT NULL", "RENAME CONSTRAINT a TO b")


@pytest.mark.parametrize(("tag", "text", "names"), CHANGED)
def test_what_a_command_changes(tag: str, text: str, names: list[tuple[str, ...]]) -> None:
    found = list(commands.find(text, tag))
    assert [command.name for command in found] == names
    assert {command.use for command in found} <= {"changed"}


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("CREATE TABLE", "CREATE TABLE c (id int REFERENCES s.t (id), LIKE u)"),
        ("ALTER TABLE", "ALTER TABLE c ADD FOREIGN KEY (id) REFERENCES s.t, ADD x text DEFAULT 'REFERENCES v'"),
    ],
)
def test_what_a_command_refers_to(tag: str, text: str) -> None:
    found = [command.name for command in commands.find(text, tag) if command.use == "refers"]
    assert found == [("s", "t")]


@pytest.mark.parametrize("shape", ["(LIKE t INCLUDING ALL)", "() INHERITS (t)", "OF t"])
def test_a_table_in_the_shape_of_another(shape: str) -> None:
    found = commands.find(f"CREATE TABLE c {shape}", "CREATE TABLE")
    assert [(one.name, one.use) for one in found] == [(("t",), "shape")]


def test_a_new_partition_changes_the_whole_table() -> None:
    found = commands.find("CREATE TABLE IF NOT EXISTS c PARTITION OF s.t DEFAULT", "CREATE TABLE")
    assert [(one.name, one.use) for one in found] == [(("s", "t"), "changed")]


@pytest.mark.parametrize("action", ["c", 's."c"', "c CONCURRENTLY"])
def test_a_partition_is_detached(action: str) -> None:
    (found,) = commands.find(f"ALTER TABLE ONLY t DETACH /**/ PARTITION {action}", "ALTER TABLE")
    assert found.detaches


@pytest.mark.parametrize("action", ["DETACH PARTITION c FINALIZE", "ADD detach int", "ATTACH PARTITION c DEFAULT"])
def test_no_partition_is_detached(action: str) -> None:
    assert not any(found.detaches for found in commands.find(f"ALTER TABLE t {action}", "ALTER TABLE"))


@pytest.mark.parametrize("action", OF_VIEW)
def test_a_view_takes_some_actions_itself(action: str) -> None:
    assert list(commands.find(f"ALTER TABLE t {action}", "ALTER TABLE")) == []


@pytest.mark.parametrize("action", NOT_OF_VIEW)
def test_a_view_does_not_take_the_others(action: str) -> None:
    assert [one.name for one in commands.find(f"ALTER TABLE t {action}", "ALTER TABLE")] == [("t",)]


def test_the_innermost_command_runs() -> None:
    context = (
        "PL/pgSQL function envelope_internal.ddl_begins() line 5 at GET DIAGNOSTICS\n"
        'SQL statement "ALTER TABLE "T" ADD x int"\nPL/pgSQL function f() line 1 at SQL statement\n'
        'SQL statement "SELECT f()"\nPL/pgSQL function g() line 1 at PERFORM'
    )
    assert commands.running(context, "CALL g()") == 'ALTER TABLE "T" ADD x int'
    assert commands.running("PL/pgSQL function x() line 1 at IF", "DROP TABLE t") == "DROP TABLE t"


identifiers = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(names=st.lists(identifiers, min_size=1, max_size=3), gap=st.sampled_from([" ", "\n", "/* ; */", "-- '\n", "\t"]))
def test_every_quoted_name_is_read_as_postgresql_reads_it(names: list[str], gap: str) -> None:
    quoted = ".".join('"' + name.replace('"', '""') + '"' for name in names)
    text = f"ALTER{gap}TABLE{gap}{quoted}{gap}DROP{gap}c"
    statement = pglast.parse_sql(text)[0].stmt.relation
    (found,) = commands.find(text, "ALTER TABLE")
    parsed = [statement.catalogname, statement.schemaname, statement.relname]
    # PostgreSQL cuts long names where they are used, and pglast where it parses.
    assert list(found.name)[-1].encode().startswith(parsed[-1].encode())
    assert len(found.name) == len([part for part in parsed if part is not None])


@given(st.text())
def test_no_text_stops_the_lexer(text: str) -> None:
    found = list(forms.statements(text))
    assert len(found) <= 1 + text.count(";")
    words = [token for one in found for token in forms.tokens(one) if not token.startswith('"')]
    assert not any(letter in word for word in words for letter in "ABCXYZ")
