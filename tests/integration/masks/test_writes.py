"""Writes by a role that sees masks: what stays is the value, whatever the role saw of it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fix_stack import Database
from tests.integration.sql.test_concurrency import in_background, wait_for_lock

from .fix_masks import CLEAR_EMAIL, MASKED, RULES, failure

Connection = psycopg.Connection[Any]
STORED = f"SELECT name, {MASKED} FROM person ORDER BY id"
ALL_BACK = ", ".join(f"{column} = {column}" for column in RULES)


def test_masks_written_back_change_nothing(masked: Database) -> None:
    before = masked.sql(STORED)
    envelopes = masked.sql("SELECT email, ssn FROM person_encrypted ORDER BY id")
    alice = masked.connect("alice")
    alice.execute(f"UPDATE person SET name = name, {ALL_BACK}")
    for row in alice.execute(f"SELECT id, {MASKED} FROM person").fetchall():
        names = ", ".join(f"{column} = %s" for column in RULES)
        alice.execute(f"UPDATE person SET {names} WHERE id = %s", [*row[1:], row[0]])
    assert masked.sql(STORED) == before
    assert masked.sql("SELECT email, ssn FROM person_encrypted ORDER BY id") == envelopes


def test_a_new_value_is_stored(masked: Database, alice: psycopg.Connection[Any]) -> None:
    shown = alice.execute(
        "UPDATE person SET email = 'grace@example.org', ssn = '123' WHERE id = 1 RETURNING email, ssn, paid"
    ).fetchall()
    assert [str(value) for value in shown[0]] == ["grace@example.org", "123", "1000.00"]
    assert masked.sql("SELECT email, ssn FROM person WHERE id = 1") == [("grace@example.org", "123")]
    assert alice.execute("SELECT email, ssn FROM person WHERE id = 1").fetchall() == [("g***@example.org", "***")]


def test_a_changed_key_takes_the_values_along(masked: Database, alice: psycopg.Connection[Any]) -> None:
    alice.execute("UPDATE person SET id = 77 WHERE id = 1")
    assert masked.sql("SELECT email, ssn FROM person WHERE id = 77") == [(CLEAR_EMAIL, "5d1e-00001")]


def test_a_row_is_deleted_by_its_mask(masked: Database) -> None:
    alice = masked.connect("alice")
    assert alice.execute("DELETE FROM person WHERE ssn = '5d1e-00001'").rowcount == 0
    assert alice.execute("DELETE FROM person WHERE ssn = '***01' RETURNING email").fetchall() == [("a***@example.org",)]


CHECKED = """
CREATE TABLE span (id int PRIMARY KEY, low int, high int, note text, CONSTRAINT in_order CHECK (low < high),
    CONSTRAINT small CHECK (low < 100));
