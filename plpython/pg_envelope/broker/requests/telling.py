"""Requests that open no DEK: the broker's status, and events that it is told for its audit log and metrics."""

from __future__ import annotations

import asyncio

from pg_envelope import wire
from pg_envelope.broker.requests import status as view
from pg_envelope.broker.requests.asked import AskedRequest
from pg_envelope.broker.requests.messages import (
    FailedRequest,
    FlushRequest,
    RecordRequest,
    RefusedRequest,
    ScheduleRequest,
    StatusRequest,
)
from pg_envelope.broker.requests.reading import read
from pg_envelope.broker.requests.state import State
from pg_envelope.broker.watch.metrics import FAILURES, OTHER

# A status for which somebody waits, also while a KMS is wedged.
LOOK_SECONDS = 2.0


async def status(state: State, asked: AskedRequest) -> wire.Message:
    if looked := read(StatusRequest, asked.body).looked(state.config.kek):
        await _look(state, looked, min(asked.until, state.clock() + LOOK_SECONDS))
    told = view.report(state.config, state.deks, state.kms, state.epoch.value, state.users)
    return {**told, "audit": _audit_state(state), "reads": _reads_state(state), **_checkpoints(state)}


async def _look(state: State, keks: list[str], until: float) -> None:
    """Asks for KEKs now, as the probe does at its times; what is found is remembered, a problem too."""
    known = [state.deks.kek(name) for name in keks]
    await asyncio.gather(*(kms.probe(key, until) for kms, key in known), return_exceptions=True)


def _audit_state(state: State) -> wire.Message | None:
    found = state.audit.problem()
    return None if found is None else dict(zip(("state", "detail", "hint"), found, strict=True))


def _reads_state(state: State) -> wire.Message | None:
    trouble = state.reads.trouble
    return None if trouble is None else {"detail": trouble.said, "hint": trouble.hint}


def _checkpoints(state: State) -> wire.Message:
    return {"reads_anchor": state.config.broker.anchor_kind, "reads_signed_at": state.reads.signed_at}


async def schedule(state: State, asked: AskedRequest) -> wire.Message:
    told, database = read(ScheduleRequest, asked.body), str(asked.facts["who"].get("database", ""))
    state.metrics.overdue.set(database, to=told.overdue)
    for key in told.oldest:
        state.metrics.key_ages.set(database, key.level, to=key.since)
    return {}


async def flush(state: State, asked: AskedRequest) -> wire.Message:
    asked.facts["reason"] = read(FlushRequest, asked.body).reason
    return {"epoch": state.flush(asked.facts)}


async def record(_: State, asked: AskedRequest) -> wire.Message:
    told = read(RecordRequest, asked.body)
    asked.facts.update(database=str(told.database_uuid), action=told.action, label=told.label, reason=told.reason)
    asked.facts["transitions"] = [one.told() for one in told.transitions]
    return {}


async def refused(_: State, asked: AskedRequest) -> wire.Message:
    asked.facts.update(read(RefusedRequest, asked.body).told(), outcome="refused")
    return {}


async def failed(state: State, asked: AskedRequest) -> wire.Message:
    told = read(FailedRequest, asked.body)
    error = told.error if told.error in FAILURES else OTHER
    state.metrics.failures.add(error, by=1 + (told.skipped or 0))
    return {}
