"""Who wants back what was erased, or to erase what is not theirs: stolen wraps, curious roles, forged entries."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import failure

from .conftest import entries_of, ledger

READ = "SELECT email FROM person ORDER BY id"
REVIVE = """
UPDATE envelope_private.dek SET state = 'active', wrapped = %s, kek_version = 1 WHERE version = 1"""


@pytest.fixture
def shop(db: Database) -> Database:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
    db.sql("""CALL envelope.protect('person', '["email"]', store => 'catalog')""")
    db.sql("INSERT INTO person VALUES (1, 'a@b.c')")
    return db


def revive(shop: Database, wrapped: str) -> None:
    """The catalog as an old dump has it."""
    shop.sql(REVIVE, wrapped)
    shop.sql("UPDATE envelope_private.field_key SET state = 'active'")


def test_a_stolen_wrap_does_not_open_at_this_broker(shop: Database) -> None:
    stolen = shop.one("SELECT wrapped FROM envelope_private.dek")
    shop.sql("CALL envelope.shred('person', reason => 'test')")
    revive(shop, stolen)
    state, message, _ = failure(shop.connect(), READ)
    assert (state, message) == ("55000", "pg_envelope: the key was destroyed")
    # Nor when the catalog lies about which DEK it is.
    shop.sql("UPDATE envelope_private.dek SET fingerprint = decode(repeat('00', 16), 'hex')")
    assert failure(shop.connect(), READ)[0] == "XX001"


def test_rewrap_brings_it_under_no_other_wrap(shop: Database) -> None:
    stolen = shop.one("SELECT wrapped FROM envelope_private.dek")
    shop.sql("CALL envelope.shred('person', reason => 'test')")
    revive(shop, stolen)
    state, message, hint = failure(shop.connect(), "CALL envelope.rewrap('default')")
    assert (state, message) == ("55000", "pg_envelope: the key was destroyed")
    assert "replay_erasures()" in hint
    assert shop.one("SELECT wrapped FROM envelope_private.dek") == stolen


def test_a_broker_that_starts_anew_remembers(shop: Database) -> None:
    stolen = shop.one("SELECT wrapped FROM envelope_private.dek")
    shop.sql("CALL envelope.shred('person', reason => 'test')")
    shop.stack.broker.restart()
    revive(shop, stolen)
    assert failure(shop.connect(), READ)[0] == "55000"


def test_a_broker_that_was_killed_remembers(shop: Database) -> None:
    stolen = shop.one("SELECT wrapped FROM envelope_private.dek")
    shop.sql("CALL envelope.shred('person', reason => 'test')")
    shop.stack.broker.kill()
    shop.stack.broker.start()
    revive(shop, stolen)
    assert failure(shop.connect(), READ)[0] == "55000"


@pytest.mark.parametrize(
    "statement",
    [
        "CALL envelope.shred('person', reason => 'test')",
        "CALL envelope.shred_key('k', 'test')",
        "SELECT * FROM envelope.replay_erasures()",
        "SELECT * FROM envelope.shred_audit()",
        "SELECT envelope.register_backup('b')",
        "SELECT envelope.forget_backup('b')",
        "SELECT * FROM envelope_private.tombstone",
        "SELECT * FROM envelope_private.backup",
    ],
)
def test_a_curious_role_may_not(shop: Database, alice: psycopg.Connection[Any], statement: str) -> None:
    assert failure(alice, statement)[0] == "42501"
    shop.sql("GRANT ALL ON person TO alice")
    assert failure(alice, statement)[0] == "42501"
    assert shop.sql(READ) == [("a@b.c",)]
    assert entries_of(shop) == []


def test_the_tables_owner_may_not(db: Database, owner: psycopg.Connection[Any]) -> None:
    owner.execute("CREATE TABLE mine (id int PRIMARY KEY, v text)")
    db.sql("""CALL envelope.protect('mine', '["v"]', store => 'catalog')""")
    assert failure(owner, "CALL envelope.shred('mine')")[0] == "42501"


def test_who_may_execute_and_is_no_superuser_is_told_so(shop: Database, alice: psycopg.Connection[Any]) -> None:
    shop.sql("GRANT USAGE ON SCHEMA envelope TO alice")
    shop.sql("GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA envelope TO alice")
    shop.sql("GRANT SELECT ON person TO alice")
    assert "needs a superuser" in failure(alice, "CALL envelope.shred('person', reason => 'test')")[1]
    assert "needs a superuser" in failure(alice, "CALL envelope.shred_key('k', 'test')")[1]
    assert entries_of(shop) == []


def test_the_ledger_is_private(shop: Database) -> None:
    shop.sql("CALL envelope.shred('person', reason => 'test')")
    path = shop.stack.broker.erasures
    for file in (path, path.with_name(path.name + ".key")):
        assert file.stat().st_mode & 0o777 == 0o600
    assert ledger(shop.stack)
