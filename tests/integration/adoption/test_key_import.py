"""pg-envelope key import: a legacy key from a private file or standard input, which no log ever holds."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.fix_stack import Database
from tests.integration.adoption.fix_legacy import ADOPT, KEY, make_patients

Done = subprocess.CompletedProcess[bytes]


def run(db: Database, name: str, form: str, file: object, given: bytes | None = None) -> Done:
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "200", **db.stack.cluster.environ(db.name, "postgres")}
    command = [str(db.stack.broker.venv / "bin/pg-envelope"), "key", "import", name, "--format", form]
    command += ["--secret-file", str(file)]
    return subprocess.run(command, env=environment, input=given, capture_output=True, timeout=120, check=False)


@pytest.mark.parametrize("from_stdin", [False, True])
def test_a_key_is_taken_over(db: Database, tmp_path: Path, from_stdin: bool) -> None:
    make_patients(db)
    file = tmp_path / "key"
    file.touch(0o600)
    file.write_bytes(KEY + b"\n")
    done = run(db, "from file", "fernet", "-" if from_stdin else file, KEY if from_stdin else None)
    assert done.returncode == 0, done.stderr
    db.sql(ADOPT.replace("'legacy'", "'from file'"))
    assert db.one("SELECT ssn FROM patient WHERE id = 1") == "ssn 1"
    log = db.stack.cluster.log.read_bytes()
    assert b"envelope.import_legacy_key(" in log
    assert KEY not in log + done.stdout + done.stderr


def test_what_is_no_key_is_refused(db: Database, tmp_path: Path) -> None:
    assert run(db, "bad", "hex", "-", b"not hexadecimal").returncode == 1
    assert run(db, "bad", "fernet", "-", b"").returncode != 0
    file = tmp_path / "open"
    file.write_bytes(KEY)
    file.chmod(0o644)
    done = run(db, "bad", "fernet", file)
    assert done.returncode == 1
    assert b"chmod" in done.stderr
    assert db.sql("SELECT name FROM envelope.keys WHERE name = 'bad'") == []
