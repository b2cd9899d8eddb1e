"""A database with one of everything that protects: what it holds, and what must hold of it wherever it is restored."""

from __future__ import annotations

from typing import Any

import psycopg

ODD = '"Größe ""x"" y"'
MARK = "PLAINTEXT-9f3b"

TABLES = f"""
GRANT CREATE ON SCHEMA public TO owner;
CREATE TABLE customer (id int PRIMARY KEY, email text, born date, note text DEFAULT 'none');
INSERT INTO customer SELECT i, '{MARK}-' || i, date '1970-01-01' + i FROM generate_series(1, 50) i;
CREATE SCHEMA "Odd Schema" AUTHORIZATION owner;
SET ROLE owner;
CREATE TABLE "Odd Schema".{ODD} ("Nr ""1"" x" text, b int, "Na me" varchar(60), PRIMARY KEY ("Nr ""1"" x", b));
INSERT INTO "Odd Schema".{ODD} VALUES ('ä', 1, '{MARK}'), ('', 2, NULL);
CREATE TABLE message (id int PRIMARY KEY, reader text, body text);
INSERT INTO message VALUES (1, 'alice', '{MARK} for alice'), (2, 'bob', '{MARK} for bob');
ALTER TABLE message ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON message USING (reader = current_user);
GRANT SELECT ON message TO alice, bob;
"""


def build(connection: psycopg.Connection[Any]) -> None:
    """Tables of a superuser and of `owner`, with and without row security, named keys, both stores, old versions."""
    connection.execute(TABLES)
    connection.execute("RESET ROLE")
    connection.execute("""CALL envelope.protect('customer', '["email", "born"]')""")
    connection.execute(f"""CALL envelope.protect('"Odd Schema".{ODD}', '["Na me"]', store => 'catalog')""")
    connection.execute("""CALL envelope.protect('message', '{"body": {"pad": true}}')""")
    connection.execute("GRANT SELECT, INSERT ON customer TO alice")
    connection.execute("CREATE TABLE secret (name text PRIMARY KEY, value envelope.ciphertext)")
    for name, store in (('Pass "word"', "vault"), ("café", "catalog")):
        connection.execute("SELECT envelope.create_key(%s, store => %s)", [name, store])
        connection.execute("SELECT envelope.grant_key(%s, 'alice')", [name])
        _keep(connection, name, f"{MARK} 1")
        connection.execute("SELECT envelope.rotate_key(%s)", [name])
    for old in (51, 52):
        connection.execute("SELECT envelope.rotate('customer')")
        connection.execute("INSERT INTO customer VALUES (%s, %s)", [old, f"{MARK}-{old}"])
    connection.execute("GRANT SELECT, INSERT ON secret TO alice")


def _keep(connection: psycopg.Connection[Any], name: str, value: str) -> None:
    connection.execute("INSERT INTO secret VALUES (%s, envelope.encrypt(%s, %s, 'here'))", [name, value, name])


def assert_readable(connection: psycopg.Connection[Any]) -> None:
    """Every value reads as it was written."""
    customers = connection.execute("SELECT id, email, born::text, note FROM customer ORDER BY id").fetchall()
    assert [row[1] for row in customers] == [f"{MARK}-{i}" for i in range(1, 53)]
    assert customers[0] == (1, f"{MARK}-1", "1970-01-02", "none")
    odd = connection.execute(f'SELECT * FROM "Odd Schema".{ODD} ORDER BY b').fetchall()
    assert odd == [("ä", 1, MARK), ("", 2, None)]
    secrets = connection.execute("SELECT envelope.decrypt(value, 'here') FROM secret").fetchall()
    assert secrets == [(f"{MARK} 1",), (f"{MARK} 1",)]


def assert_rights(connection: psycopg.Connection[Any]) -> None:
    """Row security filters, grants of tables and of named keys hold; run as alice."""
    assert connection.execute("SELECT * FROM message").fetchall() == [(1, "alice", f"{MARK} for alice")]
    assert connection.execute("SELECT count(email) FROM customer").fetchall() == [(52,)]
    assert len(connection.execute("SELECT envelope.decrypt(value, 'here') FROM secret").fetchall()) == 2


def assert_goes_on(connection: psycopg.Connection[Any]) -> None:
    """Writes, updates and the next rotation work, with ids that nobody has had."""
    highest = connection.execute("SELECT max(dek_id), max(key_ids[1]) FROM envelope.keys").fetchone()
    connection.execute("INSERT INTO customer (id, email) VALUES (100, 'new')")
    connection.execute("UPDATE customer SET email = 'changed' WHERE id = 1")
    connection.execute(f'UPDATE "Odd Schema".{ODD} SET "Na me" = \'changed\' WHERE b = 2')
    assert connection.execute("SELECT envelope.rotate('customer')").fetchone() == (4,)
    assert connection.execute("SELECT envelope.rotate_key('café')").fetchone() == (3,)
    connection.execute("CALL envelope.reencrypt('customer')")
    found = connection.execute("SELECT id, email FROM customer WHERE id IN (1, 2, 100) ORDER BY id").fetchall()
    assert found == [(1, "changed"), (2, f"{MARK}-2"), (100, "new")]
    after = connection.execute("SELECT max(dek_id), max(key_ids[1]) FROM envelope.keys").fetchone()
    assert highest is not None
    assert after is not None
    assert after[0] > highest[0]
    assert after[1] > highest[1]


def not_ok(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """The checks of envelope.status() that are not ok."""
    return connection.execute("SELECT check_name, detail FROM envelope.status() WHERE state <> 'ok'").fetchall()
