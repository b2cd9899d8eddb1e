"""pg_repack takes the residue of a roll-out away, while the table is in use, and changes nothing else."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

from tests.fix_stack import Database
from tests.integration.online.fix_phases import CALLS, DIGEST
from tests.integration.sql.test_there_and_back import dump

from .fix_repack import repack

__all__ = ["repack"]

RESIDUE = "SELECT state FROM envelope.status() WHERE check_name = 'residue'"
INTACT = "SELECT intact FROM envelope_private.protected_table"
FILE = "SELECT current_setting('data_directory') || '/' || pg_relation_filepath('person_encrypted')"
HELD = "SELECT position('value 77'::bytea IN pg_read_binary_file(%s))"


# On a busy machine pg_repack's timeout for a lock can end the statement that takes the timeout back.
OWN_TIMEOUT, TRIES = "query was: RESET statement_timeout", 5
# With code of its own, a table is written with its caller's rights.
CODE = (
    "CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := NEW.n; RETURN NEW; END'",
    "CREATE TRIGGER quiet BEFORE UPDATE ON person FOR EACH ROW EXECUTE FUNCTION quiet()",
)


def test_residue_is_gone_and_the_view_in_place(person: Database, repack: Path) -> None:
    """One test for both kinds of tables: the program is there for one test at a time."""
    _there_and_back(person, repack)
    for statement in CODE:
        person.sql(statement)
    _there_and_back(person, repack)


def _there_and_back(person: Database, repack: Path) -> None:
    plain, rows = dump(person), person.sql(DIGEST)
    person.sql(CALLS["protect"])
    protected = dump(person)
    person.sql("CHECKPOINT")
    assert person.one(RESIDUE) == "warning"
    assert person.one(HELD, person.one(FILE)) > 0
    person.sql("CREATE EXTENSION pg_repack")
    done = threading.Event()
    failed: list[BaseException] = []
    beside = threading.Thread(target=_write, args=(person, done, failed))
    beside.start()
    try:
        _repack(person, repack)
    finally:
        done.set()
        beside.join()
    assert failed == []
    person.sql("DROP EXTENSION pg_repack; CHECKPOINT")
    assert person.one(RESIDUE) == "ok"
    assert person.one(HELD, person.one(FILE)) == 0
    assert person.one(INTACT)
    assert person.sql(DIGEST) == rows
    assert dump(person) == protected
    person.sql(CALLS["unprotect"])
    assert person.sql(DIGEST) == rows
    assert dump(person) == plain


def _write(db: Database, done: threading.Event, failed: list[BaseException]) -> None:
    """Reads and writes all the time, and leaves every row as it was."""
    try:
        with db.connect() as session:
            while not done.is_set():
                session.execute("UPDATE person SET email = 'other@x' WHERE id = 5")
                session.execute("UPDATE person SET email = 'value 5' WHERE id = 5")
                assert session.execute("SELECT email FROM person WHERE id = 6").fetchone() == ("value 6",)
    except BaseException as error:
        failed.append(error)


def _repack(db: Database, program: Path) -> None:
    environment = {**os.environ, **db.stack.environ()}
    line = [program, "-U", "postgres", "-d", db.name, "-t", "public.person_encrypted", "--no-superuser-check"]
    for _ in range(TRIES):
        ended = subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=120)
        if OWN_TIMEOUT not in ended.stderr:
            break
    assert ended.returncode == 0, ended.stderr
