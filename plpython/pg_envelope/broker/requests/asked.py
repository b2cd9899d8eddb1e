"""Describes a request under way, and the facts of it that go to the audit log."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from pg_envelope import wire
from pg_envelope.broker.ledger.rings import SessionRing

Facts = dict[str, Any]


@dataclass
class Carried:
    """What belongs to a connection: the descriptor that came with its first byte, and the ring that it became."""

    descriptor: int | None = None
    ring: SessionRing | None = None


@dataclass(frozen=True)
class AskedRequest:
    """A request's body, the time at which it must be answered, and the facts for the audit log."""

    body: wire.Message
    until: float
    facts: Facts
    carried: Carried = field(default_factory=Carried)


def told_outcome(found: list[wire.Message]) -> Facts:
    """Returns facts: how many succeeded, and the error codes of the others."""
    failed = [item["error"]["code"] for item in found if "error" in item]
    facts: Facts = {"count": len(found) - len(failed)}
    if failed:
        facts.update(outcome="failed" if len(failed) == len(found) else "partial", error=sorted(set(failed)))
    return facts


def base64_text(content: bytes) -> str:
    return base64.b64encode(content).decode()
