"""Fixtures of the erasure tests: the stack that may be broken, and the ledger of its broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stack.stack import Stack
from tests.fix_stack import Database
from tests.integration.operations.fix_kms_life import POLICY, breakable, people

__all__ = ["breakable", "people", "policy"]


def ledger(stack: Stack) -> list[dict[str, Any]]:
    """The entries of the broker's ledger."""
    path = Path(stack.broker.erasures)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def entries_of(db: Database) -> list[dict[str, Any]]:
    """Those that are about a database."""
    with db.connect() as connection:
        (uuid,) = connection.execute("SELECT database_uuid::text FROM envelope_private.installation").fetchone() or (
            "",
        )
    return [entry for entry in ledger(db.stack) if entry["database"] == uuid]


def allow_shred(stack: Stack) -> None:
    """The policy as `init --allow-shred` writes it."""
    held = stack.openbao.request("GET", POLICY)["data"]["policy"]
    rule = '\npath "kv/metadata/pg_envelope/*" { capabilities = ["delete"] }\n'
    stack.openbao.request("PUT", POLICY, {"policy": held + rule})


@pytest.fixture
def policy(stack: Stack) -> Iterator[Stack]:
    """The stack, whose broker may delete keys from the key store."""
    held = stack.openbao.request("GET", POLICY)["data"]["policy"]
    allow_shred(stack)
    yield stack
    stack.openbao.request("PUT", POLICY, {"policy": held})
