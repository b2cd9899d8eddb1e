"""pg-envelope kek and key: rotations from the command line."""

from __future__ import annotations

import pytest

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.client.test_commands import Command


@pytest.fixture
def command(stack: Stack, people: Database) -> Command:
    return Command(stack, people.name)


def test_kek(command: Command, people: Database) -> None:
    old = people.one("SELECT kek_version FROM envelope.keys")
    done = command.done("kek", "rotate", "default")
    assert "All DEKs of this database under KEK default have its newest version." in done.out
    assert f"all DEKs have version {old + 1}; 1 were rewrapped" in done.err
    assert "0 were rewrapped" in command.done("kek", "rewrap", "default").err
    assert people.one("SELECT kek_version FROM envelope.keys") == old + 1


def test_an_unknown_kek(command: Command) -> None:
    failed = command.run("kek", "rotate", "other")
    assert failed.code == 1
    assert "the broker's configuration has no such KEK" in failed.err


def test_a_field(command: Command, people: Database) -> None:
    assert "use the new field key" in command.done("key", "rotate-field", "person", "email").out
    assert people.one("SELECT max(version) FROM envelope_private.field_key") == 2


def test_an_emergency(command: Command, people: Database) -> None:
    done = command.done("key", "emergency", "person", "--reason", "test")
    assert "no value is under an old key any more" in done.out
    assert "compromised: 1" in done.err
    assert people.sql("SELECT version, state FROM envelope.keys WHERE relation IS NOT NULL") == [
        (1, "compromised"),
        (2, "active"),
    ]
    assert command.run("key", "emergency", "person").code == 2, "a reason is needed"