INSERT INTO span VALUES (1, 17, 20, 'x');
ALTER TABLE span OWNER TO owner;
"""
RUNS_CODE = """
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touched BEFORE UPDATE ON span FOR EACH ROW EXECUTE FUNCTION touched();
"""
PROTECT_SPAN = """CALL envelope.protect('span', '["low", "high"]')"""


def make_span(db: Database, *, runs_code: bool) -> None:
    db.sql(CHECKED + (RUNS_CODE if runs_code else ""))
    db.sql(PROTECT_SPAN)
    db.sql("SELECT envelope.mask('span', 'low', 'public', 'text', '{\"text\": \"500\"}')")
    db.sql("GRANT SELECT, UPDATE ON span TO alice")


@pytest.mark.parametrize("runs_code", [False, True])
def test_a_constraint_is_of_values_and_not_of_masks(db: Database, runs_code: bool) -> None:
    make_span(db, runs_code=runs_code)
    alice = db.connect("alice")
    alice.execute("UPDATE span SET note = 'y'")
    alice.execute("UPDATE span SET low = low, high = high, note = 'z'")
    assert failure(alice, "UPDATE span SET low = 30").sqlstate == "23514"
    assert failure(alice, "UPDATE span SET low = 500 - 1").sqlstate == "23514"
    alice.execute("UPDATE span SET low = 3, high = 5")
    assert db.sql("SELECT low, high, note FROM span") == [(3, 5, "z")]


def test_where_the_owner_writes_values_are_checked_that_nobody_sees(db: Database) -> None:
    make_span(db, runs_code=False)
    alice = db.connect("alice")
    alice.execute("UPDATE span SET high = 18")
    assert failure(alice, "UPDATE span SET high = 17").sqlstate == "23514"


def test_where_the_caller_writes_such_a_check_is_refused(db: Database) -> None:
    make_span(db, runs_code=True)
    refused = failure(db.connect("alice"), "UPDATE span SET high = 18")
    assert (refused.sqlstate, refused.diag.constraint_name) == ("42501", "in_order")
    db.sql("UPDATE span SET high = 18")
    assert failure(db.admin, "UPDATE span SET high = 17").sqlstate == "23514"


@pytest.mark.parametrize(
    "between", ["UPDATE person SET email = email WHERE id = 1", "CALL envelope.reencrypt('person')"]
)
def test_a_row_that_was_written_and_is_the_same_is_updated(masked: Database, between: str) -> None:
    masked.sql("SELECT envelope.rotate('person')")
    masked.sql("CREATE TABLE gate (id int); GRANT ALL ON gate TO alice")
    alice = masked.connect("alice")
    with masked.connect().transaction() as holding:
        holding.connection.execute("LOCK TABLE gate")
        # It has read the row, and waits.
        waits = "UPDATE person SET name = 'new' WHERE id = 1 AND email <> '' AND (SELECT count(*) FROM gate) = 0"
        thread, outcome = in_background(lambda: alice.execute(waits).rowcount)
        wait_for_lock(masked, alice)
        masked.connect().execute(between)
    thread.join()
    assert outcome == [1]
    assert masked.sql("SELECT name, email FROM person WHERE id = 1") == [("new", CLEAR_EMAIL)]


VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(email=VALUES, ssn=VALUES, paid=st.decimals(min_value=-99999, max_value=99999, places=2), born=st.dates())
def test_values_of_all_kinds_stay_as_they_are(masked: Database, email: str, ssn: str, paid: Any, born: Any) -> None:
    """Read and written back by a role that sees masks."""
    masked.sql(
        "UPDATE person SET email = %s, ssn = left(%s, 11), paid = %s, born = %s WHERE id = 1",
        email + "@",
        ssn,
        paid,
        born,
    )
    before = masked.sql(STORED)
    with masked.connect("alice") as alice:
        alice.execute(f"UPDATE person SET name = name, {ALL_BACK}")
        alice.execute("UPDATE person SET id = -id WHERE id = 1")
        alice.execute("UPDATE person SET id = -id WHERE id = -1")
    assert masked.sql(STORED) == before


# A text with a star could be the mask of the value before, which changes nothing.
WITHOUT_STARS = VALUES.filter(lambda text: "*" not in text)
ACTS = st.one_of(
    st.tuples(st.just("insert"), st.integers(1, 8), WITHOUT_STARS, st.integers(-9999, 9999)),
    st.tuples(st.just("name"), st.integers(1, 8), WITHOUT_STARS, st.none()),
    st.tuples(st.just("email"), st.integers(1, 8), WITHOUT_STARS, st.none()),
    st.tuples(st.just("mask back"), st.integers(1, 8), st.none(), st.none()),
    st.tuples(st.just("all back"), st.integers(1, 8), WITHOUT_STARS, st.none()),
    st.tuples(st.just("move"), st.integers(1, 8), st.none(), st.integers(1, 8)),
    st.tuples(st.just("delete"), st.integers(1, 8), st.none(), st.none()),
    st.tuples(st.just("delete by mask"), st.integers(1, 8), st.none(), st.none()),
)
Row = tuple[str, str, str | None, int]
TWIN = "SELECT id, name, email, ssn, paid::int FROM person ORDER BY id"


def on_twin(rows: dict[int, Row], act: str, one: int, text: str | None, number: int | None) -> bool:
    """Does the act to a dict of what is stored. Tells whether it must be refused."""
    if act == "insert" and text is not None and number is not None:
        if one in rows:
            return True
        rows[one] = text, text + "@x.org", text[:11], number
    elif act == "move" and number is not None and one in rows:
        if number in rows and number != one:
            return True
        rows[number] = rows.pop(one)
    elif one in rows and text is not None:
        name, email, ssn, paid = rows[one]
        rows[one] = (name, text + "@x.org", ssn, paid) if act == "email" else (text, email, ssn, paid)
    elif act in ("delete", "delete by mask"):
        rows.pop(one, None)
    return False


def by_alice(alice: Connection, act: str, one: int, text: str | None, number: int | None) -> None:
    """Does it as a role that sees masks."""
    match act:
        case "insert":
            values = one, text, f"{text}@x.org", (text or "")[:11], number
            alice.execute("INSERT INTO person (id, name, email, ssn, paid) VALUES (%s, %s, %s, %s, %s)", values)
        case "name":
            alice.execute("UPDATE person SET name = %s WHERE id = %s", (text, one))
        case "email":
            alice.execute("UPDATE person SET email = %s WHERE id = %s", (f"{text}@x.org", one))
        case "mask back":
            for row in alice.execute("SELECT email, ssn, paid FROM person WHERE id = %s", (one,)).fetchall():
                alice.execute("UPDATE person SET email = %s, ssn = %s, paid = %s WHERE id = %s", (*row, one))
        case "all back":
            alice.execute(f"UPDATE person SET {ALL_BACK}, name = %s WHERE id = %s", (text, one))
        case "move":
            alice.execute("UPDATE person SET id = %s WHERE id = %s", (number, one))
        case "delete":
            alice.execute("DELETE FROM person WHERE id = %s", (one,))
        case "delete by mask":
            mask = alice.execute("SELECT email FROM person WHERE id = %s", (one,)).fetchone() or ("",)
            alice.execute("DELETE FROM person WHERE id = %s AND email = %s", (one, *mask))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(ACTS, max_size=12))
def test_any_writes_by_a_role_that_sees_masks_against_a_twin(masked: Database, acts: list[Any]) -> None:
    """The twin is a dict of what is stored. The owner sees the same in the table."""
    masked.sql("DELETE FROM person")
    rows: dict[int, Row] = {}
    with masked.connect("alice") as alice:
        for act in acts:
            if on_twin(rows, *act):
                with pytest.raises(psycopg.errors.UniqueViolation):
                    by_alice(alice, *act)
            else:
                by_alice(alice, *act)
            assert masked.sql(TWIN) == [(one, *rows[one]) for one in sorted(rows)]
        in_the_clear = [email for _, email, _, _ in rows.values()]
        assert alice.execute("DELETE FROM person WHERE email = ANY (%s)", (in_the_clear,)).rowcount == 0
