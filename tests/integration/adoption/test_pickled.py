"""Pickled fields of django-cryptography: PostgreSQL reads what the view shows of them as their types."""

from __future__ import annotations

import hashlib
import hmac
import os
import pickle
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from tests.fix_stack import Database
from tests.integration.adoption.fix_legacy import import_key, read

SECRET = b"django secret key"
KEY = hashlib.pbkdf2_hmac("sha256", SECRET, b"django-cryptography", 30000, 32)
VALUES = {
    "date": date(1999, 12, 31),
    "timestamptz": datetime(2026, 11, 27, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=-3))),
    "interval": timedelta(-1, 3, 4),
    "numeric": Decimal("1E+10"),
    "uuid": UUID(int=77),
    "integer": 42,
}


def token(content: bytes) -> bytes:
    """What the library stores for a pickle."""
    iv, padder = os.urandom(16), PKCS7(128).padder()
    stream = Cipher(algorithms.AES(KEY), modes.CBC(iv)).encryptor()
    sealed = stream.update(padder.update(content) + padder.finalize()) + stream.finalize()
    signed = b"\x80" + bytes(8) + iv + sealed
    return signed + hmac.digest(SECRET, signed, "sha256")


def test_pickled_fields_are_adopted(db: Database) -> None:
    db.sql("CREATE TABLE legacy (id int PRIMARY KEY, value bytea)")
    for number, value in enumerate(VALUES.values()):
        db.sql("INSERT INTO legacy VALUES (%s, %s)", number, token(pickle.dumps(value)))
    hostile = b"cos\nsystem\nS'id'\n\x85R."
    db.sql("INSERT INTO legacy VALUES (100, %s)", token(hostile))
    import_key(db, "old", "django", b"another\n" + SECRET)
    db.sql("CALL envelope.adopt('legacy', 'value', 'django_cryptography', 'old')")
    with pytest.raises(psycopg.errors.DataCorrupted):
        read(db)
    for statement in ("SELECT", "CALL envelope.convert('legacy')"):
        db.sql(statement)
        found = [
            db.one(f"SELECT value::{kind} FROM legacy WHERE id = %s", number) for number, kind in enumerate(VALUES)
        ]
        assert found == list(VALUES.values())
    assert db.sql('SELECT "left", refused FROM envelope.adoption') == [(1, 1)]
