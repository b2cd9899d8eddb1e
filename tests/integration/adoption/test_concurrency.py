"""Under READ COMMITTED two sessions meet at one old value: the second one learns it, and nothing is lost."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.adoption.fix_legacy import CONVERT, FINISH, SEALED, STORED, token
from tests.integration.rotation.fix_jobs import Beside, until

READ = "SELECT name, ssn FROM patient WHERE id = 3"
WAITS = "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
APPEND = "UPDATE patient SET ssn = ssn || ' theirs' WHERE id = 3"
NAME = "UPDATE patient SET name = name || ' theirs' WHERE id = 3"
CLEAR, ENCRYPTED = "UPDATE patient SET ssn = ssn || ' mine' WHERE id = 3", "UPDATE patient SET ssn = %s WHERE id = 3"
MEETINGS = [
    (CLEAR, "COMMIT", APPEND),
    (ENCRYPTED, "COMMIT", NAME),
    (CLEAR, "ROLLBACK", NAME),
    (ENCRYPTED, "ROLLBACK", APPEND),
]


@pytest.mark.parametrize(("write", "ends", "second"), MEETINGS)
def test_two_sessions_write_one_old_row(
    patients: Database, alice: psycopg.Connection[Any], write: str, ends: str, second: str
) -> None:
    name, ssn = alice.execute(READ).fetchall()[0]
    with patients.connect("alice") as first:
        first.execute("BEGIN")
        first.execute(write, [token("ssn 3 mine")] if "%s" in write else None)
        other = Beside(patients, second)
        until(patients, WAITS, "the second session waits", other.pid)
        first.execute(ends)
    error = other.end()
    if ends == "COMMIT":
        assert isinstance(error, psycopg.errors.SerializationFailure)
        assert patients.sql(STORED, 3) == [SEALED]
        other.session.execute(second)
        ssn += " mine"
    else:
        assert error is None
    found = alice.execute("SELECT name, ssn FROM patient WHERE id = 3").fetchall()[0]
    assert found[1] == (f"{ssn} theirs" if second == APPEND else ssn)
    assert (" theirs" in found[0]) is (second == NAME)
    assert found[0].startswith(name)
    patients.sql(CONVERT)
    assert patients.one("SELECT ssn FROM patient WHERE id = 3") == found[1]


@pytest.mark.parametrize(("ends", "wanted"), [("COMMIT", "ssn 3 theirs"), ("ROLLBACK", "ssn 3")])
def test_a_batch_meets_a_writer(patients: Database, ends: str, wanted: str) -> None:
    with patients.connect("alice") as writer:
        writer.execute("BEGIN")
        writer.execute(APPEND)
        batch = Beside(patients, CONVERT)
        until(patients, WAITS, "the batch waits for the writer", batch.pid)
        writer.execute(ends)
    assert batch.end() is None
    patients.sql(FINISH)
    found = dict(patients.sql("SELECT id, ssn FROM patient"))
    assert found == {**{row: f"ssn {row}" for row in range(1, 21)}, 3: wanted}
