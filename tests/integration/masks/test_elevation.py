"""Roles that would become a superuser by masks: they leave code where a superuser sets rules, reads or administers."""

from __future__ import annotations

import json

import psycopg
import pytest

from tests.fix_elevation import ELEVATE
from tests.fix_stack import Database

from .fix_masks import CLEAR_EMAIL, Connection, failure

ADMINISTER = (
    "SELECT * FROM envelope.status()",
    "SELECT * FROM envelope.access()",
    "SELECT * FROM envelope.access(false)",
    "SELECT envelope.mask('person', 'email', 'alice', 'null')",
    "SELECT envelope.unmask('person', 'email')",
    "SELECT envelope.mask('person', 'email', 'public', 'email')",
    "CALL envelope.set_audit('person', 'email', 'statement')",
    "CALL envelope.set_limit('person', 'email', 1000)",
    "CALL envelope.verify('person')",
    "CALL envelope.refresh('person')",
)
SQL = (
    "public.elevate()",
    "'||public.elevate()||'",
    "x'); SELECT public.elevate(); --",
    "$$; SELECT public.elevate(); --",
    "MASKED WITH FUNCTION public.elevate()",
)


@pytest.fixture
def hostile(masked: Database) -> Database:
    masked.sql(ELEVATE, user="owner")
    return masked


@pytest.fixture
def bare(db: Database) -> Database:
    """The attacker's code without a table that nobody asks for: access() tries each column of all."""
    db.sql(ELEVATE, user="owner")
    return db


def ran_as(db: Database) -> set[str]:
    """Who the attacker's code ran as. It never gave a superuser's right away."""
    assert db.one("SELECT rolsuper FROM pg_roles WHERE rolname = 'owner'") is False
    return {who for (who,) in db.sql("TABLE ran")}


def test_the_code_elevates(hostile: Database) -> None:
    """The control: a superuser who runs it gives its rights away."""
    try:
        assert hostile.one("SELECT elevate()") == "x@y"
        assert hostile.one("SELECT rolsuper FROM pg_roles WHERE rolname = 'owner'") is True
    finally:
        hostile.sql("ALTER ROLE owner NOSUPERUSER")


@pytest.mark.parametrize("sql", SQL)
def test_elevation_via_mask(hostile: Database, sql: str) -> None:
    """SQL in each argument of a rule, by a superuser who was talked into it."""
    text = json.dumps({"text": f"{sql}@x"})
    hostile.sql("SELECT envelope.mask('person', 'email', 'public', 'text', %s)", text)
    assert hostile.sql("SELECT email FROM person WHERE id = 1", user="alice") == [(f"{sql}@x",)]
    hostile.sql("CALL envelope.refresh('person')")
    tries = [
        ("email", "public", sql, "{}"),
        ("email", sql, "null", "{}"),
        (sql, "public", "null", "{}"),
        ("email", "public", "partial", json.dumps({"first": sql, "last": sql})),
        ("paid", "public", "bucket", json.dumps({"size": sql})),
        ("email", "public", "hash", json.dumps({"secret": sql})),
        ("email", "public", "null", json.dumps({sql: sql})),
    ]
    for column, role, kind, arguments in tries:
        with pytest.raises(psycopg.Error) as refused:
            hostile.sql("SELECT envelope.mask('person', %s, %s, %s, %s)", column, role, kind, arguments)
        assert refused.value.sqlstate in ("22023", "42704"), (column, role, kind, arguments)
    assert ran_as(hostile) == set()


def test_elevation_via_domain(hostile: Database) -> None:
    """A rule's constant must fit the column's type, so the type's owner has its code run."""
    hostile.sql("CREATE DOMAIN mail AS text CHECK (elevate() IS NOT NULL)", user="owner")
    hostile.sql("CREATE TABLE trap (id int PRIMARY KEY, email mail)", user="owner")
    hostile.sql("""CALL envelope.protect('trap', '["email"]')""")
    hostile.sql("""SELECT envelope.mask('trap', 'email', 'public', 'text', '{"text": "x@y"}')""")
    hostile.sql("SELECT envelope.mask('trap', 'email', 'public', 'null')")
    hostile.sql("SELECT * FROM envelope.access()")
    assert ran_as(hostile) == {"owner"}


@pytest.mark.usefixtures("own_keys")
def test_elevation_via_rule(hostile: Database) -> None:
    """The owner writes the view's rule anew, so that whoever reads the view runs its code."""
    text = hostile.one("SELECT pg_get_viewdef('person'::regclass)").rstrip(";")
    owner = hostile.connect("owner")
    owner.execute(
        f"""
        CREATE OR REPLACE RULE "_RETURN" AS ON SELECT TO person DO INSTEAD {text}
            WHERE elevate() IS NOT NULL""".encode()
    )
    hostile.sql("DELETE FROM ran")
    for statement in ADMINISTER:
        with hostile.connect() as session:
            session.execute(statement.encode())
        assert ran_as(hostile) <= {"owner"}, statement
    # refresh() makes the view again.
    hostile.sql("DELETE FROM ran")
    assert hostile.sql("SELECT email FROM person WHERE id = 1") == [(CLEAR_EMAIL,)]
    assert ran_as(hostile) == set()


@pytest.mark.parametrize("name", ['a"b', "a'b", "a$$b", "a%sb", "a\\b", "a{}b", "x'); SELECT elevate(); --", "a\nb"])
def test_injection(bare: Database, alice: Connection, name: str) -> None:
    """By the names of a table, a column, a role and a secret."""
    quoted = '"' + name.replace('"', '""') + '"'
    owner, admin = bare.connect("owner"), bare.admin
    owner.execute(f"CREATE TABLE {quoted} (id int PRIMARY KEY, {quoted} text)".encode())
    owner.execute(f"INSERT INTO {quoted} VALUES (1, 'ada.5d1e')".encode())
    bare.sql("CALL envelope.protect(%s, %s)", quoted, json.dumps([name]))
    role = f"injected {name}"
    named = '"' + role.replace('"', '""') + '"'
    admin.execute(f"CREATE ROLE {named} LOGIN; GRANT SELECT ON {quoted} TO {named}, alice".encode())
    try:
        bare.sql("SELECT envelope.create_secret('pseudonyms')")
        secret = json.dumps({"secret": "pseudonyms"})
        bare.sql("SELECT envelope.mask(%s, %s, 'public', 'hash', %s)", quoted, name, secret)
        bare.sql("SELECT envelope.mask(%s, %s, %s, 'clear')", quoted, name, role)
        bare.sql("CALL envelope.set_audit(%s, %s, 'row')", quoted, name)
        bare.sql("CALL envelope.set_limit(%s, %s, 1000)", quoted, name)
        bare.sql("CALL envelope.refresh(%s)", quoted)
        read = f"SELECT {quoted} FROM {quoted}"
        assert "5d1e" not in str(alice.execute(read.encode()).fetchall())
        rows = bare.sql('SELECT role, access, proved FROM envelope.access() WHERE "column" = %s', name)
        assert {("alice", "masked", "masked"), (role, "clear", "clear")} <= set(rows)
        refused = failure(alice, f"SELECT {quoted}::int FROM {quoted}")
        assert "5d1e" not in str(refused)
        bare.sql("SELECT envelope.unmask(%s, %s)", quoted, name)
        assert alice.execute(read.encode()).fetchall() == [("ada.5d1e",)]
        assert ran_as(bare) == set()
    finally:
        admin.execute(f"DROP OWNED BY {named}; DROP ROLE {named}".encode())
