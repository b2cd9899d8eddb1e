"""A table whose stored envelopes are damaged in every way that its domain lets pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database, Fill

ROWS = 40
# What becomes of an envelope `e`, and the word for it. The table has two columns; `o` is the same row's other one.
DAMAGES = {
    "a flipped bit of the tag": (
        "set_byte(e, octet_length(e) - 1, get_byte(e, octet_length(e) - 1) # 1)",
        "does not open",
    ),
    "a flipped bit of the ciphertext": ("set_byte(e, 19, get_byte(e, 19) # 128)", "does not open"),
    "a flipped bit of the nonce": ("set_byte(e, 7, get_byte(e, 7) # 4)", "does not open"),
    "cut": ("substr(e, 1, octet_length(e) - 3)", "does not open"),
    "longer": (r"e || '\x00'", "does not open"),
    "another suite": ("set_byte(e, 1, 3)", "does not open"),
    "padded": ("set_byte(e, 1, 129)", "does not open"),
    "another row's": ("(SELECT x.body FROM letter_encrypted x WHERE x.id = 1)", "does not open"),
    "like plaintext": (r"substr(e, 1, 6) || convert_to('once upon a time there was a king', 'UTF8')", "does not open"),
    "zeros": (r"substr(e, 1, 6) || decode(repeat('00', 40), 'hex')", "does not open"),
    "an unknown key id": (r"overlay(e placing '\xdeadbeef'::bytea from 3 for 4)", "key unknown"),
    "another column's": ("o", "key unknown"),
}
SET = (
    "UPDATE letter_encrypted SET body = (SELECT {} FROM (SELECT body::bytea AS e, head::bytea AS o) AS d) WHERE id = %s"
)
FAULTS = "SELECT row_key ->> 'id', reason FROM envelope.faults ORDER BY (row_key ->> 'id')::int"


def damage(db: Database, how: str, row: int) -> None:
    db.sql(SET.format(DAMAGES[how][0]), row)


def put_back(db: Database, envelope: bytes, row: int) -> None:
    """As a loader does: the base table takes no envelope of an old key from anybody else."""
    db.sql("SET session_replication_role = replica")
    db.sql("UPDATE letter_encrypted SET body = %s WHERE id = %s", envelope, row)
    db.sql("RESET session_replication_role")


def damage_all(db: Database) -> dict[int, str]:
    """One row for each kind, from row 11 on; the word for each."""
    for row, how in enumerate(DAMAGES, 11):
        damage(db, how, row)
    return {row: reason for row, (_, reason) in enumerate(DAMAGES.values(), 11)}


def stored(db: Database, rows: dict[int, str]) -> list[tuple[Any, ...]]:
    return db.sql("SELECT id, body, head FROM letter_encrypted WHERE id = ANY (%s) ORDER BY id", list(rows))


def readable(db: Database, bad: dict[int, str]) -> list[tuple[Any, ...]]:
    return db.sql("SELECT id, head, body FROM letter WHERE id <> ALL (%s) ORDER BY id", list(bad))


def as_written(bad: dict[int, str]) -> list[tuple[int, str, str]]:
    return [(i, f"head {i}", f"body {i}") for i in range(1, ROWS + 1) if i not in bad]


def old(db: Database) -> list[int]:
    """Rows whose body is not under its newest key."""
    return [
        row[0]
        for row in db.sql("""
            SELECT id FROM letter_encrypted WHERE substr(body, 1, 6) <> (
                SELECT substr(seal, 17) FROM envelope_private.capability
                JOIN envelope_private.field f USING (field_uuid) JOIN envelope_private.key k USING (key_uuid)
                WHERE f.attname = 'body' AND k.base = 'letter_encrypted'::regclass) ORDER BY id""")
    ]


def told(connection: psycopg.Connection[Any], statement: str) -> list[tuple[str, str, str]]:
    """Severity, text and HINT of what a statement tells."""
    found: list[tuple[str, str, str]] = []
    connection.add_notice_handler(
        lambda report: found.append((report.severity or "", report.message_primary or "", report.message_hint or ""))
    )
    connection.execute(statement)
    return found


def fill_letters(db: Database) -> None:
    """letter (id, head, body), all of it under an old key version."""
    db.sql("CREATE TABLE letter (id int PRIMARY KEY, head text, body text NOT NULL)")
    db.sql(f"INSERT INTO letter SELECT i, 'head ' || i, 'body ' || i FROM generate_series(1, {ROWS}) i")
    # In this store a key can be shredded: the broker may not delete in the KMS here.
    db.sql("""CALL envelope.protect('letter', '["head", "body"]', store => 'catalog')""")
    db.sql("SELECT envelope.rotate('letter')")


@pytest.fixture
def letters(filled: Callable[[Fill], Database]) -> Database:
    """A copy, for tests that neither destroy nor suspend a key."""
    return filled(fill_letters)


@pytest.fixture
def own_letters(db: Database) -> Database:
    """The same with keys of its own."""
    fill_letters(db)
    return db


# A value of 8 kB lies in the TOAST relation, whatever compression could do: its envelope looks random.
LONG = "repeat('a long body ', 700)"
TOAST = "SELECT reltoastrelid::regclass FROM pg_class WHERE oid = 'scroll_encrypted'::regclass"
CHUNKS = """
SELECT array_agg(c.ctid) FROM {toast} c
WHERE c.chunk_id = (SELECT max(x.chunk_id) FROM {toast} x) AND {which}"""


def fill_scrolls(db: Database) -> None:
    """scroll (id, head, body, n): eight rows under an old key version; the body of the last one is stored apart."""
    db.sql("CREATE EXTENSION pg_surgery")
    db.sql("CREATE TABLE scroll (id int PRIMARY KEY, head text, body text, n int, note text)")
    db.sql(f"INSERT INTO scroll SELECT i, 'head ' || i, {LONG} || i, i, 'note ' || i FROM generate_series(1, 8) i")
    db.sql("""CALL envelope.protect('scroll', '["head", "body", "n"]', store => 'catalog')""")


@pytest.fixture
def scrolls(filled: Callable[[Fill], Database]) -> Database:
    """A copy, for tests that neither destroy nor suspend a key."""
    return filled(fill_scrolls)


def lose_storage(db: Database, row: int, which: str = "c.chunk_seq > 0") -> None:
    """Chunks of the stored bytes of a row's body are gone. Written last, they have the greatest number."""
    db.sql("UPDATE scroll SET body = body || ' ' WHERE id = %s", row)
    toast = db.one(TOAST)
    places = db.one(CHUNKS.format(toast=toast, which=which))
    db.sql(f"SELECT heap_force_kill('{toast}', %s::tid[])", places)


SEALED = """
UPDATE scroll_encrypted t SET {column} = envelope_internal.encrypt_bytea(%s::bytea, c.seal, t.id::text)
FROM envelope_private.capability c JOIN envelope_private.field f USING (field_uuid)
WHERE f.attname = '{column}' AND t.id = %s"""


def seal_bytes(db: Database, column: str, content: bytes, row: int) -> None:
    """An envelope that opens, with any bytes in it: as whoever has the key can make it."""
    db.sql(SEALED.format(column=column), content, row)
