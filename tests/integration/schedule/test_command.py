"""pg-envelope due, rotate --due and schedule, as cron runs them."""

from __future__ import annotations

import json

import pytest

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.client.test_commands import Command

AGE = "UPDATE envelope_private.dek SET created_at = created_at - interval '91 days'"


@pytest.fixture
def command(stack: Stack, people: Database) -> Command:
    return Command(stack, people.name)


def test_what_is_due_is_rotated(command: Command, people: Database) -> None:
    people.sql(AGE)
    assert "public.person" in command.done("due").out
    dry = command.done("rotate", "--due", "--dry-run")
    assert "would run: SELECT envelope.rotate('public.person')" in dry.err
    done = command.done("rotate", "--due", "--json")
    assert json.loads(done.out) == {
        "due": [{"level": "dek", "subject": "public.person", "command": "SELECT envelope.rotate('public.person')"}],
        "still_due": [],
    }
    assert people.one("SELECT max(version) FROM envelope.keys") == 2
    assert "nothing is due" in command.done("rotate", "--due").err


def test_a_failure_has_an_exit_code(command: Command, people: Database) -> None:
    people.sql(AGE)
    people.sql("UPDATE envelope_private.key SET kek = 'none'")
    failed = command.run("rotate", "--due")
    assert failed.code == 1
    assert "1 of 1 rotations failed" in failed.err
    assert "dek public.person: the broker's configuration has no such KEK" in failed.err


def test_without_due_it_does_nothing(command: Command, people: Database) -> None:
    people.sql(AGE)
    assert command.run("rotate").code == 2
    assert people.one("SELECT max(version) FROM envelope.keys") == 1


def test_policies(command: Command, people: Database) -> None:
    assert len(command.rows("schedule", "list")) == 3
    command.done("schedule", "set", "dek", "7 days", "--for", "public.person", "--grace", "2 days", "--reencrypt")
    command.done("schedule", "set", "field_key", "never")
    assert command.rows("schedule", "list")[2:] == [
        {
            "level": "dek",
            "subject": "public.person",
            "every": "7 days",
            "transition": "1 day",
            "grace": "2 days",
            "reencrypt": True,
        },
        {
            "level": "field_key",
            "subject": None,
            "every": None,
            "transition": "1 day",
            "grace": "24:00:00",
            "reencrypt": False,
        },
    ]
    assert [row["level"] for row in command.rows("due")] == ["dek", "kek"]
    assert command.run("schedule", "set", "dek", "soon").code != 0
