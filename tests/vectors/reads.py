"""Vectors of the ledger of reads (FORMAT.md section 11): what a session and a broker of the package make of events."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from hmac import digest
from pathlib import Path
from typing import Any
from unittest import mock

from pg_envelope import reads_check, ring
from pg_envelope.broker.ledger import read_ledger
from pg_envelope.broker.ledger.held import key_path
from pg_envelope.broker.ledger.read_ledger import ReadLedger
from pg_envelope.broker.ledger.rings import SessionRing
from pg_envelope.broker.watch import audit
from tests.vectors.local import FIELD, OTHER_FIELD
from tests.vectors.records import ENVIRONMENT, TIME, drawn

Vector = dict[str, Any]

STATEMENT = "SELECT email FROM customer -- Zoë"
SINCE_1970 = 1_767_323_045
WHO = {"database": "shop", "client": "10.0.0.1"}
LONG = "x" * 80
# How many values each event has, and their row keys.
READS: list[tuple[int, list[str]]] = [(0, []), (2, ["42", "4:ac:é1:7"]), (1, [LONG]), (1, [])]


def ledgers() -> Iterator[Vector]:
    """One session: three events and a checkpoint, one event more, the end, and a checkpoint."""
    seed = drawn("seed of a ledger of reads", 32)
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(audit, "now", return_value=TIME):
        path = Path(folder) / "reads.jsonl"
        for file, content in ((path, b""), (key_path(path), seed.hex().encode())):
            file.touch(mode=0o600)
            file.write_bytes(content)
        ledger = ReadLedger(path, ENVIRONMENT)
        bodies = list(_bodies(ledger.statement_key))
        sizes = _session(ledger, bodies)
        ledger.close()
        yield {
            "name": "one session, two checkpoints",
            "seed": seed.hex(),
            "origin": ledger.public.name,
            "public": read_ledger.public_key_path(path).read_text(),
            "statement": STATEMENT,
            "bodies": bodies,
            "text": path.read_text(),
            "sizes": sizes,
            "checkpoints": reads_check.checkpoints_path(path).read_text(),
        }


def rings() -> Iterator[Vector]:
    """A ring whose first slot has its second event, and whose last event has no row key."""
    descriptor, memory = _ring("a ring that went round")
    words = ring.words(memory)
    bodies = list(_bodies(drawn("statement key", 32)))
    for seq in range(1, ring.SLOTS + 3):
        _write(memory, seq, bodies[seq % len(bodies)], *READS[seq % len(READS)])
    words[ring.TAKEN] = 5
    told = ring.SLOTS + 1, ring.SLOTS + 2, 3, ring.SLOTS
    yield {
        "name": "two events more than slots",
        "order": sys.byteorder,
        "ring": ring.id_of(memory),
        "published": words[ring.PUBLISHED],
        "taken": words[ring.TAKEN],
        "head": memory[:64].hex(),
        "slots": [_slot(memory, seq) for seq in told],
    }
    os.close(descriptor)


def _slot(memory: Any, seq: int) -> Vector:
    words, start = ring.words(memory), ring.slot(seq) * ring.WORD
    body = ring.read(memory, words, seq)
    assert body is not None
    return {
        "offset": start,
        "seq": seq,
        "count": words[ring.slot(seq) + ring.COUNT],
        "before": words[ring.slot(seq) + ring.BEFORE],
        "body": json.loads(body),
        "rows": ring.rows(memory, words, seq),
        "bytes": memory[start : start + ring.SLOT_BYTES].rstrip(b"\0").hex(),
    }


def _session(ledger: ReadLedger, bodies: list[Vector]) -> list[int]:
    """Returns the sizes of its checkpoints."""
    descriptor, memory = _ring("a session's ring")
    session = SessionRing(descriptor, ring.id_of(memory), WHO, 4711, ledger)
    ledger.add([session.begins()])
    for seq in (1, 2, 3):
        _write(memory, seq, bodies[seq - 1], *READS[seq - 1])
    _take(ledger, session)
    ring.words(memory)[ring.slot(1) + ring.COUNT] = 9
    told = {"field": bodies[0]["field"], "user": "alice", "rows": 9, "seconds": 60, "then": "alarm"}
    ledger.add([*session.counts(), read_ledger.event("limit", **told, database=WHO["database"])])
    session.acknowledge()
    sizes = [ledger.checkpoint(SINCE_1970).size]
    _write(memory, 4, bodies[3], *READS[3])
    _take(ledger, session)
    ledger.add([session.ends()])
    sizes.append(ledger.checkpoint(SINCE_1970 + 300).size)
    session.close()
    os.close(descriptor)
    return sizes


def _take(ledger: ReadLedger, session: SessionRing) -> None:
    ledger.add(session.take())
    session.acknowledge()


def _ring(label: str) -> tuple[int, Any]:
    with mock.patch.object(os, "urandom", return_value=drawn(label, ring.ID_BYTES)):
        return ring.create()


def _write(memory: Any, seq: int, body: Vector, count: int, rows: list[str]) -> None:
    words = ring.words(memory)
    ring.write(memory, words, seq, json.dumps(body, separators=(",", ":")).encode())
    words[ring.slot(seq) + ring.COUNT] = count
    for row_key in rows:
        ring.add_row(memory, words, seq, row_key.encode())


def _bodies(statement_key: bytes) -> Iterator[Vector]:
    """As a session tells them: of a column, of one by row, after a cursor outlived its slot, and of a named key."""
    who = {"user": "alice", "outer": "app", "role": "app", "application": "Zoë's shop"}
    statement = digest(statement_key, STATEMENT.encode(), "sha256").hex()
    asked = {"operation": "SELECT", "query_id": "-12", "statement": statement}
    column = {"field": str(FIELD), "table": "public.customer", "column": "email"}
    named = {"field": str(OTHER_FIELD), "key": "crm"}
    places: list[Vector] = [
        {**column, "level": "statement"},
        {**column, "level": "row"},
        {**column, "level": "sync", "continues": 1},
        {**named, "level": "statement"},
    ]
    for number, place in enumerate(places):
        yield {"time": SINCE_1970 * 1_000_000 + number, **who, **asked, **place}
