"""Every value whose library keeps IV and salt in other columns is read through the view, converted, and equal."""

from __future__ import annotations

import json

import pytest

from tests.fix_stack import Database
from tests.integration.adoption.fix_legacy import import_key, read
from tests.unit.foreign.fix_apart import APART

PARTS = {2: "value_iv", 3: "value_iv, value_salt"}


@pytest.mark.parametrize("name", APART)
def test_a_column_is_adopted(shared_db: Database, name: str) -> None:
    db, case = shared_db, APART[name]
    kind = "bytea" if isinstance(case.rows[0][0], bytes) else "text"
    db.sql("DROP TABLE IF EXISTS legacy_encrypted CASCADE; DROP TABLE IF EXISTS legacy")
    db.sql(f"CREATE TABLE legacy (id int PRIMARY KEY, value {kind}, value_iv {kind}, value_salt text)")
    places = ", ".join(["%s"] * len(case.rows[0]))
    for number, row in enumerate(case.rows):
        db.sql(f"INSERT INTO legacy (id, value, {PARTS[len(row)]}) VALUES (%s, {places})", number, *row)
    import_key(db, name, case.form, case.secret)
    adopt = "CALL envelope.adopt('legacy', 'value', %s, %s, accept_unauthenticated => true)"
    db.sql(adopt, json.dumps(case.spec), name)
    assert read(db) == case.plain
    db.sql("CALL envelope.convert('legacy')")
    assert db.one("SELECT count(value_legacy) FROM legacy_encrypted") == 0
    db.sql("CALL envelope.finish_adoption('legacy', destroy_key => false)")
    assert read(db) == case.plain
