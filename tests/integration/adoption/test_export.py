"""The way out: what export wrote is read by pgcrypto, Fernet and node's layout, and adopted again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from cryptography.fernet import Fernet

from pg_envelope.foreign.keys import parse
from pg_envelope.foreign.presets import reader_of
from tests.fix_stack import Database, Fill
from tests.integration.adoption.fix_legacy import KEY, import_key

PHRASE = "correct horse, Zoë".encode()
NODE_KEY = b"5a" * 32
KEYS = {"pgp_sym": ("text", PHRASE), "fernet": ("fernet", KEY), "node_json": ("hex", NODE_KEY)}
PLAIN = [(1, "Zoë 078-05-1120", b"\x00\xff"), (2, "", b""), (3, None, None), (4, "long " * 500, b"x" * 5000)]


def fill(db: Database) -> None:
    db.sql("CREATE TABLE patient (id int PRIMARY KEY, ssn text, raw bytea, name text NOT NULL DEFAULT 'n')")
    for row in PLAIN:
        db.sql("INSERT INTO patient VALUES (%s, %s, %s)", *row)
    db.sql("GRANT SELECT ON patient TO alice; COMMENT ON COLUMN patient.ssn IS 'why'")
    db.sql("""CALL envelope.protect('patient', '["ssn", "raw"]')""")
    for form, (kind, secret) in KEYS.items():
        import_key(db, form, kind, secret)


@pytest.fixture
def patients(filled: Callable[[Fill], Database]) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(fill)


def read_pgp(db: Database) -> list[tuple[Any, ...]]:
    opened = (
        "SELECT id, public.pgp_sym_decrypt(ssn, %s), public.pgp_sym_decrypt_bytea(raw, %s) FROM patient ORDER BY id"
    )
    db.sql("CREATE EXTENSION IF NOT EXISTS pgcrypto SCHEMA public")
    return db.sql(opened, PHRASE.decode(), PHRASE.decode())


def read_with(opened: Callable[[str], bytes]) -> Callable[[Database], list[tuple[Any, ...]]]:
    def read(db: Database) -> list[tuple[Any, ...]]:
        rows = db.sql("SELECT id, ssn, raw FROM patient ORDER BY id")
        return [(row, ssn and opened(ssn).decode(), raw and opened(raw)) for row, ssn, raw in rows]

    return read


READERS = {
    "pgp_sym": read_pgp,
    "fernet": read_with(lambda value: Fernet(KEY).decrypt(value)),
    "node_json": read_with(reader_of("node_json", parse("hex", NODE_KEY)).open),
}


@pytest.mark.parametrize("form", KEYS)
def test_export_and_back(patients: Database, form: str) -> None:
    patients.sql("""CALL envelope.export('patient', '["ssn", "raw"]', %s, %s)""", form, form)
    assert patients.one("SELECT relkind FROM pg_class WHERE oid = 'patient'::regclass") == "r"
    assert READERS[form](patients) == PLAIN
    assert patients.one("SELECT count(*) FROM patient", user="alice") == len(PLAIN)
    patients.sql("CALL envelope.adopt('patient', '[\"ssn\", \"raw\"]', %s, %s, type => 'bytea')", form, form)
    patients.sql("CALL envelope.finish_adoption('patient', destroy_key => false)")
    assert patients.sql("SELECT id, convert_from(ssn, 'UTF8'), raw FROM patient ORDER BY id") == PLAIN
    patients.sql("""CALL envelope.export('patient', '["ssn", "raw"]', 'fernet', 'fernet')""")
    rows = patients.sql("SELECT id, ssn, raw FROM patient ORDER BY id")
    opened = Fernet(KEY).decrypt
    assert [(row, ssn and opened(ssn).decode(), raw and opened(raw)) for row, ssn, raw in rows] == PLAIN


def test_plain_is_unprotect(patients: Database) -> None:
    patients.sql("CALL envelope.export('patient', 'ssn', 'plain')")
    assert patients.sql("SELECT id, ssn, raw FROM patient ORDER BY id") == PLAIN


REFUSED = {
    "CALL envelope.export('patient', 'ssn', 'fernet', 'fernet')": "0A000",
    "CALL envelope.export('patient', '[\"ssn\", \"raw\", \"name\"]', 'fernet', 'fernet')": "0A000",
    "CALL envelope.export('patient', '[\"ssn\", \"raw\"]', 'fernet', 'pgp_sym')": "22023",
    "CALL envelope.export('patient', '[\"ssn\", \"raw\"]', 'jwe', 'fernet')": "22023",
    "CALL envelope.export('patient', '[\"ssn\", \"raw\"]', 'fernet', 'none')": "42704",
    "SELECT envelope_internal.exported_text('x'::text)": "42501",
}


@pytest.mark.parametrize("call", REFUSED)
def test_what_is_refused_changes_nothing(patients: Database, call: str) -> None:
    with pytest.raises(psycopg.Error) as refused:
        patients.sql(call)
    assert refused.value.sqlstate == REFUSED[call]
    assert patients.sql("SELECT id, ssn, raw FROM patient ORDER BY id") == PLAIN


def test_dependents_and_checks_are_refused(patients: Database) -> None:
    patients.sql("CREATE VIEW over AS SELECT ssn FROM patient")
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        patients.sql("""CALL envelope.export('patient', '["ssn", "raw"]', 'fernet', 'fernet')""")
    assert "over" in str(refused.value.diag.message_detail)


def test_a_value_that_does_not_open_stops_it(patients: Database) -> None:
    patients.sql("UPDATE patient_encrypted SET ssn = (SELECT ssn FROM patient_encrypted WHERE id = 1) WHERE id = 2")
    with pytest.raises(psycopg.Error) as refused:
        patients.sql("""CALL envelope.export('patient', '["ssn", "raw"]', 'fernet', 'fernet')""")
    assert refused.value.sqlstate == "XX001"
    assert patients.one("SELECT ssn FROM patient WHERE id = 1") == PLAIN[0][1]
