"""Indexes and UNIQUE of old values become ones of tokens, in the transaction that adopts the column."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from Crypto.Cipher import AES
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from tests.fix_stack import Database, Fill
from tests.integration.adoption.fix_legacy import CONVERT, FINISH, import_key, make_patients, token
from tests.integration.adoption.fix_legacy import KEY as FERNET_KEY
from tests.integration.adoption.test_columns_beside import ROW_SECURITY, TRIGGER

KEY = bytes(range(32))
DETERMINISTIC = json.dumps(
    {"container": "joined", "order": ["ct"], "cipher": "aes-cbc", "iv_from": "key", "encoding": "base64"}
)
ADOPT = "CALL envelope.adopt('person', %s, %s, 'legacy', accept_unauthenticated => true)"
ROWS = 9
DUPLICATE = psycopg.errors.UniqueViolation


def sealed(value: str) -> str:
    """What an application stores that always gives a value the same ciphertext."""
    padder, cipher = PKCS7(128).padder(), Cipher(algorithms.AES(KEY), modes.CBC(KEY[:16])).encryptor()
    return base64.b64encode(cipher.update(padder.update(value.encode()) + padder.finalize())).decode()


def make_people(db: Database, kind: str = "text") -> None:
    """person (id, ssn, city, note) of `owner`: a UNIQUE of ssn, an index of city and another column."""
    db.sql(f"CREATE TABLE person (id int PRIMARY KEY, ssn {kind} NOT NULL UNIQUE, city {kind}, note text)")
    db.sql("CREATE INDEX person_city ON person (city, note); ALTER TABLE person OWNER TO owner")
    for row in range(1, ROWS + 1):
        db.sql("INSERT INTO person VALUES (%s, %s, %s, 'n')", row, sealed(f"ssn {row}"), sealed(f"city {row % 3}"))
    import_key(db, "legacy", "raw", KEY)


def adopt(db: Database, columns: str = '["ssn", "city"]') -> None:
    db.sql(ADOPT, columns, DETERMINISTIC)


@functools.cache
def fill(more: str, kind: str) -> Fill:
    """Makes the table while it is being adopted, in one of the ways in which a write reaches the base table."""

    def make(db: Database) -> None:
        make_people(db, kind)
        db.sql(more or "SELECT")
        db.sql("GRANT ALL ON person TO alice")
        adopt(db)

    return make


@pytest.fixture
def people(filled: Callable[[Fill], Database]) -> Database:
    """The usual one of these tables, for tests that destroy no key."""
    return filled(fill("", "text"))


@pytest.fixture
def alice(people: Database) -> psycopg.Connection[Any]:
    """One session for all that she does in a test."""
    return people.connect("alice")


def refuses_twice(alice: psycopg.Connection[Any], value: str, *, adopts: bool = True) -> None:
    """Nobody can write a value that another row has: in the clear, and during the adoption as ciphertext, too."""
    for given in (value, sealed(value)) if adopts else (value,):
        for statement in ("INSERT INTO person VALUES (99, %s)", "UPDATE person SET ssn = %s WHERE id = 9"):
            with pytest.raises(DUPLICATE) as refused:
                alice.execute(statement, [given])
            assert value not in str(refused.value)


def found(alice: psycopg.Connection[Any], column: str, value: str) -> list[int]:
    query = f"SELECT id FROM person WHERE {column}_search = %s::text ORDER BY id"
    return [row for (row,) in alice.execute(query, [value])]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["text", "bytea"])
@pytest.mark.parametrize("more", ["", TRIGGER, ROW_SECURITY], ids=["as owner", "trigger", "row security"])
def test_values_are_unique_and_found_at_every_moment(filled: Callable[[Fill], Database], more: str, kind: str) -> None:
    db = filled(fill(more, kind))
    alice = db.connect("alice")
    for step in (None, "INSERT INTO person VALUES (50, 'new', 'city 1')", CONVERT, FINISH):
        step = (step or "SELECT").replace("patient", "person")
        db.sql(step)
        refuses_twice(alice, "ssn 3", adopts="finish" not in step)
        assert found(alice, "ssn", "ssn 3") == [3]
        assert found(alice, "city", "city 1")[:3] == [1, 4, 7]
        db.sql("CALL envelope.verify('person')")
        assert db.sql("SELECT * FROM envelope.faults") == []
    refuses_twice(alice, "new", adopts=False)
    db.sql("CALL envelope.unprotect('person')")
    refuses = "INSERT INTO person VALUES (99, 'ssn 3')" if kind == "text" else "INSERT INTO person VALUES (99, 'new')"
    with pytest.raises(DUPLICATE):
        db.sql(refuses)
    assert db.sql("SELECT indexname FROM pg_indexes WHERE tablename = 'person' ORDER BY 1") == [
        ("person_city",),
        ("person_pkey",),
        ("person_ssn_key",),
    ]


def test_a_written_value_that_is_encrypted_has_the_token_of_its_plaintext(alice: psycopg.Connection[Any]) -> None:
    alice.execute("INSERT INTO person VALUES (50, %s)", [sealed("mine")])
    alice.execute("UPDATE person SET ssn = %s WHERE id = 2", [sealed("yours")])
    assert (found(alice, "ssn", "mine"), found(alice, "ssn", "yours"), found(alice, "ssn", "ssn 2")) == ([50], [2], [])
    assert found(alice, "ssn", sealed("mine")) == []


def test_an_old_value_that_is_mended_below_the_view_gets_its_token(
    people: Database, alice: psycopg.Connection[Any]
) -> None:
    people.sql("UPDATE person_encrypted SET ssn_legacy = %s WHERE id = 4", sealed("mended"))
    people.sql("INSERT INTO person_encrypted (id, ssn_legacy) VALUES (70, %s)", sealed("loaded"))
    assert [found(alice, "ssn", value) for value in ("mended", "loaded", "ssn 4")] == [[4], [70], []]
    people.sql("UPDATE person_encrypted SET id = 71 WHERE id = 70")
    people.sql("CALL envelope.convert('person')")
    assert (found(alice, "ssn", "loaded"), found(alice, "ssn", "ssn 1")) == ([71], [1])


def test_values_that_were_unique_in_their_ciphertext_only(db: Database) -> None:
    """With an IV of its own each value was unique. Nothing is changed, and no value is shown."""
    make_patients(db, 5, more=" UNIQUE")
    db.sql("INSERT INTO patient VALUES (6, 'x', %s)", token("ssn 2"))
    before = db.sql("SELECT * FROM patient ORDER BY id")
    with pytest.raises(DUPLICATE) as refused:
        db.sql("CALL envelope.adopt('patient', 'ssn', 'fernet', 'legacy')")
    assert "patient_ssn_key" in str(refused.value)
    assert "ssn 2" not in str(refused.value)
    assert db.sql("SELECT * FROM patient ORDER BY id") == before
    db.sql("ALTER TABLE patient DROP CONSTRAINT patient_ssn_key")
    db.sql("""CALL envelope.adopt('patient', '{"ssn": {"search": "exact"}}', 'fernet', 'legacy')""")
    assert db.sql("SELECT ssn FROM patient GROUP BY ssn HAVING count(*) > 1") == [("ssn 2",)]
    assert db.sql("SELECT id FROM patient WHERE ssn_search = 'ssn 2' ORDER BY id") == [(2,), (6,)]


def test_an_old_value_that_does_not_open_has_no_token(db: Database) -> None:
    make_people(db)
    db.sql("GRANT ALL ON person TO alice")
    db.sql("UPDATE person SET ssn = id || ' is garbage' WHERE id IN (1, 2)")
    adopt(db)
    assert db.sql("SELECT id FROM person_encrypted WHERE ssn_search IS NULL ORDER BY id") == [(1,), (2,)]
    alice = db.connect("alice")
    assert found(alice, "ssn", "ssn 3") == [3]
    alice.execute("UPDATE person SET ssn = 'mended' WHERE id = 1")
    alice.execute("DELETE FROM person WHERE id = 2")
    db.sql("CALL envelope.finish_adoption('person', destroy_key => false)")
    assert found(alice, "ssn", "mended") == [1]


def test_a_unique_column_of_aes_siv(db: Database) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, ssn bytea UNIQUE)")
    for row in range(1, ROWS + 1):
        ciphertext, tag = AES.new(KEY, AES.MODE_SIV).encrypt_and_digest(f"ssn {row}".encode())
        db.sql("INSERT INTO person VALUES (%s, %s)", row, tag + ciphertext)
    import_key(db, "legacy", "raw", KEY)
    form = json.dumps({"container": "joined", "order": ["ct"], "cipher": "aes-siv"})
    db.sql("CALL envelope.adopt('person', 'ssn', %s, 'legacy')", form)
    for step in (
        "SELECT",
        "CALL envelope.convert('person')",
        "CALL envelope.finish_adoption('person', destroy_key => false)",
    ):
        db.sql(step)
        assert db.sql("SELECT id FROM person WHERE ssn_search = 'ssn 3'") == [(3,)]
        assert db.one("SELECT count(*) FROM person WHERE ssn = 'ssn ' || id") == ROWS
        with pytest.raises(DUPLICATE):
            db.sql("INSERT INTO person VALUES (99, 'ssn 3')")


def test_searches_that_no_index_asks_for(db: Database) -> None:
    make_patients(db, 5)
    folded = {"exact": {"normalize": "casefold", "as": "ssn_folded"}}
    search = {"ssn": {"search": ["exact", folded, {"match": {"force": True}}], "unique": True}}
    db.sql("CALL envelope.adopt('patient', %s, 'fernet', 'legacy')", json.dumps(search))
    assert db.sql("SELECT id FROM patient WHERE ssn_folded = 'SSN 2'") == [(2,)]
    assert db.sql("SELECT id FROM patient WHERE ssn_match @> '%N 2'") == [(2,)]
    with pytest.raises(DUPLICATE):
        db.sql("UPDATE patient SET ssn = 'ssn 3' WHERE id = 1")
    for wrong in ('{"ssn": {"serach": 1}}', "{", '{"ssn": {"search": {"exact": {"normalize": "rot13"}}}}'):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            db.sql("CALL envelope.adopt('patient', %s, 'fernet', 'legacy')", wrong)


UNFIT = {
    "CREATE INDEX odd ON person (lower(city))": "lower()",
    "CREATE UNIQUE INDEX odd ON person (city) WHERE city IS NOT NULL AND id > 3": "condition",
    "CREATE INDEX odd ON person USING hash (city)": "odd",
}


@pytest.mark.parametrize("index", UNFIT)
def test_an_index_that_tokens_cannot_replace_is_refused_or_dropped(db: Database, index: str) -> None:
    make_people(db)
    db.sql("DROP INDEX person_city; UPDATE person SET city = ssn")
    db.sql(index)
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        adopt(db, "city")
    assert UNFIT[index] in str(refused.value.diag.message_detail)
    assert db.one("SELECT relkind FROM pg_class WHERE oid = 'person'::regclass") == "r"
    adopt(db, '{"city": {"index": "drop"}}')
    db.sql("CALL envelope.finish_adoption('person', destroy_key => false)")
    db.sql("CALL envelope.unprotect('person')")
    assert db.one("SELECT count(*) FROM pg_indexes WHERE indexname = 'odd'") == 1


def test_tokens_that_would_give_the_values_away_need_force(db: Database) -> None:
    """As in protect(). The ciphertext alone looks as if all values were different."""
    db.sql("CREATE TABLE patient (id int PRIMARY KEY, smokes text)")
    with db.admin.cursor() as cursor, cursor.copy("COPY patient FROM STDIN") as copy:
        for row in range(1500):
            copy.write_row((row, token("yes" if row % 3 else "no")))
    import_key(db, "legacy", "fernet", FERNET_KEY)
    call = "CALL envelope.adopt('patient', '{\"smokes\": {\"search\": %s}}', 'fernet', key => 'legacy')"
    with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
        db.sql(call % '"exact"')
    assert "2 different values" in (refused.value.diag.message_detail or "")
    assert db.one("SELECT relkind = 'r' FROM pg_class WHERE oid = 'patient'::regclass")
    db.sql(call % '{"exact": {"force": true}}')
    assert db.one("SELECT count(*) FROM patient WHERE smokes_search = 'no'") == 500
