"""Values whose IV, tag or associated data lies in other columns: adopted, written, converted, and never lost."""

from __future__ import annotations

import base64
import functools
import json
import os
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.fix_stack import Database, Fill
from tests.integration.adoption.fix_legacy import import_key

KEY = bytes(range(32))
SPEC = {
    "container": "joined",
    "order": ["ct"],
    "cipher": "aes-256-gcm",
    "encoding": "base64",
    "iv": {"column": "*_iv", "encoding": "raw"},
    "tag": {"column": "*_tag", "encoding": "hex"},
    "aad": {"column": "id"},
}
ADOPT = "CALL envelope.adopt('person', 'ssn', %s, 'legacy')"
STORED = "SELECT ssn IS NOT NULL, ssn_legacy IS NOT NULL FROM person_encrypted WHERE id = %s"
SEALED, LEGACY = [(True, False)], [(False, True)]
ROWS = 6
TRIGGER = """
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note := NEW.note || ''!''; RETURN NEW; END';
CREATE TRIGGER note BEFORE INSERT OR UPDATE ON person FOR EACH ROW EXECUTE FUNCTION note()"""
ROW_SECURITY = "ALTER TABLE person ENABLE ROW LEVEL SECURITY; CREATE POLICY visible ON person USING (id < 100000)"


def sealed(row: int, value: str) -> tuple[str, bytes, str]:
    """What the application stores: ciphertext, IV, tag."""
    iv = os.urandom(12)
    found = AESGCM(KEY).encrypt(iv, value.encode(), str(row).encode())
    return base64.b64encode(found[:-16]).decode(), iv, found[-16:].hex()


@functools.cache
def fill(way: str) -> Fill:
    """Makes the table while it is being adopted, in one of the ways in which a write reaches the base table."""

    def make(db: Database) -> None:
        db.sql("CREATE TABLE person (id int PRIMARY KEY, ssn text NOT NULL, ssn_iv bytea, ssn_tag text, note text)")
        db.sql("ALTER TABLE person OWNER TO owner")
        for row in range(1, ROWS + 1):
            db.sql("INSERT INTO person VALUES (%s, %s, %s, %s, 'n')", row, *sealed(row, f"ssn {row}"))
        import_key(db, "legacy", "raw", KEY)
        if way != "as owner":
            db.sql(TRIGGER if way == "trigger" else ROW_SECURITY)
        db.sql("GRANT ALL ON person TO alice")
        db.sql(ADOPT, json.dumps(SPEC))

    return make


@pytest.fixture(params=["as owner", "trigger", "row security"])
def people(filled: Callable[[Fill], Database], request: pytest.FixtureRequest) -> Database:
    """These tests destroy no key, so a copy will do."""
    return filled(fill(request.param))


@pytest.fixture
def alice(people: Database) -> psycopg.Connection[Any]:
    """One session for all that she does in a test."""
    return people.connect("alice")


def values(alice: psycopg.Connection[Any]) -> dict[int, str]:
    return dict(alice.execute("SELECT id, ssn FROM person ORDER BY id").fetchall())


PLAIN = {row: f"ssn {row}" for row in range(1, ROWS + 1)}


def test_a_column_is_adopted(people: Database, alice: psycopg.Connection[Any]) -> None:
    assert values(alice) == PLAIN
    alice.execute("INSERT INTO person (id, ssn) VALUES (50, 'in the clear')")
    alice.execute("INSERT INTO person VALUES (51, %s, %s, %s)", sealed(51, "once"))
    alice.execute("UPDATE person SET (ssn, ssn_iv, ssn_tag) = (%s, %s, %s) WHERE id = 2", sealed(2, "anew"))
    wanted = {**PLAIN, 50: "in the clear", 51: "once", 2: "anew"}
    assert values(alice) == wanted
    assert people.sql(STORED, 51) == people.sql(STORED, 2) == SEALED
    people.sql("CALL envelope.convert('person')")
    people.sql("CALL envelope.finish_adoption('person', destroy_key => false)")
    assert values(alice) == wanted
    assert people.one("SELECT count(*) FROM person WHERE ssn_iv IS NOT NULL") == ROWS + 1


CHANGES = ("ssn_iv = NULL", "ssn_tag = 'x'", "id = 100", "ssn_iv = '\\x00', note = 'new'")


@pytest.mark.parametrize("relation", ["person", "person_encrypted"])
def test_a_change_of_a_part_loses_no_value(people: Database, alice: psycopg.Connection[Any], relation: str) -> None:
    """Each change is made in a row of its own."""
    wanted = dict(PLAIN)
    for row, change in enumerate(CHANGES, 1):
        people.sql(f"UPDATE {relation} SET {change} WHERE id = {row}")
        changed = 100 if "id = 100" in change else row
        wanted[changed] = wanted.pop(row)
        assert people.sql(STORED, changed) == SEALED, change
        assert people.sql(STORED, row + 1) == LEGACY, change
        assert values(alice) == wanted, change


