"""Lays out the ring: memory that a session and the broker share for the ledger of reads. FORMAT.md section 11.

The session writes an event into a slot before it opens the first value, and counts there. Words are 8 bytes in the
machine's own order, so one store writes a word whole.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from zlib import crc32

from pg_envelope import errors

MAGIC = b"pgenvrg1"
ID_BYTES = 16
ID_AT = len(MAGIC)
HEAD_BYTES = 4096
SLOTS = 256
SLOT_BYTES = 1024
SIZE = HEAD_BYTES + SLOTS * SLOT_BYTES
WORD = 8
# Words of the head. The session writes the number of its last event. The broker writes the number of the last event
# that it has on the disk.
PUBLISHED = (ID_AT + ID_BYTES) // WORD
TAKEN = PUBLISHED + 1
# Words of a slot: the event's number, its count of values, what the event before it in this slot had counted, and the
# check sum and lengths of the body. The body is the event, and then the row keys.
SEQ, COUNT, BEFORE, CHECK = range(4)
BODY_AT = 4 * WORD
BODY_BYTES = SLOT_BYTES - BODY_AT
# With all three, nobody can cut the file short. A process that reads behind the end of a mapped file dies by SIGBUS.
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
MOST_ROW_KEY_BYTES = 64


def create() -> tuple[int, mmap.mmap]:
    """Returns the descriptor of a new ring, and its memory."""
    descriptor = os.memfd_create("pg_envelope ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, SIZE)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
        memory = mmap.mmap(descriptor, SIZE)
    except BaseException:
        os.close(descriptor)
        raise
    memory[: ID_AT + ID_BYTES] = MAGIC + os.urandom(ID_BYTES)
    return descriptor, memory


def attach(descriptor: int) -> mmap.mmap:
    """Returns the memory of a ring that another process made. Raises BadInput for a file that could harm this one."""
    try:
        sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SEALS == SEALS
        if not sealed or os.fstat(descriptor).st_size != SIZE:
            raise errors.BadInput("the ring is not a sealed file of the right size")
        memory = mmap.mmap(descriptor, SIZE)
    except (OSError, ValueError):
        raise errors.BadInput("the ring is not a sealed file of memory") from None
    if memory[:ID_AT] != MAGIC:
        raise errors.BadInput("the ring has another format")
    return memory


def id_of(memory: mmap.mmap) -> str:
    """Returns the random id of a ring, in hex."""
    return memory[ID_AT : ID_AT + ID_BYTES].hex()


def words(memory: mmap.mmap) -> memoryview[int]:
    """Returns the words of a ring."""
    return memoryview(memory).cast("Q")


def slot(seq: int) -> int:
    """Returns the first word of the slot of an event."""
    return (HEAD_BYTES + (seq - 1) % SLOTS * SLOT_BYTES) // WORD


def write(memory: mmap.mmap, found: memoryview[int], seq: int, body: bytes) -> None:
    """Writes an event with count 0 and publishes it. Raises ValueTooLong for a body that does not fit."""
    if len(body) > BODY_BYTES:
        raise errors.ValueTooLong("the event does not fit into the ring")
    at = slot(seq)
    before = found[at + COUNT]
    found[at + SEQ] = 0
    found[at + COUNT], found[at + BEFORE] = 0, before
    found[at + CHECK] = crc32(body) << 32 | len(body) << 16
    start = at * WORD + BODY_AT
    memory[start : start + len(body)] = body
    found[at + SEQ] = seq
    found[PUBLISHED] = seq


def read(memory: mmap.mmap, found: memoryview[int], seq: int) -> bytes | None:
    """Returns the body of an event. None where the slot holds another event, or one that was not written whole."""
    at = slot(seq)
    check = found[at + CHECK]
    start, length = at * WORD + BODY_AT, check >> 16 & 0xFFFF
    body = memory[start : start + min(length, BODY_BYTES)]
    return body if found[at + SEQ] == seq and crc32(body) == check >> 32 else None


def add_row(memory: mmap.mmap, found: memoryview[int], seq: int, row_key: bytes) -> None:
    """Adds a row key to an event, as long as there is room."""
    at = slot(seq)
    check = found[at + CHECK]
    used = (check >> 16 & 0xFFFF) + (check & 0xFFFF)
    kept = row_key[:MOST_ROW_KEY_BYTES]
    if used + 1 + len(kept) <= BODY_BYTES:
        start = at * WORD + BODY_AT + used
        memory[start : start + 1 + len(kept)] = bytes((len(kept),)) + kept
        found[at + CHECK] = check + 1 + len(kept)


def row_bytes(found: memoryview[int], seq: int) -> int:
    """Returns how many bytes of row keys the slot of an event holds."""
    return found[slot(seq) + CHECK] & 0xFFFF


def rows(memory: mmap.mmap, found: memoryview[int], seq: int) -> list[str]:
    """Returns the row keys of an event, as far as they are whole."""
    at = slot(seq)
    check = found[at + CHECK]
    start = at * WORD + BODY_AT + min(check >> 16 & 0xFFFF, BODY_BYTES)
    rest = memory[start : min(start + (check & 0xFFFF), at * WORD + SLOT_BYTES)]
    listed = []
    while rest and len(rest) > rest[0]:
        listed.append(rest[1 : 1 + rest[0]].decode(errors="replace"))
        rest = rest[1 + rest[0] :]
    return listed
