"""Every value that a library wrote is read through the view, converted, and equal in the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest

from tests.fix_stack import NAMES, Database
from tests.integration.adoption.fix_legacy import make_case, read
from tests.unit.foreign.fix_cases import CASES

JSON = ("node_v1", "rails_email", "node_pbkdf2", "jwe_json")


def columns() -> list[tuple[str, str]]:
    binary = {name: isinstance(case.values[0], bytes) for name, case in CASES.items()}
    found = [(name, "bytea" if binary[name] else "text") for name in CASES]
    return [*found, *((name, "jsonb") for name in JSON), ("fernet", "varchar(5000)")]


def layout(name: str) -> str:
    found = CASES[name].layout
    return found if isinstance(found, str) else json.dumps(found)


@pytest.fixture
def schema_db(shared_db: Database) -> Iterator[Database]:
    """Each test has a schema of its own: with it, a protected table goes much faster than by itself."""
    schema = f"s{next(NAMES)}"
    shared_db.sql(f"CREATE SCHEMA {schema}; SET search_path = {schema}")
    yield shared_db
    # A test that failed may have left what cannot be dropped.
    with suppress(psycopg.Error):
        shared_db.sql(f"DROP SCHEMA {schema} CASCADE")


@pytest.mark.parametrize(("name", "kind"), columns())
def test_a_column_is_adopted(schema_db: Database, name: str, kind: str) -> None:
    db, case, key = schema_db, CASES[name], f"{name} {kind}"
    make_case(db, case, kind, key)
    db.sql("CALL envelope.adopt('legacy', 'value', %s, %s, accept_unauthenticated => true)", layout(name), key)
    assert read(db) == case.plain
    db.sql("CALL envelope.convert('legacy')")
    assert db.one("SELECT count(value_legacy) FROM legacy_encrypted") == 0
    assert read(db) == case.plain
    db.sql("CALL envelope.finish_adoption('legacy', destroy_key => false)")
    assert read(db) == case.plain
    assert db.sql("SELECT * FROM envelope.adoption") == []


def test_binary_content_becomes_a_bytea(db: Database) -> None:
    make_case(db, CASES["fernet"], "text")
    db.sql("CALL envelope.adopt('legacy', 'value', 'fernet', 'old', type => 'bytea')")
    db.sql("CALL envelope.convert('legacy')")
    assert read(db) == [plain.encode() for plain in CASES["fernet"].plain]


@pytest.mark.parametrize("kind", ["token", 'varchar(200) COLLATE "C"'])
def test_the_type_in_the_clear(db: Database, kind: str) -> None:
    """A domain's CHECK is about tokens, and the values in the clear are none."""
    db.sql("CREATE DOMAIN token AS text CHECK (VALUE LIKE 'gAAAA%')")
    case = CASES["fernet"]
    some = case._replace(values=case.values[3:], plain=case.plain[3:])
    make_case(db, some, kind)
    db.sql("CALL envelope.adopt('legacy', 'value', 'fernet', 'old')")
    db.sql("INSERT INTO legacy VALUES (50, 'in the clear')")
    db.sql("CALL envelope.finish_adoption('legacy', destroy_key => false)")
    assert read(db) == [*some.plain, "in the clear"]
    named = (
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'legacy'::regclass AND attnum = 2"
    )
    assert db.one(named) == ("text" if kind == "token" else "character varying(200)")
