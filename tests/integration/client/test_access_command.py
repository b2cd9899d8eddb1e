"""pg-envelope access: the matrix, and what differs from an earlier review."""

from __future__ import annotations

import json
from pathlib import Path

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.client.test_commands import Command


def test_a_review(stack: Stack, db: Database, tmp_path: Path) -> None:
    db.sql("CREATE TABLE person (id int PRIMARY KEY, email text); INSERT INTO person VALUES (1, 'a@b.c')")
    command = Command(stack, db.name)
    assert "Nobody reads anything." in command.done("access").out
    db.sql("""CALL envelope.protect('person', '["email"]'); GRANT SELECT ON person TO alice""")
    listed = command.done("access").out
    assert "alice" in listed
    assert "bob" not in listed
    assert "bob" in command.done("access", "--all", "--no-proof").out
    old = tmp_path / "old.json"
    old.write_text(command.done("access", "--json").out)
    assert "Nothing changed." in command.done("access", "--diff", str(old)).out
    db.sql("REVOKE SELECT ON person FROM alice; GRANT SELECT ON person TO bob")
    db.sql("SELECT envelope.mask('person', 'email', 'public', 'email')")
    changed = command.run("access", "--diff", str(old), "--json")
    assert changed.code == 1
    assert [(row["role"], row["before"], row["now"]) for row in json.loads(changed.out)] == [
        ("alice", "clear: grant", "none"),
        ("bob", "none", "masked: grant"),
    ]
    for text in ("{}", "[1]", "no json"):
        old.write_text(text)
        refused = command.run("access", "--diff", str(old))
        assert refused.code == 1
        assert "cannot be read" in refused.err
    assert command.run("access", "--diff", str(tmp_path / "missing")).code == 1
