"""Tokens of both sides on the same table: each finds what the other wrote, and the unique index guards both."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from pg_envelope import errors
from pg_envelope_client import KeyClient
from tests.integration.sealing.fix_door import DoorOfTests

FOUND = "SELECT id FROM {table}_encrypted WHERE {search} OPERATOR(envelope_compare.=) %s ORDER BY id"
TIME = dt.datetime(2026, 1, 2, 6, 34, 0, 120000)
# type, normaliser, a value, and one that is equal after normalising
COLUMNS: list[tuple[str, str, Any, Any]] = [
    ("text", "exact", "Zoë", "Zoë"),
    ("text", "email", "Ada@Example.org ", "ada@example.ORG"),
    ("text", "unaccent", "Zoë Ångström", "zoe angstrom"),
    ("text", "digits", "+49 (30) 123", "4930123"),
    ("text", "last4", "4111 1111", "1111"),
    ("text", "prefix3", "Straße", "STRasse"),
    ("text", "phone-DE", "030 1234567", "+49 30 1234567"),
    ("varchar(9)", "trim", " nine ", "nine"),
    ("char(5)", "exact", "ab", "ab   "),
    ("smallint", "exact", -7, -7),
    ("integer", "exact", 2**31 - 1, 2**31 - 1),
    ("bigint", "exact", -(2**63), -(2**63)),
    ("numeric(10,2)", "exact", Decimal("1.5"), Decimal("1.500")),
    ("numeric", "exact", Decimal(100), Decimal("100.0")),
    ("uuid", "exact", UUID(int=7), UUID(int=7)),
    ("bytea", "exact", b"\x00\xff", b"\x00\xff"),
    ("date", "exact", dt.date(1912, 6, 23), dt.date(1912, 6, 23)),
    ("date", "month", dt.date(1912, 6, 23), dt.date(1912, 6, 1)),
    ("timestamp", "exact", TIME, TIME),
    ("timestamptz", "year", TIME.replace(tzinfo=dt.UTC), dt.datetime(2026, 9, 9, tzinfo=dt.UTC)),
    ("time", "exact", dt.time(1, 2, 3, 500), dt.time(1, 2, 3, 500)),
    ("mood", "exact", "happy", "happy"),
]


def allow(door: DoorOfTests, table: str, *columns: str) -> KeyClient:
    """Gives alice the columns with their search columns, and the application their keys."""
    db = door.db
    db.sql(f"GRANT ALL ON {table}_encrypted, {table} TO alice")
    fields = [db.one("SELECT envelope.grant_client(%s, %s, 'alice')", table, name) for name in columns]
    searches = [
        db.one("SELECT envelope.grant_client_search(%s, %s, 'alice')", table, f"{name}_search") for name in columns
    ]
    door.allow(*fields, *searches)
    return door.client()


def test_each_side_finds_what_the_other_wrote(door: DoorOfTests) -> None:
    db = door.db
    names = [f"v{number}" for number in range(len(COLUMNS))]
    db.sql("CREATE TYPE mood AS ENUM ('happy', 'sad')")
    kinds = ", ".join(f"{name} {column[0]}" for name, column in zip(names, COLUMNS, strict=True))
    db.sql(f"CREATE TABLE t (id int PRIMARY KEY, {kinds})")
    options = {
        name: {"search": {"exact": {"normalize": column[1], "as": f"{name}_search", "force": True}}}
        for name, column in zip(names, COLUMNS, strict=True)
    }
    db.sql("CALL envelope.protect('t', %s::jsonb)", Jsonb(options))
    client = allow(door, "t", *names)
    alice = db.connect("alice")
    for name, (kind, _, value, equal) in zip(names, COLUMNS, strict=True):
        key, search = client.field("t", name), client.search("t", f"{name}_search")
        alice.execute(f"INSERT INTO t (id, {name}) VALUES (1, %s::{kind})", (value,))
        written = (key.seal(value, 2), search.stored(value))
        alice.execute(f"INSERT INTO t_encrypted (id, {name}, {name}_search) VALUES (2, %s, %s)", written)
        query = FOUND.format(table="t", search=f"{name}_search")
        assert alice.execute(query, (search.token(equal),)).fetchall() == [(1,), (2,)], (kind, value)
        # The server's own lookup.
        needle = "text" if "char" in kind else kind.split("(")[0]
        server = f"SELECT id FROM t WHERE {name}_search = %s::{needle} ORDER BY id"
        assert alice.execute(server, (equal,)).fetchall() == [(1,), (2,)], (kind, value)
        assert db.one(f"SELECT count(DISTINCT {name}_search::text) FROM t_encrypted") == 1, kind
        alice.execute("DELETE FROM t")
    assert db.sql("SELECT * FROM envelope.faults") == []


def test_the_unique_index_guards_both_sides(door: DoorOfTests) -> None:
    db = door.db
    db.sql("CREATE TABLE customer (id int PRIMARY KEY, email text)")
    unique = '{"email": {"search": {"exact": {"normalize": "email"}}, "unique": true}}'
    db.sql(f"CALL envelope.protect('customer', '{unique}')")
    client = allow(door, "customer", "email")
    key, search = client.field("customer", "email"), client.search("customer", "email_search")
    alice = db.connect("alice")
    put = "INSERT INTO customer_encrypted (id, email, email_search) VALUES (%s, %s, %s)"
    alice.execute(put, (1, key.seal("ada@example.org", 1), search.stored("ada@example.org")))
    with pytest.raises(psycopg.errors.UniqueViolation):
        alice.execute("INSERT INTO customer VALUES (2, 'ADA@example.org')")
    alice.execute("INSERT INTO customer VALUES (2, 'alan@example.org')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        alice.execute(put, (3, key.seal("Alan@example.org", 3), search.stored("Alan@example.org")))
    assert (search.token(None), search.stored(None)) == (None, None)
    for condition in ("OPERATOR(envelope_compare.=) %s", "OPERATOR(envelope_compare.=) ANY (ARRAY[%s, 'x'::bytea])"):
        with alice.transaction():
            alice.execute("SET LOCAL enable_seqscan = off")
            query = f"EXPLAIN SELECT id FROM customer_encrypted WHERE email_search {condition}"
            plan = str(alice.execute(query, (search.token("ada@example.org"),)).fetchall())
            assert "Index Cond" in plan
    query = "SELECT id FROM customer_encrypted WHERE email_search OPERATOR(envelope_compare.=) ANY (%s) ORDER BY id"
    wanted = [search.token(one) for one in ("alan@example.org", "ADA@example.org", "nobody")]
    assert alice.execute(query, (wanted,)).fetchall() == [(1,), (2,)]
    generated(alice, search)


def generated(alice: psycopg.Connection[Any], search: Any) -> None:
    """The server makes the same token of any text."""

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12))
    def same(text: str) -> None:
        with alice.transaction(force_rollback=True):
            alice.execute("INSERT INTO customer VALUES (9, %s) ON CONFLICT DO NOTHING", (text,))
            found = alice.execute(FOUND.format(table="customer", search="email_search"), (search.token(text),))
            assert found.fetchall() == [(9,)]

    same()


def sqlstate(call: Any) -> str:
    try:
        call()
    except (psycopg.Error, errors.EnvelopeError) as error:
        return error.sqlstate or ""
    return "ok"


def test_a_search_key_is_a_right_of_its_own(door: DoorOfTests) -> None:
    db = door.db
    db.sql("CREATE TABLE customer (id int PRIMARY KEY, email text, born text)")
    db.sql("""CALL envelope.protect('customer', '{"email": {"search": "exact"}, "born": {"search": "exact"}}')""")
    field = db.one("SELECT envelope.grant_client('customer', 'email', 'alice')")
    door.allow(field)
    alice = door.client()
    with pytest.raises(errors.NotPermitted):
        alice.search("customer", "email_search")
    uuid = db.one("SELECT envelope.grant_client_search('customer', 'email_search', 'alice')")
    assert uuid != field
    search = alice.search("customer", "email_search")
    # The catalog is not enough: the door does not list the key.
    with pytest.raises(errors.NotPermitted):
        search.token("a")
    door.allow(field, uuid)
    assert len(door.client().search("customer", "email_search").token("a") or b"") == 16
    assert any("field1" in str(line) for line in door.events("request"))
    for role in ("alice", "bob"):
        grant = "SELECT envelope.grant_client_search('customer', 'born_search', 'bob')"
        assert sqlstate(lambda role=role, grant=grant: db.sql(grant, user=role)) == "42501"
    bob = door.client("bob")
    for table, column in (("customer", "email_search"), ("customer", "born_search"), ("customer", "nothing")):
        with pytest.raises(errors.NotPermitted):
            bob.search(table, column)
    assert sqlstate(lambda: db.sql(f"SELECT envelope_internal.client_messages('{uuid}', 1, 1)", user="alice")) != "ok"
    assert sqlstate(lambda: db.sql("SELECT envelope.grant_client_search('customer', 'email', 'bob')")) == "42704"
    mask = "SELECT envelope.mask('customer', 'email', 'public', 'null', '{\"search\": true}')"
    db.sql("SELECT envelope.revoke_client('customer', 'email', 'alice')")
    with pytest.raises(psycopg.Error, match="clients may open"):
        db.sql(mask)
    db.sql("SELECT envelope.revoke_client_search('customer', 'email_search', 'alice')")
    with pytest.raises(errors.NotPermitted):
        door.client().search("customer", "email_search")
    db.sql(mask)
    assert sqlstate(lambda: db.sql("SELECT envelope.grant_client_search('customer', 'email_search', 'bob')")) == "55000"
    # Who reads the view only has no column to compare a token with.
    db.sql("GRANT SELECT ON customer TO bob")
    compared = "SELECT id FROM customer WHERE email_search OPERATOR(envelope_compare.=) '\\x00'::bytea"
    assert sqlstate(lambda: db.sql(compared, user="bob")) == "42883"


def test_a_replaced_key_makes_no_tokens(door: DoorOfTests) -> None:
    db = door.db
    db.sql("CREATE TABLE customer (id int PRIMARY KEY, email text)")
    db.sql("""CALL envelope.protect('customer', '{"email": {"search": "exact"}}')""")
    client = allow(door, "customer", "email")
    search = client.search("customer", "email_search")
    search.token("a")
    db.sql("CALL envelope.rotate_search('customer', 'email')")
    assert db.sql('SELECT "column" FROM envelope.clients') == [("email",)]
    client.refresh()
    with pytest.raises(errors.NotPermitted) as refused:
        search.token("a")
    assert "rotate_search() made another key" in str(refused.value.hint)
    with pytest.raises(errors.NotPermitted):
        client.search("customer", "email_search")
    assert len(allow(door, "customer", "email").search("customer", "email_search").token("a") or b"") == 16


def test_a_late_token_is_refused_and_a_unique_index_holds(door: DoorOfTests) -> None:
    db = door.db
    db.sql("CREATE TABLE customer (id int PRIMARY KEY, email text)")
    db.sql("""CALL envelope.protect('customer', '{"email": {"search": "exact", "unique": true}}')""")
    db.sql("INSERT INTO customer VALUES (1, 'ada')")
    client = allow(door, "customer", "email")
    # A client that has not asked yet which key is active.
    client._ring._check_seconds = 3600
    key, late = client.field("customer", "email"), client.search("customer", "email_search")
    put = "INSERT INTO customer_encrypted (id, email, email_search) VALUES (%s, %s, %s)"
    alice = db.connect("alice")
    alice.execute(put, (2, key.seal("alan", 2), late.stored("alan")))
    changed = "UPDATE customer_encrypted SET email_search = %s WHERE id = 2"
    alice.execute(changed, (late.stored("alan"),))
    assert db.sql("SELECT envelope_internal.token_length(email_search) FROM customer_encrypted") == [(16,), (16,)]
    # A statement of a trigger is guarded, too.
    db.sql("CREATE TABLE inbox (id int, email bytea, token text)")
    db.sql("GRANT ALL ON inbox TO alice")
    db.sql("""CREATE FUNCTION deliver() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO customer_encrypted (id, email, email_search)
            VALUES (NEW.id, NEW.email::envelope.ciphertext, NEW.token::envelope_search.token);
        RETURN NULL; END $$""")
    db.sql("CREATE TRIGGER deliver AFTER INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION deliver()")
    deliver = "INSERT INTO inbox VALUES (%s, %s, %s)"
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.sql(deliver, 3, key.seal("ada", 3), late.stored("ada"))
    db.sql("CALL envelope.rotate_search('customer', 'email')")
    # refresh() and all that makes the triggers again leave the base table to its owner.
    db.sql("GRANT ALL ON customer_encrypted TO alice")
    refused = [
        (alice.execute, put, (3, key.seal("ada", 3), late.stored("ada"))),
        (alice.execute, changed, (late.stored("ada"),)),
        (db.admin.execute, deliver, (3, key.seal("ada", 3), late.stored("ada"))),
    ]
    for run, statement, values in refused:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="not active") as error:
            run(statement, values)
        assert "key catalog again" in str(error.value.diag.message_hint)
        assert str(values[-1])[2:] not in str(error.value)
    now = allow(door, "customer", "email").search("customer", "email_search")
    with pytest.raises(psycopg.errors.UniqueViolation):
        alice.execute(put, (3, key.seal("ada", 3), now.stored("ada")))
    for wrong in ("\\x", "\\x00", (now.stored("b") or "") + "00", "\\xffffffff" + (now.token("b") or b"").hex()):
        assert sqlstate(lambda wrong=wrong: alice.execute(put, (3, key.seal("b", 3), wrong))) == "55000"
    alice.execute(put, (3, key.seal("b", 3), now.stored("b")))
    assert db.sql("SELECT id FROM customer WHERE email_search = 'b'::text") == [(3,)]
    # The guards let a search column go.
    db.sql("CALL envelope.drop_search('customer', 'email')")
    assert db.sql("SELECT email FROM customer ORDER BY id") == [("ada",), ("alan",), ("b",)]
    db.sql("ALTER TABLE customer DROP COLUMN email")


TRIGGER = """
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER nothing BEFORE INSERT ON t_encrypted FOR EACH ROW EXECUTE FUNCTION nothing()"""
HAS = """
SELECT has_table_privilege('alice', 't_encrypted', 'INSERT'), has_table_privilege('owner', 't_encrypted', 'INSERT')"""


@pytest.mark.parametrize("more", ["SELECT", TRIGGER], ids=["as owner", "as caller"])
@pytest.mark.parametrize("member", [False, True])
def test_a_client_keeps_its_rights_to_the_base_table(door: DoorOfTests, more: str, member: bool) -> None:
    db = door.db
    db.sql("CREATE TABLE t (id int PRIMARY KEY, v text); CALL envelope.protect('t', '[\"v\"]')")
    db.sql(more)
    db.sql("CREATE ROLE sealers ROLE alice")
    db.sql("SELECT envelope.grant_client('t', 'v', %s::regrole)", "sealers" if member else "alice")
    db.sql("GRANT SELECT, INSERT, UPDATE ON t_encrypted TO alice, owner")
    for change in (
        "CALL envelope.refresh('t')",
        "ALTER TABLE t ADD open int",
        "CALL envelope.add_search('t', 'v', '{\"exact\": {\"force\": true}}')",
        "CALL envelope.drop_search('t', 'v')",
    ):
        db.sql(change)
        assert db.sql(HAS) == [(True, False)], change
    db.sql("SELECT envelope.revoke_client('t', 'v', %s::regrole)", "sealers" if member else "alice")
    db.sql("CALL envelope.refresh('t')")
    assert db.sql(HAS) == [(False, False)]
    db.sql("DROP ROLE sealers")


def test_a_watched_column_joins_no_key_that_clients_have(door: DoorOfTests) -> None:
    db = door.db
    shared = '{"search": {"exact": {"key": "mail"}}'
    for name in "abcd":
        db.sql(f"CREATE TABLE {name} (id int PRIMARY KEY, email text)")
    db.sql(f"""CALL envelope.protect('a', '{{"email": {shared}}}}}')""")
    db.sql("SELECT envelope.grant_client_search('a', 'email_search', 'alice')")
    audited = f"""CALL envelope.protect('b', '{{"email": {shared}, "audit": "statement"}}}}')"""
    assert sqlstate(lambda: db.sql(audited)) == "55000"
    db.sql("""CALL envelope.protect('c', '{"email": {"audit": "statement"}}')""")
    db.sql("""CALL envelope.protect('d', '{"email": {}}')""")
    db.sql("SELECT envelope.mask('d', 'email', 'public', 'null', '{\"search\": true}')")
    added = [f"CALL envelope.add_search('{name}', 'email', '{shared[11:]}')" for name in "cd"]
    assert [sqlstate(lambda one=one: db.sql(one)) for one in added] == ["55000", "55000"]
    assert db.sql("SELECT relation::text FROM envelope.searches") == [("a",)]
    db.sql("SELECT envelope.revoke_client_search('a', 'email_search', 'alice')")
    for one in (audited, *added):
        db.sql(one)
    assert sqlstate(lambda: db.sql("SELECT envelope.grant_client_search('a', 'email_search', 'alice')")) == "55000"


@pytest.mark.parametrize("kind", ["float8", "inet"])
def test_what_a_client_cannot_make_is_refused(door: DoorOfTests, kind: str) -> None:
    db = door.db
    db.sql(f"CREATE TABLE customer (id int PRIMARY KEY, email {kind})")
    db.sql("""CALL envelope.protect('customer', '{"email": {"search": "exact"}}')""")
    client = allow(door, "customer", "email")
    with pytest.raises(errors.Unsupported):
        client.search("customer", "email_search")


def test_values_that_do_not_fit_are_refused(door: DoorOfTests) -> None:
    db = door.db
    db.sql("CREATE TABLE customer (id int PRIMARY KEY, email varchar(3))")
    db.sql("""CALL envelope.protect('customer', '{"email": {"search": "exact"}}')""")
    search = allow(door, "customer", "email").search("customer", "email_search")
    for value in (7, b"a", "\0", "\ud800"):
        with pytest.raises(errors.BadInput):
            search.token(value)
    assert search.token("four")
    with pytest.raises(errors.BadInput):
        search.stored("four")
