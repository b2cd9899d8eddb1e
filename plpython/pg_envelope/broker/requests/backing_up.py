"""Answers the two requests of a keys backup: DEKs out, and DEKs back."""

from __future__ import annotations

from pg_envelope import wire
from pg_envelope.broker.requests.asked import AskedRequest, told_outcome
from pg_envelope.broker.requests.messages import KeysBackupRequest, KeysReturnRequest
from pg_envelope.broker.requests.reading import read
from pg_envelope.broker.requests.state import State


async def keys_backup(state: State, asked: AskedRequest) -> wire.Message:
    wanted = read(KeysBackupRequest, asked.body)
    asked.facts.update(database=str(wanted.database_uuid), dek_ids=[dek.dek_id for dek in wanted.deks])
    state.refuse_dead(wanted.database_uuid, wanted.deks)
    answer = await state.sealer.run(wanted, asked.until)
    asked.facts.update(told_outcome(answer["deks"]), public_key=answer["public_key"])
    return answer


async def keys_return(state: State, asked: AskedRequest) -> wire.Message:
    wanted = read(KeysReturnRequest, asked.body)
    asked.facts.update(database=str(wanted.database_uuid), kek=wanted.kek, dek_ids=[dek.dek_id for dek in wanted.deks])
    state.refuse_dead(wanted.database_uuid, wanted.deks)
    answer = await state.returner.run(wanted, asked.until)
    asked.facts.update(told_outcome(answer["deks"]))
    return answer
