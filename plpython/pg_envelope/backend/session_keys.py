"""Holds the field keys of this session by slot: capability (16 bytes) | header (6 bytes). A slot tells who may use its
key.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic

from pg_envelope import errors
from pg_envelope.backend.audited import AuditedKey
from pg_envelope.backend.epoch import Epoch
from pg_envelope.backend.erased import Erased
from pg_envelope.envelope import FieldKey
from pg_envelope.typed import TYPE_CHECKING, Any, Union

CAPABILITY_BYTES = 16
# A key takes 0.3 KB, so all take 24 MB. A key in use takes 3.1 KB more, so those take 50 MB.
MAX_KEYS = 80_000
MAX_AWAKE = 16_000
# When the cache is full, an eighth of the keys makes room.
PARTS_DROPPED = 8
# A session that uses a key looks at the path of the epoch file so often, because a broker that lost its file makes a
# new one.
LOOK_SECONDS = 1.0

if TYPE_CHECKING:
    from pg_envelope.tokens import TokenKey

# The type is a text, so that a session that searches nothing does not import it.
Key = Union[FieldKey, AuditedKey, Erased, "TokenKey"]


class Fetched:
    """A key as the broker gave it, until its first use makes a Key of it: most of those read ahead never have one.

    `make` takes the slot, `content` and `ends` (monotonic seconds).
    """

    __slots__ = ("content", "ends", "make")

    def __init__(self, content: bytes, ends: float, make: Callable[[bytes, bytes, float], Key]) -> None:
        self.content, self.ends, self.make = content, ends, make

    @classmethod
    def made(cls, key: Key) -> Fetched:
        """Wraps a key that is no bytes."""
        return cls(b"", key.expires, lambda *_: key)


class SessionKeys:
    """A bounded cache; emptied when the revocation epoch moves, refilled through `load`.

    It needs no notion of roles: a slot begins with the capability, and only those who may read a column can name it.
    """

    def __init__(
        self,
        epoch: Epoch,
        load: Callable[[bytes, SessionKeys], dict[bytes, Fetched]],
        replayed: Callable[[], int] = int,
    ) -> None:
        """`replayed` returns, on a standby, a number that moves when a revocation was replayed; elsewhere 0."""
        # The keys in use. hot.py reads them.
        self.keys: dict[bytes, Key] = {}
        self._fetched: dict[bytes, Fetched] = {}
        self._first_uses: dict[bytes, int] = {}
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

    def fill(self, load: Callable[[], dict[bytes, Fetched]]) -> int:
        """Takes in the keys that `load` gives. Returns how many these were."""
        self._latest()
        loaded = load()
        self._add(loaded)
        return len(loaded)

    def holds(self, slot: bytes) -> bool:
        """Tells whether the key of a slot is here, in use or not."""
        fetched = self._fetched.get(slot)
        return fetched is not None and fetched.ends >= monotonic()

    def first_uses(self, capability: bytes) -> int:
        """Counts the keys of a column that were read ahead and then asked for."""
        return self._first_uses.get(capability, 0)

    def _fetch(self, slot: bytes) -> Key:
        """A key's `expires` is when the session comes by here again. Its true end is in `_fetched`."""
        # The epoch is read before the key. If the epoch moves meanwhile, a fresh key counts as stale, and never a stale
        # key as fresh.
        epoch = self._latest()
        fetched = self._fetched.get(slot)
        if fetched is None or fetched.ends < monotonic():
            loaded = self._load(slot, self)
            self._add(loaded)
            fetched = loaded[slot]
        elif slot not in self.keys:
            capability = slot[:CAPABILITY_BYTES]
            self._first_uses[capability] = self.first_uses(capability) + 1
        key = self._awake(slot, fetched, epoch)
        if fetched.ends < monotonic():
            # It was given for one use, as a canary's key is.
            self._drop(slot)
        return key

    def _awake(self, slot: bytes, fetched: Fetched, epoch: bytes) -> Key:
        key = self.keys.get(slot)
        if key is None:
            _make_room(self.keys, 1, MAX_AWAKE)
            key = self.keys[slot] = fetched.make(slot, fetched.content, fetched.ends)
            key.epoch = epoch
        key.expires = min(fetched.ends, monotonic() + LOOK_SECONDS)
        return key

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
        for kept in (self.keys, self._fetched, self._first_uses):
            kept.clear()

    def _add(self, loaded: dict[bytes, Fetched]) -> None:
        for slot in loaded:
            self._drop(slot)
        for slot in _make_room(self._fetched, len(loaded), MAX_KEYS):
            self._drop(slot)
        self._fetched |= loaded

    def _drop(self, slot: bytes) -> None:
        self.keys.pop(slot, None)
        self._fetched.pop(slot, None)


def _make_room(kept: dict[bytes, Any], count: int, most: int) -> list[bytes]:
    """Keys of all ages go, some at a time; their slots.

    If the oldest went first, a statement over a few keys more than there is room for would find none, every time.
    """
    excess = len(kept) + count - most
    if excess <= 0:
        return []
    slots = list(kept)
    step = max(1, len(slots) // max(excess, len(slots) // PARTS_DROPPED))
    dropped = slots[os.urandom(1)[0] % step :: step]
    for slot in dropped:
        del kept[slot]
    return dropped
