"""Requests of sessions that read audited columns: they bring their ring, and have it emptied."""

from __future__ import annotations

from pg_envelope import errors, wire
from pg_envelope.broker.requests.asked import AskedRequest, base64_text
from pg_envelope.broker.requests.messages import AttachRequest, DrainRequest
from pg_envelope.broker.requests.reading import read
from pg_envelope.broker.requests.state import State


async def attach(state: State, asked: AskedRequest) -> wire.Message:
    wanted = read(AttachRequest, asked.body)
    carried = asked.carried
    if carried.descriptor is None or carried.ring is not None:
        raise errors.BadInput("this connection brings no ring, or has brought one")
    who, pid = asked.facts["who"], asked.facts["peer"]["pid"]
    carried.ring = await state.reads.attach(carried.descriptor, wanted.ring, who, pid)
    return {"statement_key": base64_text(state.reads.statement_key)}


async def drain(state: State, asked: AskedRequest) -> wire.Message:
    wanted = read(DrainRequest, asked.body)
    if asked.carried.ring is None:
        raise errors.BadInput("this connection has brought no ring")
    await state.reads.drain(asked.carried.ring, wanted.seq)
    return {}
