"""Adoptions whose format is a named one with a change, and writers that still encrypt meanwhile."""

from __future__ import annotations

import psycopg
import pytest
from Crypto.Cipher import AES
from Crypto.Util.Padding import pad

from tests.fix_stack import Database
from tests.integration.adoption.fix_legacy import import_key

PHRASE, NAMES = b"of the application", ["Zoë", "Jürgen", "Ærø"]
LATIN = '{"format": "pgp_sym", "charset": "iso-8859-1"}'
MYSQL = '{"format": "mysql_aes", "encoding": "hex"}'
SEAL = "SELECT envelope_pgcrypto.pgp_sym_encrypt_bytea(%s, %s)"
ADOPT = "CALL envelope.adopt('person', 'name', %s, key => 'old', accept_unauthenticated => true)"
IS_VIEW = "SELECT relkind = 'v' FROM pg_class WHERE oid = 'person'::regclass"


def make(db: Database, kind: str, values: list[str] | list[bytes]) -> None:
    db.sql(f"CREATE TABLE person (id int PRIMARY KEY, name {kind})")
    for number, value in enumerate(values):
        db.sql("INSERT INTO person VALUES (%s, %s)", number, value)
    import_key(db, "old", "text", PHRASE)


def read(db: Database) -> list[str]:
    return [name for (name,) in db.sql("SELECT name FROM person ORDER BY id")]


def latin(db: Database, name: str) -> bytes:
    """A text that pgcrypto encrypted where the encoding was LATIN1."""
    return bytes(db.one(SEAL, name.encode("iso-8859-1"), PHRASE.decode()))


def mysql(name: str) -> str:
    key = bytes(a ^ b for a, b in zip(PHRASE.ljust(32, b"\0")[:16], PHRASE.ljust(32, b"\0")[16:], strict=True))
    return AES.new(key, AES.MODE_ECB).encrypt(pad(name.encode(), 16)).hex()


def test_openpgp_of_a_latin_database(db: Database) -> None:
    make(db, "bytea", [latin(db, name) for name in NAMES])
    db.sql(ADOPT, LATIN)
    assert read(db) == NAMES
    db.sql("UPDATE person SET name = 'Åse' WHERE id = 1")
    db.sql("UPDATE person SET name = convert_from(%s, 'LATIN1') WHERE id = 2", "Ærøskøbing".encode("iso-8859-1"))
    db.sql("CALL envelope.convert('person')")
    db.sql("CALL envelope.finish_adoption('person', destroy_key => false)")
    assert read(db) == ["Zoë", "Åse", "Ærøskøbing"]


def test_texts_of_another_charset_are_not_adopted_by_accident(db: Database) -> None:
    make(db, "bytea", [latin(db, name) for name in NAMES])
    with pytest.raises(psycopg.Error) as refused:
        db.sql(ADOPT, "pgp_sym")
    assert refused.value.sqlstate == "22023"
    assert "charset" in (refused.value.diag.message_hint or "")
    assert not db.one(IS_VIEW)
    told = db.one(
        "SELECT detail FROM envelope.inspect('person', 'name', key => 'old') WHERE format = 'pgp_sym' AND opens = 1"
    )
    assert told == "100 % of those that open are no texts in UTF-8: they need charset, or type => 'bytea'"


def test_bytes_are_adopted_in_any_charset(db: Database) -> None:
    make(db, "bytea", [latin(db, name) for name in NAMES])
    db.sql(ADOPT.replace("key =>", "type => 'bytea', key =>"), "pgp_sym")
    assert [bytes(name) for name in read(db)] == [name.encode("iso-8859-1") for name in NAMES]


def test_mysql(db: Database) -> None:
    make(db, "text", [mysql(name) for name in NAMES])
    db.sql(ADOPT, MYSQL)
    assert read(db) == NAMES
    db.sql("UPDATE person SET name = %s WHERE id = 0", mysql("still encrypted"))
    db.sql("UPDATE person SET name = %s WHERE id = 1", "in the clear")
    db.sql("CALL envelope.convert('person')")
    assert read(db) == ["still encrypted", "in the clear", "Ærø"]
