"""An application of Django with a field of Fernet, led through an adoption: its pages answer alike in each state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fix_stack import Database
from tests.integration.adoption.fix_legacy import KEY, import_key

SITE = Path(__file__).parent / "clinic_site"
INSPECT = (
    "SELECT format, opens FROM envelope.inspect('clinic_patient', 'number', key => 'clinic') WHERE opens IS NOT NULL"
)
ADOPT = "CALL envelope.adopt('clinic_patient', 'number', 'fernet', key => 'clinic')"
CONVERT = "CALL envelope.convert('clinic_patient')"
FINISH = "CALL envelope.finish_adoption('clinic_patient', destroy_key => false)"
STORED = """
SELECT number IS NOT NULL, to_jsonb(e) ->> 'number_legacy' IS NOT NULL FROM clinic_patient_encrypted e WHERE name = %s
"""
SEALED, LEGACY = (True, False), (False, True)


def run(db: Database, release: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs the application as it was before ("old") or after ("new") it left encryption to the database."""
    place = {name: value for name, value in db.stack.environ().items() if name in ("PGHOST", "PGPORT")}
    told = {"CLINIC_ENCRYPTS": "yes" if release == "old" else "no", "CLINIC_KEY": KEY.decode()}
    site = {"SITE_DATABASE": db.name, "SITE_USER": "owner", "PYTHONPATH": str(SITE)}
    return subprocess.run(
        [sys.executable, SITE / "browse.py", *command],
        env={**os.environ, **place, **told, **site},
        capture_output=True,
        text=True,
        check=False,
    )


def did(db: Database, release: str, *command: str) -> str:
    done = run(db, release, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answers(db: Database, release: str) -> Any:
    return json.loads(did(db, release, "read"))


@pytest.fixture
def clinic(db: Database) -> Database:
    db.sql("GRANT CREATE ON SCHEMA public TO owner")
    did(db, "old", "begin")
    import_key(db, "clinic", "fernet", KEY)
    return db


def test_an_application_is_led_through(clinic: Database) -> None:
    db = clinic
    before = answers(db, "old")
    assert before[0]["/patients/ada/"] == {"number": "078-05-1120", "visits": ["of ada"]}
    assert db.one("SELECT number FROM clinic_patient WHERE name = 'ada'").startswith("gAAAA")
    assert db.sql(INSPECT) == [("fernet", 1)]
    db.sql(ADOPT)
    assert answers(db, "new") == before

    # A process of the old release still runs, and writes tokens through the view.
    did(db, "old", "write", "late", "of the old release", "then", "write", "p1", "changed by the old release")
    did(db, "new", "write", "p2", "changed by the new release", "then", "rename", "p3", "q3")
    late = [db.sql(STORED, name) for name in ("late", "p1", "p2", "q3", "p4")]
    assert late == [[SEALED], [SEALED], [SEALED], [LEGACY], [LEGACY]]
    amid = answers(db, "new")
    numbers = dict(amid[0]["/patients/"]["patients"])
    written = {"late": "of the old release", "p1": "changed by the old release", "p2": "changed by the new release"}
    assert {name: numbers[name] for name in written} == written
    assert numbers["q3"] == "no 3"
    # It cannot read any more: that is why the new release is deployed at the moment of `adopt`.
    assert "InvalidToken" in run(db, "old", "read").stderr

    for statement in (CONVERT, FINISH):
        db.sql(statement)
        assert answers(db, "new") == amid
    assert db.one("SELECT count(*) FROM clinic_patient_encrypted WHERE number IS NULL AND name <> 'kurt'") == 0
    written_last = json.loads(did(db, "new", "write", "p5", "after it all", "then", "read"))
    assert dict(written_last[0]["/patients/"]["patients"])["p5"] == "after it all"
    assert "gAAAA" not in str(db.sql("SELECT * FROM clinic_patient"))
