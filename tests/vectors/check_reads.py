"""The second implementation's ledger of reads: FORMAT.md section 11. It shares nothing with the package."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib
from datetime import UTC, datetime
from typing import Any

from tests.vectors.check_records import verify
from tests.vectors.kdf import hkdf

Vector = dict[str, Any]
Slot = tuple[int, int, int, Any, list[str]]

HEAD, SLOT, SLOTS = 4096, 1024, 256
FROM_SESSION = (
    *("user", "outer", "role", "application", "operation", "query_id", "statement"),
    *("field", "table", "column", "key", "level", "continues"),
)


def check_ring(vector: Vector) -> None:
    """What a broker finds in a ring: section 11.1. `order` is that of the machine which made it."""
    head, order = bytes.fromhex(vector["head"]), vector["order"]
    published, taken = (int.from_bytes(head[place : place + 8], order) for place in (24, 32))
    assert (head[:8], head[8:24].hex()) == (b"pgenvrg1", vector["ring"])
    assert (published, taken, head[40:].strip(b"\0")) == (vector["published"], vector["taken"], b"")
    for found in vector["slots"]:
        assert found["offset"] == HEAD + (found["seq"] - 1) % SLOTS * SLOT
        read = slot(bytes.fromhex(found["bytes"]), order)
        assert read == tuple(found[name] for name in ("seq", "count", "before", "body", "rows"))


def slot(raw: bytes, order: Any) -> Slot:
    """seq, count, before, body and row keys of a slot."""
    seq, count, before, check = (int.from_bytes(raw[place : place + 8], order) for place in range(0, 32, 8))
    crc, length, more = check >> 32, check >> 16 & 0xFFFF, check & 0xFFFF
    body, rest = raw[32 : 32 + length], raw[32 + length : 32 + length + more]
    assert zlib.crc32(body) == crc
    rows = []
    while rest:
        rows.append(rest[1 : 1 + rest[0]].decode())
        rest = rest[1 + rest[0] :]
    return seq, count, before, json.loads(body), rows


def check_read_ledger(vector: Vector) -> None:
    """The lines, their numbers, and each checkpoint: sections 11.2 and 11.3."""
    lines = vector["text"].encode().splitlines()
    numbered(json.loads(line) for line in lines)
    key = public_key(vector["public"], vector["origin"])
    sizes = [check_note(note, vector["origin"], key, lines) for note in notes(vector["checkpoints"])]
    assert sizes == vector["sizes"]
    told = [entry for entry in map(json.loads, lines) if entry["event"] == "read"]
    statement_key = hkdf(bytes.fromhex(vector["seed"]), b"", b"pg_envelope/1 statement", 32)
    digest = hmac.new(statement_key, vector["statement"].encode(), hashlib.sha256).hexdigest()
    assert {entry["statement"] for entry in told} == {digest}
    assert [as_told(entry) for entry in told] == vector["bodies"]


def as_told(entry: dict[str, Any]) -> dict[str, Any]:
    """The body of the event that a line was made of."""
    since = datetime.fromisoformat(entry["timestamp"]) - datetime(1970, 1, 1, tzinfo=UTC)
    time = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return {"time": time, **{name: entry[name] for name in FROM_SESSION if name in entry}}


def numbered(entries: Any) -> None:
    """In each ring, events have the numbers 1, 2, 3, ... and other entries name the last of them."""
    last: dict[str, int] = {}
    for entry in entries:
        # These come from no session's ring.
        if entry["event"] in ("limit", "canary"):
            continue
        ring, seq = entry["ring"], entry["seq"]
        if entry["event"] in ("read", "damaged"):
            last[ring] = last.get(ring, 0) + 1
        # A count is of any event before, also of one that is not the last.
        assert seq <= last.get(ring, 0) if entry["event"] == "count" else seq == last.get(ring, 0)


def notes(text: str) -> list[str]:
    """A note is two parts, each with an empty line behind it."""
    parts = text.split("\n\n")
    assert parts.pop() == ""
    return [f"{body}\n\n{signature}" for body, signature in zip(parts[::2], parts[1::2], strict=True)]


def check_note(note: str, origin: str, key: tuple[bytes, str], lines: list[bytes]) -> int:
    """The number of lines that a checkpoint covers; AssertionError unless their root is the checkpoint's."""
    text, _, signature = note.partition("\n\n")
    dash, name, encoded = signature.split(" ")
    raw = base64.b64decode(encoded, validate=True)
    assert (dash, name, raw[:4]) == ("\N{EM DASH}", origin, key[0])
    verify(key[1], base64.b64encode(raw[4:]).decode(), f"{text}\n".encode())
    said, size, found, time = text.split("\n")
    assert (said, time.split(" ")[0], time.split(" ")[1].isdecimal()) == (origin, "time", True)
    assert base64.b64decode(found, validate=True) == root(lines[: int(size)])
    return int(size)


def public_key(text: str, origin: str) -> tuple[bytes, str]:
    """Key id, and the public key in base64."""
    raw = base64.b64decode(text.strip().removeprefix(f"{origin}+").partition("+")[2], validate=True)
    key_id = hashlib.sha256(origin.encode() + b"\n" + raw).digest()[:4]
    assert (raw[:1], text) == (b"\1", f"{origin}+{key_id.hex()}+{base64.b64encode(raw).decode()}\n")
    return key_id, base64.b64encode(raw[1:]).decode()


def root(lines: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, as it is written there."""
    if len(lines) < 2:
        return hashlib.sha256(b"\0" + lines[0] if lines else b"").digest()
    half = 1
    while half * 2 < len(lines):
        half *= 2
    return hashlib.sha256(b"\1" + root(lines[:half]) + root(lines[half:])).digest()
