"""A token is that of its row's value after every way of writing; what a search finds is what the plain table finds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database, Fill
from tests.integration.search.fix_users import make_users, plan

TRIGGER = """
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := coalesce(NEW.n, 0) + 1; RETURN NEW; END';
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch()"""
SWAP = """
CREATE FUNCTION swap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.a := NEW.b; RETURN NEW; END';
CREATE TRIGGER swap BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION swap()"""
POLICY = "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY all_rows ON t USING (true)"
KINDS = {"by the owner": "SELECT", "by the caller": TRIGGER, "under row-level security": POLICY}


@cache
def fill(kind: str) -> Fill:
    """Makes t (id, a, b, n), a and b protected and searched, in one of the ways in which writes are generated."""

    def make(db: Database) -> None:
        db.sql("CREATE TABLE t (id int PRIMARY KEY, a text UNIQUE, b text, n int)")
        db.sql(KINDS[kind])
        db.sql("GRANT ALL ON t TO alice")
        db.sql("""CALL envelope.protect('t', '{"a": {"search": "exact"}, "b": {"search": "exact"}}')""")

    return make


@pytest.fixture(params=KINDS)
def table(filled: Callable[[Fill], Database], request: pytest.FixtureRequest) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(fill(request.param))


def holds(db: Database) -> None:
    """Each row is found by its values, and by no others."""
    for column in "ab":
        assert db.sql(f"SELECT id FROM t WHERE ({column} IS NULL) <> ({column}_search IS NULL)") == []
        assert db.sql(f"SELECT id FROM t WHERE NOT ({column}_search = {column})") == []


def test_statements_through_the_view(table: Database) -> None:
    alice = table.connect("alice")
    alice.execute("INSERT INTO t VALUES (1, 'x', 'y', 0), (2, NULL, 'y', 0), (3, '', '', 0)")
    holds(table)
    assert alice.execute(
        "INSERT INTO t VALUES (4, 'q', NULL, 0) RETURNING a_search = 'q', b_search IS NULL"
    ).fetchall() == [(True, True)]
    alice.execute("UPDATE t SET a = 'z' WHERE a_search = 'x'")
    assert alice.execute("UPDATE t SET a = 'w' WHERE id = 1 RETURNING a_search = 'w'").fetchall() == [(True,)]
    alice.execute("UPDATE t SET b = NULL WHERE id = 2")
    alice.execute("UPDATE t SET n = 5, a = b || 'k' WHERE id = 3")
    holds(table)
    alice.execute("UPDATE t SET id = id + 100")
    holds(table)
    assert alice.execute("DELETE FROM t WHERE a_search = 'w' RETURNING id").fetchall() == [(101,)]


def test_copy_and_insert_of_whole_rows(table: Database) -> None:
    """A search column that is given, or not, is made of the value all the same."""
    with table.admin.cursor().copy("COPY t (id, a, b, n) FROM STDIN") as copy:
        copy.write("1\tx\ty\t0\n2\t\\N\t\\N\t0\n")
    with table.admin.cursor().copy("COPY t (id, a, b) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "text", "text"])
        copy.write_row((3, "p", "q"))
    holds(table)
    table.sql("CREATE TEMPORARY TABLE kept AS SELECT * FROM t")
    table.sql("DELETE FROM t; INSERT INTO t SELECT * FROM kept")
    holds(table)
    table.sql("INSERT INTO t SELECT id + 10, a || '2', b, n, a_search, b_search FROM kept")
    holds(table)
    table.sql("UPDATE t SET a_search = (SELECT a_search FROM kept WHERE id = 2) WHERE id = 1")
    table.sql("UPDATE t SET a_search = NULL")
    holds(table)


def test_envelopes_written_past_the_view(table: Database) -> None:
    """As a dump, a publisher or an application with keys of its own writes them: with the token, or without."""
    table.sql("INSERT INTO t VALUES (1, 'x', 'y', 0), (2, 'v', 'w', 0)")
    table.sql("CREATE TEMPORARY TABLE kept AS SELECT * FROM t_encrypted; DELETE FROM t")
    table.sql("INSERT INTO t_encrypted SELECT * FROM kept WHERE id = 1")
    table.sql("INSERT INTO t_encrypted (id, a, b, n) SELECT id, a, b, n FROM kept WHERE id = 2")
    holds(table)
    table.sql("UPDATE t SET b = 'changed'")
    table.sql("UPDATE t_encrypted t SET b = k.b FROM kept k WHERE t.id = k.id")
    holds(table)
    assert table.one("SELECT id FROM t WHERE b_search = 'w'") == 2
    table.sql("UPDATE t_encrypted SET id = 7 WHERE id = 1")
    holds(table)


def test_reencrypt_leaves_tokens_as_they_are(table: Database) -> None:
    table.sql("INSERT INTO t SELECT i, 'a' || i, 'b' || i, 0 FROM generate_series(1, 20) i")
    before = table.sql("SELECT id, a_search::text FROM t_encrypted ORDER BY id")
    table.sql("SELECT envelope.rotate('t')")
    table.sql("CALL envelope.reencrypt('t')")
    assert table.sql("SELECT id, a_search::text FROM t_encrypted ORDER BY id") == before
    holds(table)


def test_refresh_and_renames(table: Database) -> None:
    table.sql("INSERT INTO t VALUES (1, 'x', 'y', 0)")
    table.sql("ALTER TABLE t_encrypted ADD extra int")
    table.sql("CALL envelope.refresh('t')")
    table.sql("INSERT INTO t (id, a, b, extra) VALUES (2, 'v', 'w', 3)")
    holds(table)
    table.sql("ALTER VIEW t RENAME COLUMN b_search TO find_b")
    table.sql("ALTER VIEW t RENAME COLUMN b TO c")
    table.sql("INSERT INTO t (id, a, c) VALUES (3, 'r', 's')")
    assert table.sql("SELECT id FROM t WHERE find_b = 's'") == [(3,)]
    table.sql("UPDATE t SET c = 'new' WHERE id = 3")
    assert table.sql("SELECT id FROM t WHERE find_b = 'new'") == [(3,)]


def test_another_owner_writes_tokens(db: Database) -> None:
    make_users(db, count=5)
    db.sql("ALTER VIEW users OWNER TO owner")
    db.sql("INSERT INTO users VALUES (99, 1, 'n@x', 's', NULL)", user="owner")
    assert db.one("SELECT id FROM users WHERE email_search = 'n@x'") == 99


def test_a_trigger_that_changes_the_value(db: Database) -> None:
    """The table's own code gives one column another's value: the token is that of what is stored."""
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text, b text)")
    db.sql(SWAP)
    db.sql("""CALL envelope.protect('t', '{"a": {"search": "exact"}, "b": {}}')""")
    db.sql("INSERT INTO t VALUES (1, 'given', 'stored')")
    assert db.sql("SELECT a FROM t WHERE a_search = 'stored'") == [("stored",)]


def test_in_one_transaction_with_protect(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text UNIQUE)")
    with db.admin.transaction():
        db.sql("""CALL envelope.protect('t', '["a"]')""")
        db.sql("INSERT INTO t VALUES (1, 'x')")
        assert db.sql("SELECT id FROM t WHERE a_search = 'x'") == [(1,)]


FUNCTIONS = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'envelope_search'::regnamespace"


def indexes(db: Database) -> list[tuple[object, ...]]:
    return db.sql(
        "SELECT pg_get_indexdef(i.indexrelid), pg_get_constraintdef(k.oid) FROM pg_index i"
        " LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid WHERE i.indrelid = 't'::regclass ORDER BY 1"
    )


def test_there_and_back(db: Database) -> None:
    """Indexes and constraints come back as they were, with all that they say."""
    db.sql('CREATE TABLE t (id int PRIMARY KEY, a text, b text, c int, d text COLLATE "C")')
    db.sql(
        "ALTER TABLE t ADD CONSTRAINT once UNIQUE NULLS NOT DISTINCT (a) INCLUDE (c);"
        "CREATE UNIQUE INDEX two ON t (c DESC, b) WHERE c > 5;"
        "CREATE INDEX simple ON t (c, d text_pattern_ops DESC NULLS LAST, b)"
    )
    before, functions = indexes(db), db.one(FUNCTIONS)
    db.sql("""CALL envelope.protect('t', '["a", "b"]')""")
    assert db.one(FUNCTIONS) > functions
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.sql("INSERT INTO t VALUES (1, NULL, 'x', 9), (2, NULL, 'y', 8)")
    db.sql("""CALL envelope.unprotect('t')""")
    assert indexes(db) == before
    assert db.one(FUNCTIONS) == functions
    db.sql("""CALL envelope.protect('t', '["a"]')""")


def test_tables_share_a_key_by_its_name(db: Database) -> None:
    for name in ("customer", "invoice"):
        db.sql(f"CREATE TABLE {name} (id int PRIMARY KEY, email text)")
        db.sql(f"INSERT INTO {name} SELECT i, 'mail' || i FROM generate_series(1, 500) i")
        db.sql(f"""CALL envelope.protect('{name}', '{{"email": {{"search": {{"exact": {{"key": "people"}}}}}}}}')""")
        db.sql(f"ANALYZE {name}_encrypted")
    query = "SELECT i.id FROM customer c JOIN invoice i ON i.email_search = c.email_search WHERE c.id = 7"
    assert db.sql(query) == [(7,)]
    assert "invoice_email_search_idx" in plan(db.admin, query)
    db.sql("CALL envelope.unprotect('customer')")
    assert db.sql("SELECT id FROM invoice WHERE email_search = 'mail9'") == [(9,)]


def test_a_shared_key_is_for_like_columns(db: Database) -> None:
    db.sql("CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v int)")
    spec = '{"v": {"search": {"exact": {"key": "shared"}}}}'
    db.sql("CALL envelope.protect('a', %s)", spec)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="shared is for other columns"):
        db.sql("CALL envelope.protect('b', %s)", spec)


values = st.sampled_from(["", "a", "A", "ä", "a\u0308", " a", "a ", "\\", "'", "ß", "ss", "\U0001f989"]) | st.none()
steps = st.lists(
    st.tuples(st.sampled_from(["insert", "update", "delete", "key"]), st.integers(1, 6), values, values), max_size=12
)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(steps=steps)
def test_twin(table: Database, steps: list[tuple[str, int, str | None, str | None]]) -> None:
    """After any writes each value finds the same rows on the twin, and duplicates are refused alike."""
    with table.admin.transaction(force_rollback=True):
        table.sql("CREATE TABLE twin (id int PRIMARY KEY, a text UNIQUE, b text, n int)")
        acts: dict[str, Callable[[str], str]] = {
            "insert": lambda t: f"INSERT INTO {t} VALUES (%(id)s, %(a)s, %(b)s, 0)",
            "update": lambda t: f"UPDATE {t} SET a = %(a)s, b = %(b)s WHERE id = %(id)s",
            "delete": lambda t: f"DELETE FROM {t} WHERE id = %(id)s",
            "key": lambda t: f"UPDATE {t} SET id = id + 3 WHERE id = %(id)s",
        }
        for what, number, a, b in steps:
            given_values = {"id": number, "a": a, "b": b}
            outcomes = [outcome(table, acts[what](name), given_values) for name in ("t", "twin")]
            assert outcomes[0] == outcomes[1]
        holds(table)
        assert table.sql("SELECT id, a, b FROM t ORDER BY 1") == table.sql("SELECT id, a, b FROM twin ORDER BY 1")
        for value in ("", "a", "A", "ä", "a\u0308", " a", "a ", "ß", "ss"):
            found = [table.sql(f"SELECT id FROM {name} WHERE {column} = %s ORDER BY 1", value) for name, column in
                     (("t", "a_search"), ("twin", "a"))]  # fmt: skip
            assert found[0] == found[1]


def outcome(db: Database, statement: str, values: dict[str, object]) -> str | None:
    """The SQLSTATE of a statement, or None for one that went well."""
    try:
        with db.admin.transaction():
            db.admin.execute(statement, values)  # type: ignore[call-overload]
    except psycopg.Error as error:
        return error.sqlstate
    return None


@pytest.mark.parametrize("into", ["person", "person_upsert"])
def test_on_conflict_compares_tokens(db: Database, into: str) -> None:
    """PostgreSQL takes other functions there than for a query."""
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text UNIQUE)")
    db.sql("""CALL envelope.protect('person', '["email"]'); CALL envelope.allow_upsert('person')""")
    for number, email in enumerate(("a@x", "b@x", "a@x"), 1):
        db.sql(f"INSERT INTO {into} (id, email) VALUES ({number}, '{email}') ON CONFLICT DO NOTHING")
    assert db.sql("SELECT id, email FROM person ORDER BY 1") == [(1, "a@x"), (2, "b@x")]
