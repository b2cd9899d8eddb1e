"""Retired KEK versions end wraps in backups, and in other databases: who must rewrap first, and whether it worked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from stack.processes import wait_until
from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import POLICY

KEY = "transit/keys/pg-envelope-shared"
STATES = "SELECT what, oldest, newest, state FROM envelope.kek_versions('shared') WHERE what NOT LIKE 'databases that%'"
HINTS = "SELECT hint FROM envelope.kek_versions('shared') WHERE what = %s"
AUDIT = "SELECT state FROM envelope.shred_audit()"
READ = "SELECT email FROM person"


@pytest.fixture
def shared(breakable: Stack) -> Iterator[Stack]:
    """A KEK that two databases share; the broker looks at it often."""
    policy = breakable.openbao.request("GET", POLICY)["data"]["policy"]
    rules = 'path "transit/*" { capabilities = ["read", "update"] }'
    breakable.openbao.request("PUT", POLICY, {"policy": f"{policy}\n{rules}\n"})
    breakable.openbao.request("POST", KEY, {"type": "aes256-gcm96", "derived": True})
    kek = {"shared": {"kms": "main", "key": "pg-envelope-shared"}}
    breakable.broker.configure({"kek": kek, "broker": {"probe_seconds": 0.2}})
    breakable.broker.restart()
    yield breakable
    breakable.openbao.request("POST", KEY + "/config", {"deletion_allowed": True})
    breakable.openbao.request("DELETE", KEY)


@pytest.fixture
def databases(shared: Stack, make_db: Callable[[], Database]) -> tuple[Database, Database]:
    """One with an erased key in a backup, and another one, both in store catalog."""
    made = make_db(), make_db()
    for db in made:
        db.sql("CREATE TABLE person (id int PRIMARY KEY, email text)")
        db.sql("""CALL envelope.protect('person', '["email"]', 'shared', 'catalog')""")
        db.sql("INSERT INTO person VALUES (1, 'a@b.c')")
    first, _ = made
    first.sql("SELECT envelope.register_backup('base')")
    first.sql("CALL envelope.shred('person', reason => 'test')")
    first.sql("SELECT envelope.rotate('person')")
    return made


def retire(stack: Stack, db: Database, version: int) -> None:
    """Older versions open no more, and the broker has seen it."""
    stack.openbao.request("POST", KEY + "/config", {"min_decryption_version": version})
    wait_until(lambda: dict(states(db))["the KMS"][0] == version, 60, "the broker's look at the KEK")


def states(db: Database) -> list[tuple[str, tuple[int, int, str]]]:
    return [(what, tuple(rest)) for what, *rest in db.sql(STATES)]


def test_step_by_step(shared: Stack, databases: tuple[Database, Database]) -> None:
    first, second = databases
    assert dict(states(first))["this database"] == (1, 1, "ok")
    assert dict(states(first))["erased keys in backups"] == (1, 1, "can be revived")
    (named,) = [what for what, _ in states(first) if what.startswith("database ")]
    assert second.name in named, "who else uses the KEK is named"
    assert "CALL envelope.rewrap('shared')" in first.one(HINTS, named)
    first.sql("CALL envelope.rotate_kek('shared')")
    assert dict(states(second))["this database"] == (1, 1, "needs old versions")
    assert second.one(HINTS, "this database") == "CALL envelope.rewrap('shared')"
    second.sql("CALL envelope.rewrap('shared')")
    for db in databases:
        assert dict(states(db))["this database"] == (2, 2, "ok")
    assert first.sql(AUDIT) == [("can be revived",)]
    retire(shared, first, 2)
    assert dict(states(first))["erased keys in backups"] == (1, 1, "dead")
    assert first.sql(AUDIT) == [("dead in the KMS",)]
    second.sql("SELECT envelope.flush('test')")
    assert second.sql(READ) == [("a@b.c",)]


def test_too_soon(shared: Stack, databases: tuple[Database, Database]) -> None:
    """The other database says what happened to it, and the way back."""
    first, second = databases
    first.sql("CALL envelope.rotate_kek('shared')")
    retire(shared, first, 2)
    assert dict(states(second))["this database"] == (1, 1, "cannot be read")
    hint = second.one(HINTS, "this database")
    assert hint.startswith("set min_decryption_version back to 1")
    shared.openbao.request("POST", KEY + "/config", {"min_decryption_version": 1})
    second.sql("CALL envelope.rewrap('shared')")
    assert second.sql(READ) == [("a@b.c",)]


def test_without_a_broker_nothing_is_called_dead(shared: Stack, databases: tuple[Database, Database]) -> None:
    first, _ = databases
    first.sql("CALL envelope.rotate_kek('shared')")
    retire(shared, first, 2)
    shared.broker.stop()
    assert first.sql(AUDIT) == [("can be revived",)]
    assert "the KMS" not in dict(states(first))
