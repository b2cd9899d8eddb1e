"""Counts messages against the budget of field keys: FORMAT.md section 1.4.

A session reserves blocks of messages before it seals them. The counter is a sequence, and no rollback turns a sequence
back. So messages that were counted and never sealed are lost. A crash can forget the reservations of transactions that
were not committed. The distance between the hard limit and 2^32 makes up for them.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row

BLOCK = 64
# NIST SP 800-38D, section 8.3, allows 2^32 messages under one key with random 96-bit nonces.
SOFT_LIMIT = 2**31 // BLOCK
HARD_LIMIT = (2**32 - 2**28) // BLOCK
# A key that goes on reserving takes twice as many blocks each time, so it never takes more than it has used before.
MOST_BLOCKS = 64
RETRY_SECONDS = 60.0
# A key that its maker does not use has reserved in vain.
MOST_BEGUN = 1000

COUNTED = """
SELECT fk.counted_from, c.uuid AS counted, to_regclass(envelope_private.counter_name(c.uuid))::oid AS counter
FROM envelope_private.field_key fk JOIN envelope_private.dek d USING (dek_id),
LATERAL (SELECT coalesce(fk.field_uuid, d.key_uuid) AS uuid) c WHERE fk.key_id = $1"""
FIRST = """
SELECT c.counter, envelope_private.draw(c.counter::regclass, 1) AS reached
FROM (SELECT to_regclass(envelope_private.counter_name($1))::oid AS counter) c"""
# PostgreSQL moves no sequence in a read-only transaction. Every transaction of a standby is one, and makes no row.
NEXT = """
SELECT envelope_private.draw($1::oid::regclass, $2) AS reached
WHERE current_setting('transaction_read_only') = 'off'"""
MEND = "SELECT envelope_private.mend_counter($1, $2)"
ROTATE_HINT = (
    "Give it a new key: SELECT envelope.rotate('<table>'), rotate_field('<table>', '<column>') or rotate_key(...)."
)

Renew = Callable[[int], None]


class BudgetSpent(errors.EnvelopeError):
    sqlstate = "54000"
    text = "the key has sealed as many values as it may"
    default_hint = ROTATE_HINT


class CounterLost(errors.EnvelopeError):
    sqlstate = "55000"
    text = "the message counter of this key is missing, or behind"
    default_hint = f"SELECT envelope.mend_sequences(). {ROTATE_HINT}"


class ReadOnly(errors.EnvelopeError):
    sqlstate = "25006"
    text = "cannot encrypt in a read-only transaction"
    default_hint = "Encryption counts each value, and the count is a write. On a standby values can only be read."


class Reservation:
    """Counts the blocks of messages that one FieldKey has reserved. A call reserves more, and returns how many
    messages these are.
    """

    def __init__(self, budget: Budget, key_id: int) -> None:
        self._budget = budget
        self.key_id = key_id
        self.blocks = 1
        self.counted: Row | None = None
        self.renew_at = 0.0

    def __call__(self) -> int:
        blocks = self.blocks
        if not self._budget.has_begun(self):
            self._budget.reserve(self)
        self.blocks = min(2 * blocks, MOST_BLOCKS)
        return blocks * BLOCK


class Budget:
    """Reserves as the extension's owner: nobody else has a right to the counters."""

    def __init__(self, host: Host, renew: Renew) -> None:
        self._host = host
        self._renew = renew
        self._begun: dict[int, Row] = {}

    def of(self, key_id: int) -> Reservation:
        return Reservation(self, key_id)

    def begin(self, counted: str, made: Row) -> None:
        """Reserves the first block of a key that this session makes, in a step of the extension's owner.

        `counted` is the uuid that the counter is named by, and `made` has the key's `key_id` and `counted_from`.
        """
        row = self._host.row(FIRST, ["uuid"], [counted])
        if row and row["reached"] is not None and row["reached"] > made["counted_from"]:
            if len(self._begun) >= MOST_BEGUN:
                self._begun.clear()
            self._begun[made["key_id"]] = {**made, **row, "counted": counted}

    def has_begun(self, wanted: Reservation) -> bool:
        """Tells whether the blocks are reserved already, which is so once for a key that this session made."""
        made = self._begun.pop(wanted.key_id, None)
        if made is not None:
            wanted.counted = made
        return made is not None

    def reserve(self, wanted: Reservation) -> None:
        """Reserves the next blocks. Raises BudgetSpent, CounterLost, ReadOnly."""
        self._host.as_owner(lambda: self._reserve(wanted))

    def reserve_blocks(self, key_id: int, blocks: int) -> None:
        """Reserves blocks for a client, in a step of the extension's owner. Raises what `reserve` raises."""
        wanted = self.of(key_id)
        wanted.blocks = blocks
        self._reserve(wanted)

    def _reserve(self, wanted: Reservation) -> None:
        used = self._used(wanted)
        if used > HARD_LIMIT:
            raise BudgetSpent(detail=f"key id {wanted.key_id}: about {used * BLOCK} messages, at most 2^32 - 2^28")
        if used > SOFT_LIMIT and monotonic() >= wanted.renew_at:
            wanted.renew_at = monotonic() + RETRY_SECONDS
            self._renew(wanted.key_id)

    def _used(self, wanted: Reservation) -> int:
        """Returns the blocks that are used under the key, including those that are reserved now."""
        used = self._counted(wanted)
        if used <= 0:
            # A subscriber gets a table's rows, but not its sequences. Nobody knows there how much was sealed before. So
            # the key is treated as one that has sealed enough, and is renewed.
            self._mend(wanted)
            used = self._counted(wanted)
        if used <= 0:
            raise CounterLost(detail=f"key id {wanted.key_id}")
        return used

    def _counted(self, wanted: Reservation) -> int:
        """Returns the same as `_used`, or 0 or less when the counter is missing or behind."""
        if wanted.counted is None:
            wanted.counted = self._host.row(COUNTED, ["int8"], [wanted.key_id])
        if wanted.counted is None or wanted.counted["counter"] is None:
            return 0
        row = self._host.row(NEXT, ["oid", "int4"], [wanted.counted["counter"], wanted.blocks])
        if row is None or row["reached"] is None:
            raise ReadOnly
        return int(row["reached"]) - int(wanted.counted["counted_from"])

    def _mend(self, wanted: Reservation) -> None:
        if wanted.counted is not None:
            self._host.rows(MEND, ["uuid", "int8"], [wanted.counted["counted"], SOFT_LIMIT])
            wanted.counted = None
