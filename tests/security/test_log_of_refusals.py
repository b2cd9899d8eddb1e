"""A refusal in the server's log: message, SQLSTATE, DETAIL and HINT, and no Python traceback."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database

from .fix_people import failure, stored

Connection = psycopg.Connection[Any]
BY_HAND = "SELECT envelope_internal.decrypt_text(%s, %s, '1')"
COPY = """CREATE VIEW people_copy AS
    SELECT envelope_internal.decrypt_text(email, NULL, '1') AS email FROM people_encrypted"""
DIVISION = """DO $$ BEGIN PERFORM envelope.encrypt('x', 'missing');
    EXCEPTION WHEN OTHERS THEN PERFORM 1/0; END $$"""
LOOP = """DO $$ BEGIN FOR n IN 1..100 LOOP BEGIN PERFORM envelope.encrypt('x', 'missing');
    EXCEPTION WHEN insufficient_privilege THEN NULL; END; END LOOP; END $$"""


class Log:
    """What the server logs from now on."""

    def __init__(self, db: Database) -> None:
        self._path = db.stack.cluster.log
        self._start = self._path.stat().st_size

    @property
    def text(self) -> str:
        with open(self._path, "rb") as file:
            file.seek(self._start)
            return file.read().decode()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT envelope.encrypt('x', 'missing')",
        "SELECT email FROM people_copy",
        "DO $$ BEGIN PERFORM envelope.encrypt('x', 'missing'); END $$",
    ],
)
def test_no_traceback_of_a_refusal(people: Database, alice: Connection, statement: str) -> None:
    people.sql(COPY)
    people.sql("GRANT SELECT ON people_copy TO alice")
    log = Log(people)
    refused = failure(alice, statement)
    assert f"ERROR:  {refused.message}" in log.text
    assert "Traceback" not in log.text
    assert "CONTEXT" not in log.text


def test_hint_and_detail_stay(people: Database, alice: Connection) -> None:
    log = Log(people)
    refused = failure(alice, "SELECT envelope.encrypt('x', 'missing')")
    assert f"HINT:  {refused.hint}" in log.text


def test_an_altered_envelope(people: Database) -> None:
    people.sql("UPDATE people_encrypted SET email = overlay(email::bytea PLACING '\\x00' FROM 20)::envelope.ciphertext")
    log = Log(people)
    failure(people.admin, "SELECT email FROM people")
    assert "the envelope cannot be opened" in log.text
    assert "Traceback" not in log.text


def test_also_after_many_that_were_caught(people: Database, alice: Connection) -> None:
    alice.execute(LOOP)
    alice.execute(LOOP)
    log = Log(people)
    failure(alice, "SELECT envelope.encrypt('x', 'missing')")
    assert "Traceback" not in log.text


def test_context_of_other_errors_is_as_ever(people: Database, alice: Connection) -> None:
    """Also right after a refusal, in the same session and the same function."""
    failure(alice, BY_HAND, stored(people), None)
    alice.execute(LOOP)
    log = Log(people)
    failure(alice, DIVISION)
    assert "division by zero" in log.text
    assert 'CONTEXT:  SQL statement "SELECT 1/0"' in log.text


def test_an_error_of_postgresql_below_the_package_keeps_its_context(people: Database) -> None:
    people.sql("ALTER TABLE envelope_private.capability RENAME TO hidden")
    log = Log(people)
    failure(people.admin, "SELECT envelope.renew_capabilities()")
    assert "CONTEXT:  " in log.text
