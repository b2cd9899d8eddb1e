"""adopt() refuses before anything is touched what it could not carry over, and says why."""

from __future__ import annotations

import json
from collections.abc import Callable

import psycopg
import pytest

from stack.stack import Stack
from tests.fix_stack import Database, Fill
from tests.integration.adoption.fix_legacy import ADOPT, OTHER_KEY, import_key, make_patients
from tests.integration.erasure.conftest import entries_of

WRONG_CALLS = {
    "CALL envelope.adopt('patient', 'ssn', 'rot13', 'legacy')": "format is unknown",
    "CALL envelope.adopt('patient', 'ssn', '{\"container\": \"xml\"}', 'legacy')": "container must be",
    "CALL envelope.adopt('patient', 'ssn', '{', 'legacy')": "no JSON object",
    "CALL envelope.adopt('patient', 'ssn', 'fernet', 'nokey')": "no legacy key",
    "CALL envelope.adopt('patient', 'ssn', 'fernet', NULL)": "no legacy key",
    "CALL envelope.adopt('patient', 'ssn', NULL, 'legacy')": "format is unknown",
    "CALL envelope.adopt('patient', 'nothere', 'fernet', 'legacy')": "no such column",
    "CALL envelope.adopt('patient', NULL, 'fernet', 'legacy')": "no such column",
    "CALL envelope.adopt('patient', '[]', 'fernet', 'legacy')": "JSON array",
    "CALL envelope.adopt('patient', 'id', 'fernet', 'legacy')": "cannot hold",
    "CALL envelope.adopt('patient', 'ssn', 'fernet', 'legacy', type => 'json')": "type must be",
    "CALL envelope.adopt('patient', 'ssn', 'fernet', 'other')": "do not open",
    "CALL envelope.adopt('patient', 'name', 'fernet', 'legacy')": "do not open",
    "CALL envelope.adopt('patient', 'ssn', 'joined_iv_ct_cbc', 'legacy')": "does not notice altered values",
    "CALL envelope.adopt(NULL, 'ssn', 'fernet', 'legacy')": "needs a table",
    "CALL envelope.convert('patient')": "not protected",
    "CALL envelope.finish_adoption('patient')": "not protected",
    "SELECT * FROM envelope.inspect('patient', 'ssn', sample => 0)": "sample must be",
    "SELECT envelope.import_legacy_key('bad', 'hex', 'top secret'::bytea)": "holds no key",
    "SELECT envelope.import_legacy_key('bad', 'xml', 'top secret'::bytea)": "format of the key",
    "SELECT envelope.import_legacy_key(NULL, 'text', 'top secret'::bytea)": "needs a name",
    "SELECT envelope.import_legacy_key('legacy', 'text', 'top secret'::bytea)": "has a key already",
    "SELECT envelope.import_legacy_key('bad', 'text', NULL)": "holds no key",
}
OBSTACLES = {
    "CREATE INDEX ON patient (lower(ssn))": "is of lower() of the old values",
    "ALTER TABLE patient ADD CONSTRAINT old_form CHECK (length(ssn) > 50)": "old_form",
    "CREATE PUBLICATION p FOR TABLE patient": "publications",
}


def fill(db: Database) -> None:
    make_patients(db)
    import_key(db, "other", "fernet", OTHER_KEY)


@pytest.fixture
def patients(filled: Callable[[Fill], Database]) -> Database:
    """A copy, for tests that destroy no key."""
    return filled(fill)


@pytest.mark.parametrize("call", WRONG_CALLS)
def test_a_wrong_call_changes_nothing(patients: Database, call: str) -> None:
    with pytest.raises(psycopg.Error, match=WRONG_CALLS[call]) as refused:
        patients.sql(call)
    assert refused.value.sqlstate in ("22023", "42704", "42710", "0A000")
    assert "top secret" not in str(refused.value)
    assert patients.one("SELECT relkind FROM pg_class WHERE oid = 'patient'::regclass") == "r"
    patients.sql(ADOPT)


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_cannot_be_carried_over(patients: Database, obstacle: str) -> None:
    patients.sql(obstacle)
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        patients.sql(ADOPT)
    assert OBSTACLES[obstacle] in str(refused.value.diag.message_detail)
    assert patients.one("SELECT relkind FROM pg_class WHERE oid = 'patient'::regclass") == "r"


def test_a_view_over_a_column_that_gets_another_type(db: Database) -> None:
    db.sql("CREATE TABLE patient (id int PRIMARY KEY, ssn jsonb); CREATE VIEW over AS SELECT ssn FROM patient")
    import_key(db, "legacy", "hex", b"11" * 32)
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        db.sql("CALL envelope.adopt('patient', 'ssn', 'node_json', 'legacy')")
    assert "over" in str(refused.value.diag.message_detail)


