"""Environments do not open each other's keys; rekey() moves a copy, all or nothing, and leaves the original alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pg_envelope import keys_backup
from stack.processes import wait_until
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure
from tests.integration.operations.test_crash import kill_backend

from .conftest import VALUES, Sides

REKEY = "CALL envelope.rekey('default')"
DEKS = "SELECT dek_id, kek, store, wrapped FROM envelope_private.dek ORDER BY 1"
CHECK = "SELECT state, hint FROM envelope.status() WHERE check_name = 'environment'"


def problem(db: Database, statement: str) -> tuple[str | None, str, str]:
    return failure(db.admin, statement)


def test_it_is_recorded_with_the_first_key(db: Database) -> None:
    assert db.sql("SELECT FROM envelope_private.installation") == []
    assert db.sql(CHECK) == [("ok", None)]
    db.sql("SELECT envelope.create_key('k')")
    assert db.sql("SELECT environment FROM envelope_private.installation") == [("default",)]
    assert db.sql(CHECK) == [("ok", None)]


def test_another_environment_opens_nothing_and_loses_nothing(sides: Sides) -> None:
    before = sides.original.sql(DEKS)
    sides.go("staging")
    for table in ("person", "card"):
        sqlstate, text, hint = problem(sides.original, f"SELECT secret FROM {table}")
        assert (sqlstate, text) == ("XX001", "pg_envelope: a wrapped DEK cannot be unwrapped")
        assert "envelope.status()" in hint
    ((state, hint),) = sides.original.sql(CHECK)
    assert (state, "envelope.rekey('default')" in hint) == ("failed", True)
    # No key of this environment gets among the others.
    for statement in ("SELECT envelope.create_key('k')", "SELECT envelope.rotate('person')"):
        sqlstate, text, hint = problem(sides.original, statement)
        assert (sqlstate, text) == ("XX001", "pg_envelope: the keys of this database belong to another environment")
        assert "rekey" in hint
    sides.go("default")
    assert sides.original.sql(DEKS) == before
    assert sides.rows(sides.original) == VALUES


def test_a_copy_moves_and_the_original_stays(sides: Sides) -> None:
    original = sides.uuid(sides.original)
    sides.go("staging", "default")
    sides.copy.sql(REKEY)
    assert sides.rows(sides.copy) == VALUES
    assert sides.uuid(sides.copy) != original
    assert sides.copy.sql("SELECT environment FROM envelope_private.installation") == [("staging",)]
    assert sides.copy.sql(CHECK) == [("ok", None)]
    assert sides.copy.one("SELECT count(*) FROM envelope_private.rekey_dek") == 0
    sides.copy.sql("SELECT envelope.rotate('person')")
    sides.copy.sql("UPDATE person SET secret = 'staging' WHERE id = 1")
    assert "staging" in sides.rows(sides.copy)
    # Once is enough: a second call has nothing of that environment to move.
    assert problem(sides.copy, REKEY)[0] == "22023"
    sides.go("default")
    assert sides.rows(sides.original) == VALUES
    assert sides.uuid(sides.original) == original
    assert problem(sides.copy, "SELECT secret FROM card")[0] == "XX001"


def test_a_broker_takes_over_from_nobody_that_it_was_not_told_of(sides: Sides) -> None:
    sides.go("staging", "dev")
    before = sides.copy.sql(DEKS)
    sqlstate, text, hint = problem(sides.copy, REKEY)
    assert (sqlstate, text) == ("42501", "pg_envelope: this broker takes no keys over from that environment")
    assert "rekey_from" in hint
    assert problem(sides.copy, "CALL envelope.rekey('dev')")[0] == "22023"
    assert sides.copy.sql(DEKS) == before


def test_nobody_but_a_superuser(db: Database) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.sql(REKEY, user="owner")


def test_a_killed_backend_leaves_the_old_catalog_whole_and_the_next_call_goes_on(sides: Sides) -> None:
    """Killed at the switch, when all is staged: it waits there for a reader of the catalog that locks it."""
    sides.copy.durable()
    before = sides.copy.sql(DEKS)
    sides.go("staging", "default")
    blocker = sides.stack.connect(sides.copy.name, autocommit=False)
    victim = sides.stack.connect(sides.copy.name)
    pid = victim.info.backend_pid
    staged = "SELECT count(*) FROM envelope_private.rekey_dek"
    # Its own DEK's row is what the switch has to wait for; staging only reads it.
    blocker.execute("SELECT FROM envelope_private.dek WHERE dek_id = 1 FOR UPDATE")
    thread = threading.Thread(target=fails, args=(victim,))
    thread.start()
    wait_until(lambda: sides.copy.one(staged) == 2 and waits(sides.copy), 60, "the switch")
    kill_backend(sides.stack, pid)
    thread.join()
    blocker.close()
    victim.close()
    sides.copy.admin, sides.original.admin = sides.copy.connect(), sides.original.connect()
    assert sides.copy.sql(DEKS) == before
    assert sides.copy.sql("SELECT environment FROM envelope_private.installation") == [("default",)]
    new = sides.copy.one("SELECT database_uuid::text FROM envelope_private.rekey")
    sides.copy.sql(REKEY)
    assert sides.uuid(sides.copy) == new
    assert sides.rows(sides.copy) == VALUES
    sides.go("default")
    assert sides.rows(sides.original) == VALUES


def waits(db: Database) -> bool:
    """Whether the switch is held up: by then it has locked the catalog against new DEKs."""
    return bool(db.one("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'CALL%'"))


def fails(connection: psycopg.Connection[object]) -> None:
    with pytest.raises(psycopg.Error):
        connection.execute(REKEY)


def test_a_key_for_each_subject(sides: Sides) -> None:
    for db in (sides.original, sides.copy):
        db.sql("CREATE TABLE visit (id int PRIMARY KEY, patient text NOT NULL, note text)")
        db.sql("INSERT INTO visit SELECT i, 'patient ' || i, 'note ' || i FROM generate_series(1, 250) i")
        db.sql(
            """CALL envelope.protect('visit', '["note"]', scope => 'subject', scope_column => 'patient',
               store => 'catalog')"""
        )
    sides.go("staging", "default")
    sides.copy.sql(REKEY)
    assert sides.copy.one("SELECT count(*) FROM visit WHERE note = 'note ' || id") == 250
    sides.copy.sql("INSERT INTO visit VALUES (1000, 'patient 1000', 'new')")
    sides.copy.sql("SELECT envelope.flush('test')")
    assert sides.copy.one("SELECT note FROM visit WHERE id = 1000") == "new"


def test_under_a_kek_of_its_own(sides: Sides, tmp_path: Path) -> None:
    """The original's KEK has another name in this broker, and is not needed afterwards."""
    bao, broker = sides.stack.openbao, sides.stack.broker
    public = broker.config_file.with_name("break-glass.pub")
    public.write_text(keys_backup.public_text(X25519PrivateKey.generate().public_key()) + "\n")
    public.chmod(0o644)
    broker.configure({"broker": {"break_glass_public_key_file": str(public)}})
    bao.request("POST", "transit/keys/pg-envelope-staging", {"type": "aes256-gcm96", "derived": True})
    original = {"prod": {"kms": "main", "key": "pg-envelope-default"}}
    broker.configure({"kek": {"staging": {"kms": "main", "key": "pg-envelope-staging"}, **original}})
    sides.go("staging", "default")
    program = Path(sys.executable).with_name("pg-envelope")
    words = ("rekey", "--from", "default", "--from-kek", "prod", "--to-kek", "staging")
    environment = {"PATH": os.environ["PATH"], **sides.stack.cluster.environ(sides.copy.name, "postgres")}
    undecided = subprocess.run([program, *words], env=environment, capture_output=True, text=True, check=False)
    assert (undecided.returncode, "--no-backup" in undecided.stderr) == (2, True), undecided.stderr
    words = (*words, "--backup", str(tmp_path / "keys.jsonl"))
    done = subprocess.run([program, *words], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "All keys of this database" in done.stdout) == (0, True), done.stderr
    assert "backups of the keys that were made before open nothing" in done.stderr
    head = json.loads((tmp_path / "keys.jsonl").read_text().splitlines()[0])
    assert (head["environment"], head["database_uuid"]) == ("staging", sides.uuid(sides.copy))
    for table in ("dek", "key"):
        assert sides.copy.sql(f"SELECT DISTINCT kek, store FROM envelope_private.{table} ORDER BY 2") == [
            ("staging", "catalog"),
            ("staging", "vault"),
        ]
    assert sides.rows(sides.copy) == VALUES
