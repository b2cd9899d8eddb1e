"""The right to a legacy key is that of its column: no function opens foreign ciphertext by hand."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.fix_stack import Database, Fill
from tests.integration.adoption.fix_legacy import ADOPT, BAD_FERNET, KEY, make_patients, token

DENIED = "42501"
BY_HAND = {
    "legacy_text": ("SELECT envelope_internal.legacy_text(%(stolen)s, %(guess)s)", DENIED),
    "no capability": ("SELECT envelope_internal.legacy_text(%(stolen)s, NULL::bytea)", DENIED),
    "short capability": ("SELECT envelope_internal.legacy_text(%(stolen)s, '\\x00'::bytea)", DENIED),
    "legacy_bytea": ("SELECT envelope_internal.legacy_bytea(%(stolen)s::bytea, %(guess)s)", DENIED),
    "as role": ("SELECT envelope_internal.legacy_text_as_role(%(stolen)s, %(field)s)", DENIED),
    "bytea as role": ("SELECT envelope_internal.legacy_bytea_as_role(%(stolen)s::bytea, %(field)s)", DENIED),
    "no field": ("SELECT envelope_internal.legacy_text_as_role(%(stolen)s, NULL::uuid)", DENIED),
    "opens": ("SELECT envelope_internal.legacy_opens(%(stolen)s, %(field)s)", DENIED),
    "adopted": ("SELECT envelope_internal.adopted_text(%(stolen)s, %(guess)s)", DENIED),
    "adopted bytea": ("SELECT envelope_internal.adopted_bytea(%(stolen)s::bytea, %(guess)s)", DENIED),
    "adopted draft": (
        "SELECT envelope_internal.adopted_draft(envelope_internal.draft_text(%(stolen)s), %(guess)s)",
        DENIED,
    ),
    "secret": ("SELECT envelope.secret('legacy')::text", DENIED),
    "decrypt": ("SELECT envelope.decrypt(sealed, 'legacy key') FROM envelope_private.legacy_key", DENIED),
    "import": ("SELECT envelope.import_legacy_key('x', 'text', 'y'::bytea)", DENIED),
    "inspect": ("SELECT * FROM envelope.inspect('patient', 'ssn', 'legacy')", DENIED),
    "adoption": ("SELECT * FROM envelope.adoption", DENIED),
    "base table": ("SELECT ssn_legacy FROM patient_encrypted", DENIED),
    "view": ("SELECT ssn FROM patient", DENIED),
}


def fill(db: Database) -> None:
    make_patients(db)
    db.sql("GRANT SELECT (id, name), INSERT, UPDATE ON patient TO alice; GRANT SELECT ON patient TO bob")
    db.sql(ADOPT)


@pytest.fixture
def patients(filled: Callable[[Fill], Database]) -> Database:
    """A copy, for tests that suspend no key."""
    return filled(fill)


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(patients: Database, name: str) -> None:
    statement, sqlstate = BY_HAND[name]
    field = patients.one("""SELECT field_uuid FROM envelope.columns WHERE "column" = 'ssn'""")
    given = {"stolen": token("stolen"), "guess": b"0123456789abcdef", "field": field}
    for user in ("alice", "bob"):
        if (name, user) == ("view", "bob"):
            continue
        with pytest.raises(psycopg.Error) as refused:
            patients.connect(user).execute(statement, given)
        assert refused.value.sqlstate == sqlstate, (user, str(refused.value))
        assert "stolen" not in str(refused.value)


def test_a_reader_of_the_view_reads(patients: Database) -> None:
    assert patients.one("SELECT ssn FROM patient WHERE id = 7", user="bob") == "ssn 7"
    assert patients.one("SELECT name FROM patient WHERE id = 7", user="alice") == "name 7"


def test_even_a_superuser_gets_no_legacy_key_by_name(patients: Database) -> None:
    with pytest.raises(psycopg.Error):
        patients.sql("SELECT envelope.secret('legacy')::text")


def test_no_log_and_no_plan_shows_a_value_or_key(patients: Database) -> None:
    # Statements of other tests stand before.
    begin = patients.stack.cluster.log.stat().st_size
    session = patients.connect()
    session.execute("LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_verbose = on")
    session.execute("SET auto_explain.log_nested_statements = on; SET log_min_messages = debug1")
    session.execute(
        "UPDATE patient_encrypted SET ssn_legacy = (SELECT ssn_legacy FROM patient_encrypted WHERE id = 2) WHERE id = 1"
    )
    session.execute("SELECT ssn FROM patient")
    session.execute("UPDATE patient SET name = ssn WHERE id = 3")
    session.execute("CALL envelope.convert('patient')")
    shown = "\n".join(
        row[0] for row in session.execute("EXPLAIN (VERBOSE, ANALYZE) SELECT ssn FROM patient").fetchall()
    )
    log = patients.stack.cluster.log.read_bytes()[begin:].decode(errors="replace") + shown
    assert "envelope_internal.legacy_text" in log
    assert "ssn 7" not in log
    assert KEY.decode() not in log


def test_a_shredded_legacy_key_opens_nothing(db: Database) -> None:
    """Old values fail closed, and new ones go on."""
    fill(db)
    db.sql("SELECT ssn FROM patient")
    db.sql("INSERT INTO patient VALUES (50, 'new', 'new')")
    db.sql("CALL envelope.suspend_key('legacy', 'a test')")
    with pytest.raises(psycopg.Error, match="suspended"):
        db.connect().execute("SELECT ssn FROM patient WHERE id = 1")
    assert db.one("SELECT ssn FROM patient WHERE id = 50") == "new"
    db.sql("CALL envelope.unsuspend_key('legacy')")
    assert db.connect().execute("SELECT ssn FROM patient WHERE id = 1").fetchone() == ("ssn 1",)


def test_errors_of_a_bad_value_are_alike(patients: Database) -> None:
    seen = set()
    for bad in ("no token", BAD_FERNET, token("x")[:-4] + "AAAA", "gAAAAA" + "A" * 200, ""):
        patients.sql("UPDATE patient_encrypted SET ssn_legacy = %s WHERE id = 1", bad)
        with pytest.raises(psycopg.Error) as refused:
            patients.sql("SELECT ssn FROM patient WHERE id = 1")
        diag = refused.value.diag
        seen.add((diag.sqlstate, diag.message_primary, diag.message_detail, diag.message_hint))
    assert len(seen) == 1
