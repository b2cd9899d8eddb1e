"""pg-envelope kek move and tenant: what a person types."""

from __future__ import annotations

import pytest

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.client.test_commands import Command
from tests.integration.operations.fix_kms_life import READ, failure


@pytest.fixture
def command(keks: Stack, people: Database) -> Command:
    return Command(keks, people.name)


def test_from_kek_to_kek(command: Command, people: Database) -> None:
    done = command.done("kek", "move", "default", "laptop", "--table", "person")
    assert "What was under KEK default is under KEK laptop." in done.out
    assert "1 DEKs were moved from KEK default to laptop" in done.err
    assert people.sql("SELECT kek, store FROM envelope.keys") == [("laptop", "catalog")]
    command.done("kek", "move", "laptop", "default", "--store", "vault")
    assert people.sql("SELECT kek, store FROM envelope.keys") == [("default", "vault")]
    failed = command.run("kek", "move", "default", "none")
    assert failed.code == 1
    assert "the broker's configuration has no such KEK" in failed.err


def test_keys_are_taken_and_given_back(command: Command, people: Database) -> None:
    assert "The keys of person are suspended." in command.done("suspend", "person", "--reason", "unpaid").out
    assert failure(people.admin, READ)[0] == "55000"
    assert "The keys of person are usable again." in command.done("unsuspend", "person").out
    assert people.one(READ) == "a@b.c"
    assert command.run("suspend", "person").code == 2, "a reason is needed"


def test_a_kek_of_its_own(command: Command, docs: Database, keks: Stack) -> None:
    tenants = Command(keks, docs.name)
    done = tenants.done("tenant", "kek", "doc", "acme", "laptop")
    assert "New keys of acme are made under KEK laptop." in done.out
    tenants.done("kek", "move", "default", "laptop", "--table", "doc", "--tenant", "acme")
    assert docs.sql("SELECT scope, kek FROM envelope_private.dek WHERE scope IS NOT NULL ORDER BY 1") == [
        ("acme", "laptop"),
        ("zen", "default"),
    ]
