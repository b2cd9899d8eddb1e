"""pg-envelope secret set without a broker: the server seals it, and neither SQL text nor the server's log holds it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.fix_stack import Database

from .conftest import RAW

Done = subprocess.CompletedProcess[str]


def run(db: Database, *words: object, user: str = "postgres") -> Done:
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "200", **db.stack.cluster.environ(db.name, user)}
    command = [str(db.stack.broker.venv / "bin/pg-envelope"), "secret", "set", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(0o600)
    return path


def test_a_passphrase(db: Database, file: Path) -> None:
    file.write_text("pass phrase, Zoë\n")
    done = run(db, "pii", "--secret-file", file)
    assert done.returncode == 0, done.stderr
    assert "envelope.secret('pii')" in done.stdout
    assert db.one("SELECT envelope.secret('pii')::text") == "pass phrase, Zoë"
    log = db.stack.cluster.log.read_text()
    assert "envelope.import_secret(" in log
    assert "pass phrase" not in log + done.stdout + done.stderr


def test_a_raw_key_and_its_next_version(db: Database, file: Path) -> None:
    file.write_bytes(RAW + b"\n")
    assert run(db, "raw", "--secret-file", file, "--bytes").returncode == 0
    assert db.one("SELECT envelope.secret('raw')::bytea") == RAW + b"\n"
    file.write_bytes(RAW)
    assert run(db, "raw", "--secret-file", file, "--bytes").returncode == 0
    assert db.one("SELECT envelope.secret('raw', 2)::bytea") == RAW
    assert "\\\\x000102" not in db.stack.cluster.log.read_text()


def test_a_file_that_others_may_read_is_refused(db: Database, file: Path) -> None:
    file.write_text("x")
    file.chmod(0o640)
    done = run(db, "pii", "--secret-file", file)
    assert done.returncode == 1
    assert "chmod 0600" in done.stderr
    assert db.sql("TABLE envelope.secrets") == []


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"a\0b"])
def test_what_is_no_passphrase_is_refused(db: Database, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert run(db, "pii", "--secret-file", file).returncode in (1, 2)
    assert db.sql("TABLE envelope.secrets") == []


def test_a_role_that_cannot_keep_the_log_silent_is_refused(db: Database, file: Path) -> None:
    file.write_text("never shown")
    db.sql("GRANT EXECUTE ON FUNCTION envelope.import_secret(text, text, text, text) TO alice")
    done = run(db, "pii", "--secret-file", file, user="alice")
    assert done.returncode == 1
    assert "log_parameter_max_length" in done.stderr
    assert "never shown" not in db.stack.cluster.log.read_text()
    db.sql("GRANT SET ON PARAMETER log_parameter_max_length TO alice")
    try:
        assert "log_parameter_max_length" not in run(db, "pii", "--secret-file", file, user="alice").stderr
    finally:
        db.sql("REVOKE SET ON PARAMETER log_parameter_max_length FROM alice")
    assert "never shown" not in db.stack.cluster.log.read_text()


def test_no_file(db: Database, tmp_path: Path) -> None:
    done = run(db, "pii", "--secret-file", tmp_path / "none")
    assert done.returncode == 1
    assert "cannot read" in done.stderr
