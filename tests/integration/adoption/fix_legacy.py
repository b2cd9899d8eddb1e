"""Tables with values that an application has encrypted, and their legacy keys."""

from __future__ import annotations

from typing import Any

from cryptography.fernet import Fernet

from tests.fix_stack import Database
from tests.unit.foreign.fix_cases import Case

KEY = Fernet.generate_key()
OTHER_KEY = Fernet.generate_key()
ADOPT = "CALL envelope.adopt('patient', 'ssn', 'fernet', key => 'legacy')"
CONVERT = "CALL envelope.convert('patient')"
FINISH = "CALL envelope.finish_adoption('patient', destroy_key => false)"
BAD_FERNET = Fernet(OTHER_KEY).encrypt(b"of another application").decode()
STORED = "SELECT ssn IS NOT NULL, ssn_legacy IS NOT NULL FROM patient_encrypted WHERE id = %s"
SEALED, LEGACY = (True, False), (False, True)


def token(value: str) -> str:
    """What the application stores for a value."""
    return Fernet(KEY).encrypt(value.encode()).decode()


def import_key(db: Database, name: str, form: str, secret: bytes) -> None:
    db.sql("SELECT envelope.import_legacy_key(%s, %s, %s)", name, form, secret)


def make_patients(db: Database, rows: int = 20, more: str = "") -> None:
    """patient (id, name, ssn) of `owner`, in which ssn is what Fernet wrote, and the legacy key."""
    db.sql(f"CREATE TABLE patient (id int PRIMARY KEY, name text, ssn text NOT NULL{more})")
    db.sql("ALTER TABLE patient OWNER TO owner")
    values = [(i, f"name {i}", token(f"ssn {i}")) for i in range(1, rows + 1)]
    with db.admin.cursor() as cursor, cursor.copy("COPY patient (id, name, ssn) FROM STDIN") as copy:
        for row in values:
            copy.write_row(row)
    import_key(db, "legacy", "fernet", KEY)


def make_case(db: Database, case: Case, kind: str, key: str = "old") -> None:
    """legacy (id, value) with the values of a library, in a column of the type `kind`; `key` is its legacy key."""
    db.sql("DROP TABLE IF EXISTS legacy_encrypted CASCADE; DROP TABLE IF EXISTS legacy")
    db.sql(f"CREATE TABLE legacy (id int PRIMARY KEY, value {kind})")
    for number, value in enumerate(case.values):
        db.sql(f"INSERT INTO legacy VALUES (%s, %s::{kind})", number, value)
    import_key(db, key, case.form, case.secret)


def read(db: Database) -> list[Any]:
    return [value for (value,) in db.sql("SELECT value FROM legacy ORDER BY id")]
