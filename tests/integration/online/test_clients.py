"""The client of a roll-out is killed in any of its phases. The same call goes on when the session has noticed."""

from __future__ import annotations

from contextlib import suppress

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.online.fix_phases import CALLS, DIGEST, PHASES, Program
from tests.integration.online.test_some_columns import FIRST, JOIN, LEAVE
from tests.integration.rotation.fix_jobs import until
from tests.integration.sql.test_there_and_back import dump

GONE = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)"
BACK = {CALLS["protect"]: CALLS["unprotect"], JOIN: LEAVE}
# What the call says when the session of the dead client has done all of it.
DONE = (psycopg.errors.DuplicateObject, psycopg.errors.UndefinedObject)


def _killed(db: Database, phase: str, call: str) -> None:
    rows = db.sql(DIGEST)
    with PHASES[phase](db, call, Program) as client:
        client.kill()
        assert db.sql(DIGEST) == rows
    until(db, GONE, "the end of the session", client.pid)
    assert db.sql(DIGEST) == rows
    with suppress(*DONE):
        db.sql(call)
    assert db.sql(DIGEST) == rows


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("first", [None, FIRST], ids=["whole table", "some columns"])
def test_there_and_back(person: Database, first: str | None, phase: str) -> None:
    call = CALLS["protect"] if first is None else JOIN
    if first:
        person.sql(first)
    before, rows = dump(person), person.sql(DIGEST)
    _killed(person, phase, call)
    assert person.one("SELECT count(*) FROM envelope.columns") == 3
    assert person.one("SELECT count(*) FROM person_encrypted WHERE email IS NULL OR email_plain IS NOT NULL") == 0
    _killed(person, phase, BACK[call])
    assert person.sql(DIGEST) == rows
    assert dump(person) == before