def test_a_view_over_a_column_that_keeps_its_type_follows(patients: Database) -> None:
    patients.sql("CREATE VIEW over AS SELECT id, ssn FROM patient")
    patients.sql(ADOPT)
    assert patients.one("SELECT ssn FROM over WHERE id = 3") == "ssn 3"


BUSY = {
    "CALL envelope.unprotect('patient')": "55006",
    "CALL envelope.unprotect('patient', online => true)": "55006",
    "CALL envelope.protect('patient', '[\"name\"]')": "42710",
    "CALL envelope.add_search('patient', 'ssn')": "55006",
    "CALL envelope.set_audit('patient', 'ssn', 'row')": "55006",
    ADOPT: "42710",
}


def test_other_procedures_wait_for_the_end(patients: Database) -> None:
    patients.sql(ADOPT)
    for call, sqlstate in BUSY.items():
        with pytest.raises(psycopg.Error) as refused:
            patients.sql(call)
        assert (call, refused.value.sqlstate) == (call, sqlstate)
    assert patients.one("SELECT count(*) FROM patient WHERE ssn = 'ssn ' || id") == 20


def test_only_a_superuser_may(patients: Database) -> None:
    for call in (ADOPT, "SELECT * FROM envelope.inspect('patient', 'ssn')", "CALL envelope.convert('patient')"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            patients.sql(call, user="owner")


def test_a_table_in_a_transaction(patients: Database) -> None:
    with pytest.raises(psycopg.Error, match="transaction block"):
        patients.sql(f"BEGIN; {ADOPT}")


def test_inspect_tells_and_changes_nothing(patients: Database) -> None:
    seen = "SELECT format, fraction, opens FROM envelope.inspect('patient', 'ssn')"
    assert patients.sql(seen) == [("fernet", 1.0, None)]
    with_key = "SELECT format, fraction, opens FROM envelope.inspect('patient', 'ssn', 'legacy')"
    assert patients.sql(with_key) == [("fernet", 1.0, 1.0), ("fernet", 1.0, None)]
    patients.sql("UPDATE patient SET ssn = 'plain' WHERE id <= 5")
    assert patients.sql(with_key) == [("fernet", 0.75, 0.75), ("fernet", 0.75, None), ("plain", 0.25, None)]
    assert patients.sql(with_key.replace("'ssn'", "'name'")) == [("plain", 1.0, None)]
    assert json.dumps(patients.sql("SELECT * FROM envelope.inspect('patient', 'ssn', 'legacy')")).count("ssn") == 0


def test_several_columns_at_once(db: Database) -> None:
    make_patients(db)
    db.sql("UPDATE patient SET name = ssn")
    db.sql("""CALL envelope.adopt('patient', '["ssn", "name"]', 'fernet', 'legacy')""")
    db.sql("UPDATE patient SET name = 'new' WHERE id = 1")
    db.sql("CALL envelope.convert('patient'); ")
    assert db.sql("SELECT name, ssn FROM patient WHERE id < 3 ORDER BY id") == [("new", "ssn 1"), ("ssn 2", "ssn 2")]


def test_the_legacy_key_is_destroyed_at_the_end(db: Database, policy: Stack) -> None:
    make_patients(db)
    assert told(db, ADOPT) == ['NOTICE: "public"."patient" is being adopted']
    db.sql("CALL envelope.finish_adoption('patient')")
    assert db.one("SELECT count(*) FROM patient WHERE ssn = 'ssn ' || id") == 20
    assert db.sql("SELECT state FROM envelope.keys WHERE name = 'legacy'") == [("destroyed",)]
    with pytest.raises(psycopg.Error):
        db.sql("CALL envelope.finish_adoption('patient')")


def test_a_legacy_key_that_the_kms_would_keep_is_told_of_at_the_start(db: Database) -> None:
    make_patients(db)
    warned = told(db, ADOPT)[0]
    assert entries_of(db) == []
    assert warned.startswith("WARNING: legacy key legacy could not be destroyed at the end of the adoption:")
    assert "does not let the broker delete keys" in warned
    assert "does not let the broker delete keys" in "".join(told(db, "CALL envelope.finish_adoption('patient')"))
    assert db.one("SELECT count(*) FROM patient WHERE ssn = 'ssn ' || id") == 20
    assert db.sql("SELECT state FROM envelope.keys WHERE name = 'legacy'") == [("active",)]


def told(db: Database, call: str) -> list[str]:
    """Returns the notices and warnings of a call."""
    heard: list[str] = []
    with db.connect() as connection:
        connection.add_notice_handler(lambda one: heard.append(f"{one.severity}: {one.message_primary}"))
        connection.execute(call)
    return [line.replace("pg_envelope: ", "") for line in heard]
