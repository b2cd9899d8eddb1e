"""The installed pg-envelope command against the real stack: what it prints, its exit codes, and its errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stack.processes import StackError, run_as, wait_until
from stack.stack import Stack
from tests import fix_forked
from tests.fix_stack import Database

from .fix_kms import Result


@dataclass(frozen=True)
class Command:
    """The command with libpq's environment for one database and user."""

    stack: Stack
    database: str
    user: str = "postgres"

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "COLUMNS": "200", **self.stack.cluster.environ(self.database, self.user)}

    @property
    def program(self) -> str:
        return str(self.stack.broker.venv / "bin/pg-envelope")

    def run(self, *words: object, **environment: str) -> Result:
        python = Path(self.program).parent.resolve() / "python"
        done = fix_forked.run(python, [self.program, *words], {**self.environment, **environment})
        assert "Traceback" not in done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def done(self, *words: object) -> Result:
        """A run that must end with 0."""
        result = self.run(*words)
        assert result.code == 0, result.err
        return result

    def rows(self, *words: object) -> list[dict[str, Any]]:
        return list(json.loads(self.done(*words, "--json").out))


@pytest.fixture
def command(stack: Stack, db: Database) -> Command:
    """As the superuser, in a database with a table of 50 rows."""
    db.sql('CREATE TABLE "Odd Name" (id int PRIMARY KEY, email text, "Born on" date)')
    db.sql("INSERT INTO \"Odd Name\" SELECT i, 'value ' || i, date '2000-01-01' FROM generate_series(1, 50) i")
    return Command(stack, db.name)


def test_a_table_from_plain_to_protected_to_plain(command: Command, db: Database) -> None:
    assert "No protected columns" in command.done("columns").out
    assert "time: " in command.done("protect", '"Odd Name"', "email", "--dry-run").err
    assert "No protected columns" in command.done("columns").out
    assert "is protected: email, Born on" in command.done("protect", '"Odd Name"', "email", "Born on:bind=column").out
    assert [(row["column"], row["bind"]) for row in command.rows("columns")] == [
        ("email", "row"),
        ("Born on", "column"),
    ]
    assert "Odd Name" in command.done("columns").out
    command.done("key", "rotate", '"Odd Name"')
    finished = command.done("reencrypt", '"Odd Name"', "--batch-size", "10")
    assert "re-encryption finished" in finished.out
    assert "50 rows were re-encrypted" in finished.err
    assert db.one('SELECT count(DISTINCT substr(email, 1, 6)) FROM "Odd Name_encrypted"') == 1
    assert "no longer protected" in command.done("unprotect", '"Odd Name"').out
    assert db.one("SELECT count(*) FROM \"Odd Name\" WHERE email = 'value ' || id") == 50


def test_named_keys(command: Command, db: Database) -> None:
    assert "No keys" in command.done("key", "list").out
    command.done("key", "create", "pay 'roll'", "--store", "catalog")
    made = json.loads(command.done("key", "rotate", "pay 'roll'", "--json").out)
    assert made == {"key": "pay 'roll'", "result": 2}
    assert "alice may use key" in command.done("key", "grant", "pay 'roll'", "alice").out
    assert db.sql("SELECT envelope.encrypt('x', 'pay ''roll''') IS NOT NULL", user="alice") == [(True,)]
    rows = command.rows("key", "list")
    assert [(row["version"], row["state"], row["store"], row["granted_to"]) for row in rows] == [
        (1, "decrypt-only", "catalog", ["alice"]),
        (2, "active", "catalog", ["alice"]),
    ]
    command.done("key", "revoke", "pay 'roll'", "alice")
    assert command.rows("key", "list")[0]["granted_to"] == []


def test_a_name_that_is_a_key_and_a_table(command: Command, db: Database) -> None:
    db.sql("CREATE TABLE twice (id int PRIMARY KEY, email text)")
    command.done("protect", "twice", "email")
    command.done("key", "create", "twice")
    refused = command.run("key", "rotate", "twice")
    assert refused.code == 2
    assert "--as key or --as table" in refused.err
    command.done("key", "rotate", "twice", "--as", "table")
    assert [row["version"] for row in command.rows("key", "list") if row["relation"]] == [1, 2]


def test_status_says_what_failed_with_its_exit_code(command: Command, db: Database) -> None:
    checks = command.rows("status")
    assert {check["state"] for check in checks} == {"ok"}
    command.done("protect", '"Odd Name"', "email")
    db.sql("DELETE FROM envelope_private.capability")
    failed = command.run("status")
    assert failed.code == 1
    assert "- capabilities: SELECT envelope.renew_capabilities()" in failed.out
    as_json = command.run("status", "--json")
    assert as_json.code == 1
    assert [check["check_name"] for check in as_json.json if check["state"] == "failed"] == ["capabilities", "reads"]


