"""Raises the alarm when somebody opens a canary: docs/canaries.md."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from uuid import UUID

from pg_envelope.broker.requests.asked import AskedRequest
from pg_envelope.broker.requests.objects import FieldRef
from pg_envelope.broker.requests.state import State

log = logging.getLogger(__name__)
# How the ledger of reads names what a session tells of itself.
NAMES = {
    "user": "role",
    "role": "acting",
    "ip": "client",
    "application": "application",
    "pid": "pid",
    "database": "database",
}


async def alarm(state: State, asked: AskedRequest, database: UUID, opened: Sequence[FieldRef]) -> None:
    """Tells metrics, log, audit log and ledger who opens these keys. Raises what is wrong with the ledger: then no key
    leaves.
    """
    who = asked.facts["who"]
    key_ids = sorted({field.key_id for field in opened})
    told = {
        **{name: who.get(member) for name, member in NAMES.items()},
        # What the kernel, or the certificate of an application, says of who asks.
        "peer": asked.facts["peer"],
        "database_uuid": str(database),
        "columns": sorted({field.label for field in opened}),
        "key_ids": key_ids,
    }
    state.metrics.canaries.add()
    # As JSON, because a client chooses the name of its application.
    log.critical("a canary was opened: %s", json.dumps(told))
    asked.facts["canaries"] = key_ids
    await state.reads.tell("canary", **told)
