"""Holds the field keys of this session by slot: capability (16 bytes) | header (6 bytes). A slot tells who may use its
key.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Union

from pg_envelope import errors
from pg_envelope.backend.epoch import Epoch
from pg_envelope.backend.erased import Erased
from pg_envelope.envelope import FieldKey

CAPABILITY_BYTES = 16
# 3.3 KB each, so 66 MB.
MAX_KEYS = 20_000
# When the cache is full, an eighth of the keys makes room.
PARTS_DROPPED = 8
# A session that uses a key looks at the path of the epoch file so often, because a broker that lost its file makes a
# new one.
LOOK_SECONDS = 1.0

if TYPE_CHECKING:
    from pg_envelope.tokens import TokenKey

# The type is a text, so that a session that searches nothing does not import it.
Key = Union[FieldKey, Erased, "TokenKey"]


class SessionKeys:
    """A bounded cache of FieldKeys; emptied when the revocation epoch moves, refilled through `load`.

    It needs no notion of roles: a slot begins with the capability, and only those who may read a column can name it.
    """

    def __init__(
        self, epoch: Epoch, load: Callable[[bytes], dict[bytes, Key]], replayed: Callable[[], int] = int
    ) -> None:
        """`replayed` returns, on a standby, a number that moves when a revocation was replayed; elsewhere 0."""
        self.keys: dict[bytes, Key] = {}
        self._ends: dict[bytes, float] = {}
        self._kept: tuple[bytes, int] | None = None
        self._epoch = epoch
        self._load = load
        self._replayed = replayed

    def get(self, slot: bytes) -> Key:
        """The key of a slot, fetched when it is not here or its time is over; raises what `load` raises."""
        key = self.keys.get(slot)
        if key is None or key.epoch != self._epoch.current() or key.expires < monotonic():
            return self._fetch(slot)
        return key

    def fill(self, load: Callable[[], dict[bytes, Key]]) -> int:
        """Takes in the keys that `load` gives. Returns how many these were."""
        epoch = self._latest()
        loaded = load()
        self._add(loaded, epoch)
        return len(loaded)

    def _fetch(self, slot: bytes) -> Key:
        """A key's `expires` is when the session comes by here again. Its true end is in `_ends`."""
        epoch = self._latest()
        key = self.keys.get(slot)
        if key is not None and self._ends[slot] >= monotonic():
            key.expires = min(self._ends[slot], monotonic() + LOOK_SECONDS)
            return key
        # The epoch was read before the key. If the epoch moves meanwhile, a fresh key counts as stale, and never a
        # stale key as fresh.
        loaded = self._load(slot)
        self._add(loaded, epoch)
        return loaded[slot]

    def _latest(self) -> bytes:
        """Returns the epoch of now. Drops the keys of another epoch first."""
        try:
            now = self._epoch.latest(), self._replayed()
        except errors.EnvelopeError:
            self._clear()
            raise
        if now != self._kept:
            self._clear()
            self._kept = now
        return now[0]

    def _clear(self) -> None:
        self.keys.clear()
        self._ends.clear()

    def _add(self, loaded: dict[bytes, Key], epoch: bytes) -> None:
        for slot in loaded:
            self._drop(slot)
        self._make_room(len(loaded))
        for slot, key in loaded.items():
            self.keys[slot] = key
            self._ends[slot] = key.expires
            key.epoch = epoch
            key.expires = min(key.expires, monotonic() + LOOK_SECONDS)

    def _make_room(self, count: int) -> None:
        """Removes an eighth of the keys, of all ages.

        If the oldest keys went first, a statement over slightly more keys than fit would never find one.
        """
        excess = len(self.keys) + count - MAX_KEYS
        if excess <= 0:
            return
        slots = list(self.keys)
        step = max(1, len(slots) // max(excess, len(slots) // PARTS_DROPPED))
        for slot in slots[os.urandom(1)[0] % step :: step]:
            self._drop(slot)

    def _drop(self, slot: bytes) -> None:
        self.keys.pop(slot, None)
        self._ends.pop(slot, None)
