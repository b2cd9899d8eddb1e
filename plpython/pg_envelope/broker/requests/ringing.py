"""Requests of sessions that read audited columns: they bring their ring, and have it emptied."""

from __future__ import annotations

from pg_envelope import errors, wire
from pg_envelope.broker.ledger.limits import ReadLimit
from pg_envelope.broker.requests.asked import AskedRequest, base64_text
from pg_envelope.broker.requests.messages import AttachRequest, DrainRequest, SpendRequest
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


async def spend(state: State, asked: AskedRequest) -> wire.Message:
    wanted = read(SpendRequest, asked.body)
    limit = ReadLimit(wanted.rows, wanted.seconds, wanted.refuses)
    granted = state.limits.ask(str(wanted.field), wanted.user, limit, wanted.wanted)
    if granted.is_new:
        state.metrics.limits.add(limit.then)
        told = {"field": str(wanted.field), "user": wanted.user, "rows": limit.rows, "seconds": limit.seconds}
        await state.reads.tell("limit", **told, then=limit.then, database=asked.facts["who"].get("database"))
    return {"granted": granted.amount}
