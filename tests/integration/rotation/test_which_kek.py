"""The KEK that a call names: NULL is the default one, and any other name must be one of the broker's."""

from __future__ import annotations

import pytest

from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure

CALLS = [
    "SELECT envelope.create_key('api', {kek})",
    "SELECT envelope.create_secret('api', {kek})",
    """CALL envelope.protect('person', '["email"]', {kek})""",
    "CALL envelope.rotate_kek({kek})",
    "CALL envelope.rewrap({kek})",
    "CALL envelope.move_kek({kek}, 'default')",
    "CALL envelope.move_kek('default', {kek})",
]


@pytest.fixture
def plain(db: Database) -> Database:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    return db


@pytest.mark.parametrize("kek", ["''", "' '", "'none'"])
@pytest.mark.parametrize("call", CALLS)
def test_a_kek_that_is_none_is_refused_and_nothing_is_made(plain: Database, call: str, kek: str) -> None:
    sqlstate, text, hint = failure(plain.connect(), call.format(kek=kek))
    assert (sqlstate, text) == ("42704", "pg_envelope: the broker's configuration has no such KEK")
    assert "[kek.NAME]" in hint
    assert plain.one("SELECT count(*) FROM envelope_private.key") == 0


@pytest.mark.parametrize("call", CALLS[:3])
def test_null_is_the_default(plain: Database, call: str) -> None:
    plain.sql(call.format(kek="NULL"))
    assert plain.sql("SELECT DISTINCT kek FROM envelope.keys") == [("default",)]
