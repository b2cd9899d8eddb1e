"""The right to search is SELECT on the search column, apart from the right to read; and no role sees a token."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.fix_stack import Database, Fill
from tests.integration.search.fix_users import make_users

ONE = "user17@example.org"


def fill(db: Database) -> None:
    make_users(db, count=20)


@pytest.fixture
def users(filled: Callable[[Fill], Database]) -> Database:
    """A copy, for tests that destroy no key."""
    return filled(fill)


def test_one_may_search_without_reading(users: Database) -> None:
    users.sql("GRANT SELECT (id, email_search) ON users TO alice")
    alice = users.connect("alice")
    assert alice.execute("SELECT id FROM users WHERE email_search = %s", [ONE]).fetchall() == [(17,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        alice.execute("SELECT email FROM users")


def test_who_may_read_single_columns_may_search_them(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text, b text); GRANT SELECT (id, a) ON t TO alice")
    db.sql("GRANT SELECT (b) ON t TO bob WITH GRANT OPTION; INSERT INTO t VALUES (1, 'x', 'y')")
    db.sql("""CALL envelope.protect('t', '{"a": {"search": "exact"}, "b": {"search": "exact"}}')""")
    assert db.sql("SELECT id FROM t WHERE a_search = 'x'", user="alice") == [(1,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.sql("SELECT FROM t WHERE b_search = 'y'", user="alice")
    assert db.one("SELECT has_column_privilege('bob', 't', 'b_search', 'SELECT WITH GRANT OPTION')")


def test_nobody_else_may_search(users: Database) -> None:
    users.sql("GRANT SELECT (id) ON users TO alice")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        users.sql(f"SELECT id FROM users WHERE email_search = '{ONE}'", user="alice")


def test_an_owner_needs_no_right_to_create(db: Database) -> None:
    """And has none afterwards, neither to that nor to the types of tokens."""
    make_users_of_owner(db)
    held = "SELECT has_schema_privilege('owner', 'public', 'CREATE')"
    held += " OR has_schema_privilege('owner', 'envelope_search', 'USAGE')"
    assert db.one(held) is False
    db.sql("CALL envelope.unprotect('t')")
    assert db.one(held) is False
    assert db.one("SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass") == 2


def make_users_of_owner(db: Database) -> None:
    db.sql("CREATE TABLE t (id int PRIMARY KEY, a text UNIQUE); ALTER TABLE t OWNER TO owner")
    db.sql("REVOKE CREATE ON SCHEMA public FROM owner, PUBLIC; INSERT INTO t VALUES (1, 'x')")
    db.sql("""CALL envelope.protect('t', '["a"]')""")


SEES = (
    "SELECT envelope_search.{type}_token('x')",
    "SELECT '\\x00'::envelope_search.token",
    "SELECT email_search::envelope_search.token FROM users",
    "CREATE TEMPORARY TABLE mine (t envelope_search.token)",
    "SELECT envelope_internal.search_token_as_role('x', '{uuid}', 'exact/1')",
)


@pytest.mark.parametrize("statement", SEES)
def test_a_reader_cannot_make_or_name_a_token(users: Database, statement: str) -> None:
    users.sql("GRANT SELECT ON users TO alice")
    kind = users.one("SELECT type_name FROM envelope_private.search_key ORDER BY type_name LIMIT 1")
    uuid = users.one("SELECT search_uuid::text FROM envelope_private.search_key ORDER BY type_name LIMIT 1")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        users.sql(statement.format(type=kind, uuid=uuid), user="alice")


def test_a_token_shows_as_nothing(users: Database) -> None:
    users.sql("GRANT SELECT ON users TO alice")
    alice = users.connect("alice")
    for binary in (False, True):
        cursor = alice.execute("SELECT email_search FROM users WHERE id = 1", binary=binary)
        assert cursor.fetchone() in [("",), (b"",)]
    assert alice.execute("SELECT email_search::text FROM users WHERE id = 1").fetchone() == ("",)
    assert alice.execute("SELECT row_to_json(u)->>'email_search' FROM users u WHERE id = 1").fetchone() == ("",)


def test_errors_of_a_unique_index_show_no_token(users: Database) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        users.sql(f"INSERT INTO users VALUES (99, 1, '{ONE}', 'x', NULL)")
    assert caught.value.diag.constraint_name == "users_email_key"
    assert caught.value.diag.message_detail == "Key (email_search)=() already exists."
    token = users.one("SELECT encode(email_search::text::bytea, 'escape') FROM users_encrypted WHERE id = 17")
    assert token[2:] not in str(caught.value)


def test_a_search_key_encrypts_nothing(db: Database) -> None:
    make_users(db, count=1)
    name = db.one("SELECT search_key FROM envelope.searches LIMIT 1")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.sql("SELECT envelope.encrypt('x', %s)", name)


def test_a_field_key_makes_no_token(db: Database) -> None:
    make_users(db, count=1)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.sql(
            "SELECT envelope_internal.search_token('x', c.seal, 'exact/1') FROM envelope_private.capability c"
            " JOIN envelope_private.field f USING (field_uuid) WHERE f.attname = 'email'"
        )


def test_a_suspended_search_key_finds_nothing_and_says_so(db: Database) -> None:
    make_users(db, count=20)
    db.sql(
        "UPDATE envelope_private.dek SET suspended_from = state, state = 'suspended' WHERE key_uuid IN"
        " (SELECT key_uuid FROM envelope_private.field WHERE bind = 'search')"
    )
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="suspended"):
        db.connect().execute("SELECT id FROM users WHERE email_search = %s", [ONE])