def test_other_updates_leave_the_old_value(people: Database, alice: psycopg.Connection[Any]) -> None:
    alice.execute("UPDATE person SET note = 'changed' WHERE id = 3")
    assert people.sql(STORED, 3) == LEGACY
    assert values(alice) == PLAIN


def test_a_renamed_part_is_found(people: Database, alice: psycopg.Connection[Any]) -> None:
    people.sql("ALTER TABLE person_encrypted RENAME ssn_iv TO nonce")
    assert values(alice) == PLAIN
    alice.execute("UPDATE person SET nonce = NULL WHERE id = 3")
    people.sql("CALL envelope.convert('person')")
    assert values(alice) == PLAIN


def test_a_part_cannot_be_dropped_meanwhile(people: Database, alice: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        people.sql("ALTER TABLE person_encrypted DROP COLUMN ssn_iv")
    assert values(alice) == PLAIN


def test_a_value_whose_part_is_wrong_stays_until_somebody_mends_it(
    people: Database, alice: psycopg.Connection[Any]
) -> None:
    people.sql("UPDATE person_encrypted SET ssn_legacy = 'AAAA' WHERE id = 3")
    people.sql("CALL envelope.convert('person')")
    assert people.sql('SELECT "left", refused FROM envelope.adoption') == [(1, 1)]
    with pytest.raises(psycopg.errors.DataCorrupted):
        values(alice)
    people.sql("UPDATE person_encrypted SET ssn_iv = '\\x00' WHERE id = 3")
    people.sql("UPDATE person SET ssn = 'mended' WHERE id = 3")
    people.sql("CALL envelope.finish_adoption('person', destroy_key => false)")
    assert values(alice) == {**PLAIN, 3: "mended"}


def test_refusals(db: Database) -> None:
    db.sql(
        "CREATE TABLE person (id int PRIMARY KEY, ssn text, ssn_iv text, made text GENERATED ALWAYS AS ('x') STORED)"
    )
    import_key(db, "legacy", "raw", KEY)
    for column, wanted in (("nothere", "ssn"), ("made", "ssn"), ("*", "ssn"), ("ssn_iv", '["ssn", "ssn_iv"]')):
        spec = {"container": "joined", "order": ["ct", "tag"], "cipher": "aes-gcm", "iv": {"column": column}}
        with pytest.raises(psycopg.Error) as refused:
            db.sql("CALL envelope.adopt('person', %s, %s, 'legacy')", wanted, json.dumps(spec))
        assert refused.value.sqlstate in ("22023", "0A000")
    assert db.one("SELECT relkind FROM pg_class WHERE oid = 'person'::regclass") == "r"


def test_pgcrypto_with_an_iv_for_each_row(db: Database) -> None:
    """encrypt_iv() takes an IV, and stores none."""
    db.sql("CREATE TABLE person (id int PRIMARY KEY, ssn bytea, iv bytea); CREATE EXTENSION IF NOT EXISTS pgcrypto")
    db.sql("INSERT INTO person SELECT i, NULL, gen_random_bytes(16) FROM generate_series(1, 200) i")
    db.sql("UPDATE person SET ssn = encrypt_iv(convert_to('Zoë ' || id, 'UTF8'), %s, iv, 'aes')", KEY)
    import_key(db, "legacy", "raw", KEY)
    spec = json.dumps({"container": "joined", "order": ["ct"], "cipher": "aes-cbc", "iv": {"column": "iv"}})
    told = "SELECT format, opens FROM envelope.inspect('person', 'ssn', 'legacy', specification => %s)"
    assert db.sql(told, spec) == [("specification", 1.0)]
    assert db.sql(told, "fernet") == [("fernet", 0.0)]
    db.sql("CALL envelope.adopt('person', 'ssn', %s, 'legacy', accept_unauthenticated => true)", spec)
    db.sql("CALL envelope.convert('person', part => 1, parts => 2, batch_size => 20)")
    assert 0 < db.one('SELECT "left" FROM envelope.adoption') < 200
    assert db.sql("SELECT state FROM envelope.adoption") == [("done",)]
    db.sql("CALL envelope.convert('person', part => 2, parts => 2, batch_size => 20)")
    assert db.sql('SELECT "left", state FROM envelope.adoption') == [(0, "done")]
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        db.sql("CALL envelope.convert('person', part => 3, parts => 2)")
    db.sql("CALL envelope.finish_adoption('person', destroy_key => false)")
    assert db.one("SELECT count(*) FROM person WHERE ssn = 'Zoë ' || id") == 200


FINISH = "CALL envelope.finish_adoption('person', destroy_key => false)"
FINISH_WHOLE = "CALL envelope.finish_adoption('person', destroy_key => false, drop_parts => true)"
COLUMNS = (
    "SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
    " AND NOT attisdropped"
)


def columns(db: Database, relation: str) -> set[str]:
    return set(db.one(COLUMNS, relation))


def test_the_end_drops_the_parts(people: Database, alice: psycopg.Connection[Any]) -> None:
    people.sql(FINISH_WHOLE)
    assert columns(people, "person") == {"id", "ssn", "note"}
    assert not columns(people, "person_encrypted") & {"ssn_iv", "ssn_tag"}
    assert values(alice) == PLAIN
    alice.execute("INSERT INTO person (id, ssn, note) VALUES (50, 'new', 'n')")
    alice.execute("UPDATE person SET ssn = 'other', note = 'changed' WHERE id = 1")
    assert values(alice) == {**PLAIN, 1: "other", 50: "new"}
    people.sql("ALTER TABLE person RENAME COLUMN note TO remark", user="owner")
    people.sql("CALL envelope.unprotect('person')")
    assert people.one("SELECT ssn FROM person WHERE id = 50") == "new"


def test_the_end_tells_which_columns_hold_parts(people: Database, alice: psycopg.Connection[Any]) -> None:
    told: list[str] = []
    people.admin.add_notice_handler(lambda notice: told.append(notice.message_hint or ""))
    people.sql(FINISH)
    statement = next(hint for hint in told if "ALTER TABLE" in hint).split(": ")[-1]
    assert statement == 'ALTER TABLE "public"."person" DROP COLUMN "ssn_iv", DROP COLUMN "ssn_tag"'
    people.sql(statement, user="owner")
    assert columns(people, "person") == {"id", "ssn", "note"}
    assert values(alice) == PLAIN


USES = {
    "index": "CREATE INDEX used ON person_encrypted (note, ssn_iv)",
    "index expression": "CREATE INDEX used ON person_encrypted (id, encode(ssn_iv, 'hex'))",
    "partial index": "CREATE INDEX used ON person_encrypted (note) WHERE ssn_tag IS NOT NULL",
    "check": "ALTER TABLE person_encrypted ADD CONSTRAINT used CHECK (note <> '' OR ssn_iv IS NULL)",
    "view": "CREATE VIEW used AS SELECT ssn_tag FROM person",
    "view over the base": "CREATE VIEW used AS SELECT ssn_tag FROM person_encrypted",
    "policy": "CREATE POLICY used ON person_encrypted USING (ssn_tag IS NOT NULL)",
    "foreign key": "ALTER TABLE person_encrypted ADD UNIQUE (ssn_tag);"
    " CREATE TABLE used (tag text REFERENCES person_encrypted (ssn_tag))",
    "function": "CREATE FUNCTION used() RETURNS bigint BEGIN ATOMIC SELECT count(ssn_tag) FROM person; END",
    "trigger": "CREATE FUNCTION used() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
    " CREATE TRIGGER used BEFORE UPDATE OF ssn_tag ON person_encrypted FOR EACH ROW EXECUTE FUNCTION used()",
    "generated": "ALTER TABLE person_encrypted ADD COLUMN used text GENERATED ALWAYS AS (ssn_tag || note) STORED",
}


@pytest.mark.parametrize("use", USES)
def test_parts_that_something_uses_are_not_dropped(people: Database, alice: psycopg.Connection[Any], use: str) -> None:
    people.sql(USES[use])
    with pytest.raises(psycopg.Error) as refused:
        people.sql(FINISH_WHOLE)
    assert (refused.value.sqlstate, "used" in (refused.value.diag.message_detail or "")) == ("2BP01", True)
    assert "drop_parts" in (refused.value.diag.message_hint or "")
    assert values(alice) == PLAIN
    assert people.one("SELECT count(*) FROM envelope.adoption") == 1
    people.sql(FINISH)
    assert {"ssn_iv", "ssn_tag"} <= columns(people, "person")
    assert values(alice) == PLAIN


def test_the_end_drops_a_renamed_part(people: Database, alice: psycopg.Connection[Any]) -> None:
    people.sql("ALTER TABLE person_encrypted RENAME ssn_iv TO nonce")
    people.sql(FINISH_WHOLE)
    assert columns(people, "person") == {"id", "ssn", "note"}
    assert values(alice) == PLAIN