def broker_check(command: Command) -> list[str]:
    return [command.program, "broker", "--config", str(command.stack.broker.config_file), "--check"]


def test_broker_check_of_the_running_configuration(command: Command, stack: Stack) -> None:
    checks = json.loads(run_as(stack.broker.account, [*broker_check(command), "--json"]))
    assert {check["state"] for check in checks} <= {"ok", "warning"}


def test_broker_check_of_a_sealed_kms(command: Command, stack: Stack) -> None:
    stack.openbao.seal()
    try:
        with pytest.raises(StackError) as failed:
            run_as(stack.broker.account, broker_check(command))
    finally:
        stack.openbao.unseal()
    assert "the KMS is sealed" in str(failed.value)
    assert "bao operator unseal" in str(failed.value)


def test_broker_check_by_somebody_else_is_refused(command: Command, stack: Stack) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: without it, all servers are our own")
    if stack.cluster.account == stack.broker.account:
        pytest.skip("server and broker have one user here")
    with pytest.raises(StackError, match="cannot read"):
        run_as(stack.cluster.account, broker_check(command))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["protect", "nothing", "email"], 'relation "nothing" does not exist'),
        (["protect", '"Odd Name"', "phone"], "has no such column"),
        (["protect", '"Odd Name"', "email", "--kek", "gone"], "the broker's configuration has no such KEK"),
        (["unprotect", '"Odd Name"'], "the table is not protected"),
        (["reencrypt", '"Odd Name"'], "the table is not protected"),
        (["key", "rotate", "gone"], "there is no key and no table named gone"),
        (["key", "grant", "gone", "alice"], "there is no key of this name"),
        (["key", "grant", "gone", "nobody there"], "with double quotes"),
        (["key", "rotate", "no 'name' of SQL"], "there is no key and no table named"),
    ],
)
def test_what_the_server_refuses_is_one_clear_error(command: Command, words: list[str], message: str) -> None:
    refused = command.run(*words)
    assert refused.code == 1
    assert refused.out == ""
    assert refused.err.lstrip().startswith("error: ")
    assert message in refused.err


def test_no_rights(command: Command, stack: Stack, db: Database) -> None:
    alice = Command(stack, db.name, "alice")
    for words in (["columns"], ["status"], ["key", "list"], ["key", "create", "k"], ["protect", '"Odd Name"', "email"]):
        refused = alice.run(*words)
        assert refused.code == 1
        assert "permission denied" in refused.err
        assert "42501" in refused.err
        assert "HINT" in refused.err, words


def test_no_extension(command: Command, stack: Stack) -> None:
    refused = Command(stack, "postgres").run("status")
    assert refused.code == 1
    assert "HINT: Is the extension in this database" in refused.err


def test_no_database_and_no_server(command: Command, stack: Stack) -> None:
    missing = Command(stack, "gone").run("status")
    assert missing.code == 1
    assert 'database "gone" does not exist' in missing.err
    down = command.run("status", PGPORT="1")
    assert down.code == 1
    assert down.err.startswith("error: cannot connect to PostgreSQL")
    assert "HINT" in down.err


def test_no_broker(command: Command, stack: Stack) -> None:
    stack.broker.stop()
    try:
        refused = command.run("protect", '"Odd Name"', "email")
        status = command.run("status")
    finally:
        stack.broker.start()
    assert refused.code == 1
    assert "the key broker is not running (SQLSTATE 58000)" in refused.err
    assert "HINT" in refused.err
    assert status.code == 1
    assert "the key broker is not running" in status.out


def test_an_interrupted_reencrypt_keeps_what_is_done_and_says_how_to_go_on(command: Command, db: Database) -> None:
    command.done("protect", '"Odd Name"', "email")
    command.done("key", "rotate", '"Odd Name"')
    with db.connect(autocommit=False) as holder:
        holder.execute('SELECT FROM "Odd Name_encrypted" WHERE id = 50 FOR UPDATE')
        process = subprocess.Popen(
            [command.program, "reencrypt", '"Odd Name"'],
            env=command.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        waits = """SELECT EXISTS (SELECT FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND datname = current_database())"""
        wait_until(lambda: bool(db.one(waits)), 60, "reencrypt waiting for the row")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "HINT: Committed batches stay. To go on, run it again: pg-envelope reencrypt" in err
    assert "Traceback" not in err
    versions = 'SELECT count(*) FROM "Odd Name_encrypted" GROUP BY substr(email, 1, 6) ORDER BY 1'
    assert db.sql(versions) == [(1,), (49,)]
    command.done("reencrypt", '"Odd Name"')
    assert db.sql(versions) == [(50,)]
