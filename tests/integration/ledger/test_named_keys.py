"""Named keys and secrets in the ledger of reads."""

from __future__ import annotations

import psycopg
import pytest

from tests.fix_stack import Database

from .fix_reads import Recorded


@pytest.fixture
def keyed(db: Database) -> Database:
    """A named key and a secret that alice may use."""
    for statement in (
        "SELECT envelope.create_key('cards')",
        "SELECT envelope.grant_key('cards', 'alice')",
        "SELECT envelope.create_secret('legacy')",
        "SELECT envelope.grant_key('legacy', 'alice')",
    ):
        db.sql(statement)
    db.sql("CREATE TABLE card (id int, number envelope.ciphertext)")
    db.sql("INSERT INTO card SELECT g, envelope.encrypt(g::text, 'cards', 'c') FROM generate_series(1, 5) g")
    db.sql("GRANT SELECT ON card TO alice")
    return db


def test_a_named_key_counts_by_statement(keyed: Database, recorded: Recorded) -> None:
    keyed.sql("CALL envelope.set_audit_key('cards', 'statement')")
    session = keyed.connect("alice")
    session.execute("SELECT envelope.decrypt(number, 'c') FROM card")
    session.execute("SELECT envelope.decrypt_bytea(number, 'c') FROM card WHERE id = 2")
    session.execute("SELECT envelope.encrypt('x', 'cards')")
    told = [(event["key"], event["count"], event["user"], event.get("table")) for event in recorded(session)]
    assert told == [("cards", 5, "alice", None), ("cards", 1, "alice", None)]


def test_a_named_key_without_a_level_has_no_event(keyed: Database, recorded: Recorded) -> None:
    session = keyed.connect("alice")
    session.execute("SELECT envelope.decrypt(number, 'c') FROM card")
    assert recorded(session) == []


def test_a_secret_counts_when_it_is_opened(keyed: Database, recorded: Recorded) -> None:
    keyed.sql("CALL envelope.set_audit_key('legacy', 'statement')")
    session = keyed.connect("alice")
    session.execute("SELECT envelope.secret('legacy')::text FROM generate_series(1, 3)")
    (event,) = recorded(session)
    assert (event["key"], event["count"]) == ("legacy", 1)


def test_pgcrypto_s_functions_with_a_secret_by_name_leave_an_event(keyed: Database, recorded: Recorded) -> None:
    keyed.sql("SELECT envelope.import_secret('pii', 'correct horse'::text)")
    keyed.sql("SELECT envelope.grant_key('pii', 'alice')")
    keyed.sql("CALL envelope.set_audit_key('pii', 'statement')")
    keyed.sql("CREATE TABLE old (id int, x bytea); GRANT SELECT ON old TO alice")
    keyed.sql(
        "INSERT INTO old SELECT g, envelope_pgcrypto.pgp_sym_encrypt('v' || g, 'correct horse')"
        " FROM generate_series(1, 3) g"
    )
    session = keyed.connect("alice")
    session.execute("SET search_path = public, envelope_pgcrypto")
    opened = session.execute("SELECT pgp_sym_decrypt(x, envelope.secret('pii')) FROM old ORDER BY id").fetchall()
    assert opened == [("v1",), ("v2",), ("v3",)]
    session.execute("SELECT pgp_sym_decrypt(x, envelope.secret('pii')) FROM old WHERE id = 2")
    told = [(event["key"], event["user"], event["operation"]) for event in recorded(session)]
    assert told == [("pii", "alice", "SELECT")] * 2


def test_a_role_without_the_grant_leaves_no_event(keyed: Database, recorded: Recorded) -> None:
    keyed.sql("CALL envelope.set_audit_key('cards', 'sync')")
    keyed.sql("GRANT SELECT ON card TO bob")
    session = keyed.connect("bob")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("SELECT envelope.decrypt(number, 'c') FROM card")
    assert recorded(session) == []


@pytest.mark.parametrize(
    ("name", "level", "sqlstate"), [("no", "row", "42704"), (None, "row", "42704"), ("cards", "x", "22023")]
)
def test_bad_input(keyed: Database, name: str | None, level: str, sqlstate: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        keyed.sql("CALL envelope.set_audit_key(%s, %s)", name, level)
    assert caught.value.sqlstate == sqlstate
