"""Writes through the view of a column that is being adopted: nothing is encrypted twice, and no value is lost."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.adoption.fix_legacy import (
    BAD_FERNET,
    CONVERT,
    FINISH,
    LEGACY,
    SEALED,
    STORED,
    import_key,
    token,
)

READ = "SELECT ssn FROM patient WHERE id = %s"


def stored(db: Database, row: int) -> tuple[bool, bool]:
    (found,) = db.sql(STORED, row)
    return found


def test_new_values_are_envelopes(patients: Database, alice: psycopg.Connection[Any]) -> None:
    alice.execute("INSERT INTO patient VALUES (50, 'new', 'in the clear')")
    assert stored(patients, 50) == SEALED
    assert alice.execute(READ, [50]).fetchone() == ("in the clear",)


def test_what_the_application_encrypted_is_not_encrypted_twice(
    patients: Database, alice: psycopg.Connection[Any]
) -> None:
    alice.execute("INSERT INTO patient VALUES (50, 'new', %s)", [token("once")])
    alice.execute("UPDATE patient SET ssn = %s WHERE id = 3", [token("again")])
    assert [alice.execute(READ, [row]).fetchone() for row in (50, 3)] == [("once",), ("again",)]
    assert stored(patients, 50) == stored(patients, 3) == SEALED


def test_ciphertext_of_another_key_is_refused(patients: Database, alice: psycopg.Connection[Any]) -> None:
    for statement in ("INSERT INTO patient VALUES (50, 'new', %s)", "UPDATE patient SET ssn = %s WHERE id = 3"):
        with pytest.raises(psycopg.Error, match="encrypted already") as refused:
            alice.execute(statement, [BAD_FERNET])
        assert refused.value.sqlstate == "22023"
        assert BAD_FERNET not in str(refused.value)
    assert patients.one(READ, 3) == "ssn 3"


def test_an_update_of_another_column_leaves_the_old_value(patients: Database, alice: psycopg.Connection[Any]) -> None:
    alice.execute("UPDATE patient SET name = 'changed' WHERE id = 3")
    assert stored(patients, 3) == LEGACY
    assert alice.execute(READ, [3]).fetchone() == ("ssn 3",)


def test_an_update_of_the_key_leaves_the_old_value(patients: Database, alice: psycopg.Connection[Any]) -> None:
    alice.execute("UPDATE patient SET id = 300 WHERE id = 3")
    assert stored(patients, 300) == LEGACY
    patients.sql(CONVERT)
    assert alice.execute(READ, [300]).fetchone() == ("ssn 3",)


def test_an_update_with_the_same_value_changes_nothing(patients: Database, alice: psycopg.Connection[Any]) -> None:
    alice.execute("UPDATE patient SET ssn = ssn, name = name WHERE id = 3")
    assert stored(patients, 3) == LEGACY


def test_an_update_of_the_value_makes_an_envelope(patients: Database, alice: psycopg.Connection[Any]) -> None:
    alice.execute("UPDATE patient SET ssn = ssn || '!' WHERE id = 3")
    assert stored(patients, 3) == SEALED
    assert alice.execute(READ, [3]).fetchone() == ("ssn 3!",)


def test_null_is_refused_where_it_was(patients: Database, alice: psycopg.Connection[Any]) -> None:
    for statement in ("INSERT INTO patient VALUES (50, 'new', NULL)", "UPDATE patient SET ssn = NULL WHERE id = 3"):
        with pytest.raises(psycopg.errors.NotNullViolation):
            alice.execute(statement)
    with pytest.raises(psycopg.IntegrityError):
        patients.sql("UPDATE patient_encrypted SET ssn_legacy = NULL WHERE id = 4")


def test_a_concurrent_update_is_noticed(patients: Database) -> None:
    with patients.connect("alice") as first, patients.connect("alice") as second:
        first.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(ssn) FROM patient")
        second.execute("UPDATE patient SET ssn = 'theirs' WHERE id = 3")
        with pytest.raises(psycopg.errors.SerializationFailure):
            first.execute("UPDATE patient SET ssn = ssn || ' mine' WHERE id = 3")
    assert patients.one(READ, 3) == "theirs"


def test_values_that_do_not_open_stay_until_somebody_mends_them(
    patients: Database, alice: psycopg.Connection[Any]
) -> None:
    patients.sql("UPDATE patient_encrypted SET ssn_legacy = %s WHERE id IN (4, 5)", BAD_FERNET)
    patients.sql(CONVERT)
    assert patients.sql('SELECT "left", refused FROM envelope.adoption') == [(2, 2)]
    faults = "SELECT row_key ->> 'id', reason FROM envelope.faults ORDER BY 1"
    assert patients.sql(faults) == [(key, "legacy value does not open") for key in ("4", "5")]
    with pytest.raises(psycopg.Error, match="2 old values") as refused:
        patients.sql(FINISH)
    assert refused.value.sqlstate == "55000"
    with pytest.raises(psycopg.errors.DataCorrupted):
        alice.execute(READ, [4])
    alice.execute("UPDATE patient SET ssn = 'mended' WHERE id = 4")
    alice.execute("DELETE FROM patient WHERE id = 5")
    patients.sql(FINISH)
    assert alice.execute(READ, [4]).fetchone() == ("mended",)
    assert patients.one("SELECT count(*) FROM patient WHERE ssn = 'ssn ' || id") == 18
    assert patients.sql("SELECT * FROM envelope.faults") == []


def test_a_value_that_only_looks_alike_is_written_as_it_is(db: Database) -> None:
    """An API token is base64, too. Only a layout with a mark refuses what its key does not open."""
    db.sql("CREATE TABLE patient (id int PRIMARY KEY, ssn text)")
    import_key(db, "legacy", "hex", b"11" * 32)
    db.sql("CALL envelope.adopt('patient', 'ssn', 'joined_iv_ct_tag', 'legacy')")
    secret = "Q2FuIHlvdSByZWFkIHRoaXM/IFRoZW4gaXQgaXMgYmFzZTY0LCBhbmQgbm90aGluZyBlbHNl"
    db.sql("INSERT INTO patient VALUES (1, %s), (2, '8f14e45f-ceea-467f-a0e6-b1a5c3c1f1b9'), (3, NULL)", secret)
    assert db.sql("SELECT ssn FROM patient ORDER BY id") == [
        (secret,),
        ("8f14e45f-ceea-467f-a0e6-b1a5c3c1f1b9",),
        (None,),
    ]
