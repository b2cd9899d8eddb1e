"""The command as somebody needs it who was woken up: what it shows in a pipe, what it asks, and whom it asks as."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.stack import Stack
from tests.fix_stack import Database

from .test_commands import Command, command

__all__ = ["command"]

PASSWORD = "Kx 7'\\ü"
PATIENCE_SECONDS = 60.0


@pytest.fixture
def visits(db: Database) -> Database:
    """A table with tenants, one that shares its keys, and one with a key for all rows."""
    db.sql("CREATE TABLE visit (id int PRIMARY KEY, clinic text NOT NULL, note text)")
    db.sql("CREATE TABLE bill (id int PRIMARY KEY, clinic text NOT NULL, iban text)")
    db.sql("CREATE TABLE card (id int PRIMARY KEY, secret text)")
    by_clinic = "scope => 'tenant', scope_column => 'clinic'"
    db.sql(f"""CALL envelope.protect('visit', '["note"]', store => 'catalog', {by_clinic})""")
    db.sql(f"""CALL envelope.protect('bill', '["iban"]', scope_of => 'visit', {by_clinic})""")
    db.sql("""CALL envelope.protect('card', '["secret"]')""")
    db.sql("INSERT INTO visit SELECT i, 'clinic ' || i % 2, 'note' FROM generate_series(1, 7) i")
    db.sql("INSERT INTO bill VALUES (1, 'clinic 1', 'DE1'), (2, 'clinic 0', 'DE2')")
    db.sql("INSERT INTO card VALUES (1, 'x')")
    return db


def test_a_pipe_shows_every_row_whole(visits: Database, stack: Stack) -> None:
    for _ in range(3):
        visits.sql("SELECT envelope.rotate('card')")
    for version in (1, 2, 3):
        visits.sql("SELECT envelope.compromise('card', %s)", version)
    listed = Command(stack, visits.name).run("key", "list", COLUMNS="80").out.splitlines()
    assert len([line for line in listed if "compromised" in line]) == 3
    for tenant in ("clinic 0", "clinic 1"):
        assert len([line for line in listed if tenant in line and "visit" in line]) == 1


def shred(database: Database, answer: str, *words: object) -> subprocess.CompletedProcess[str]:
    stack = database.stack
    command = Command(stack, database.name)
    return subprocess.run(
        [command.program, "shred", *map(str, words), "--reason", "asked for"],
        env=command.environment,
        input=answer,
        capture_output=True,
        text=True,
        check=False,
    )


def test_shred_names_database_server_rows_and_subject(visits: Database, tmp_path: Path) -> None:
    subject = tmp_path / "subject"
    subject.write_text("clinic 1\n")
    cluster = visits.stack.cluster
    before = cluster.log.stat().st_size
    done = shred(visits, "n\n", "visit", "--subject-file", subject)
    assert done.returncode == 1
    assert f"database {visits.name} on {cluster.socket_directory} port {cluster.port}, as postgres" in done.stderr
    assert "'clinic 1' in visit" in done.stderr
    assert "public.visit: 4 rows" in done.stderr
    assert "public.bill: 1 rows" in done.stderr
    assert visits.one("SELECT count(note) FROM visit") == 7
    assert b"clinic 1" not in cluster.log.read_bytes()[before:]
    assert shred(visits, "y\n", "visit", "--subject-file", subject).returncode == 0
    assert visits.one("SELECT count(note) FROM visit WHERE clinic = 'clinic 0'") == 3


def test_shred_of_a_table_and_of_a_named_key_say_so(visits: Database) -> None:
    done = shred(visits, "", "card")
    assert ("public.card: 1 rows" in done.stderr, done.returncode) == (True, 1)
    visits.sql("SELECT envelope.create_key('k')")
    assert "the named key k" in shred(visits, "", "k", "--as", "key").stderr
    assert visits.sql("SELECT secret FROM card") == [("x",)]


def test_shred_that_makes_no_sense_is_told_before_it_asks(visits: Database, tmp_path: Path) -> None:
    for words in (("visit",), ("card", "--subject-file", "-")):
        done = shred(visits, "somebody\n", *words)
        assert (done.returncode, "Go on?" in done.stderr) == (1, False)
        assert "a tenant or subject is for tables that have a key for each of them" in done.stderr


def test_suspended_keys_show(visits: Database, stack: Stack) -> None:
    command = Command(stack, visits.name)
    assert [row["state"] for row in command.rows("status") if row["check_name"] == "suspended"] == ["ok"]
    command.done("suspend", "visit", "clinic 1", "--reason", "contract ended")
    visits.sql("SELECT envelope.create_key('lent')")
    visits.sql("CALL envelope.suspend_key('lent', 'returned')")
    told = command.done("status", "--json").out
    (row,) = [row for row in json.loads(told) if row["check_name"] == "suspended"]
    assert row["state"] == "warning"
    assert row["detail"].endswith(": lent (DEKs: 1), public.visit (clinic 1)")
    assert "envelope.unsuspend" in row["hint"]


@pytest.fixture
def dba(db: Database) -> Iterator[str]:
    db.sql(f"CREATE ROLE dba SUPERUSER LOGIN PASSWORD $${PASSWORD}$$")
    yield "dba"
    db.sql("DROP ROLE dba")


def typed(command: list[str], environment: dict[str, str], prompts: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    """Exit code and screen of a command on a terminal, where somebody answers each prompt."""
    main, terminal = pty.openpty()
    with subprocess.Popen(command, env=environment, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        screen, end = b"", time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end and (chunk := _read(main)) is not None:
            screen += chunk
            if prompts and prompts[0][0] in screen:
                os.write(main, prompts.pop(0)[1] + b"\n")
        code = process.wait(PATIENCE_SECONDS)
    os.close(main)
    return code, screen


def _read(terminal: int) -> bytes | None:
    """What has come; None once the other side is closed."""
    try:
        ready, _, _ = select.select([terminal], [], [], 0.1)
        return os.read(terminal, 65536) if ready else b""
    except OSError:
        return None


@pytest.mark.parametrize("asked", [(), ("-W",)], ids=["the server asks", "-W"])
def test_a_password_is_asked_for_and_never_shown(command: Command, dba: str, asked: tuple[str, ...]) -> None:
    cluster = command.stack.cluster
    words = ["key", "list", "--host", "127.0.0.1", "-p", str(cluster.port), "-U", dba, "-d", command.database, *asked]
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    # getpass asks on the controlling terminal, so the command gets one of its own.
    own = ["setsid", "--ctty", "--wait", command.program, *words]
    code, screen = typed(own, environment, [(b"Password: ", PASSWORD.encode())])
    assert code == 0, screen
    assert b"No keys" in screen
    assert PASSWORD.encode() not in screen
    refused = subprocess.run(
        [command.program, *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode in (1, 2)
    assert "~/.pgpass" in refused.stderr


def test_root_checks_as_the_broker_s_user(stack: Stack, tmp_path: Path) -> None:
    broker = stack.broker
    check = [broker.venv / "bin/pg-envelope", "broker", "--check", "--config", broker.config_file]
    done = subprocess.run([*check, "--json"], capture_output=True, text=True, check=False)
    rows = json.loads(done.stdout)
    assert [row for row in rows if "belongs to another user" in row["detail"]] == []
    assert "configuration" in [row["check_name"] for row in rows]
    notice = json.loads(done.stderr.splitlines()[0])["notice"]
    assert notice.startswith("checked as ")
