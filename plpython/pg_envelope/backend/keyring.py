"""The field keys of this session, by who may use them: a slot is capability (16 bytes) | header (6 bytes)."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from pg_envelope import errors
from pg_envelope.backend.epoch import Epoch
from pg_envelope.envelope import FieldKey

CAPABILITY_BYTES = 16
MAX_KEYS = 10_000
# So often a key that is in use is held against the epoch file at its path; a broker that lost its file makes a new one.
LOOK_SECONDS = 1.0


class Keyring:
    """A bounded cache of FieldKeys; emptied when the revocation epoch moves, refilled through `load`.

    It needs no notion of roles: a slot begins with the capability, and only those who may read a column can name it.
    """

    def __init__(self, epoch: Epoch, load: Callable[[bytes], FieldKey]) -> None:
        self.keys: dict[bytes, FieldKey] = {}
        self._ends: dict[bytes, float] = {}
        self._epoch = epoch
        self._load = load

    def get(self, slot: bytes) -> FieldKey:
        """The key of a slot, fetched when it is not here or its time is over; raises what `load` raises."""
        key = self.keys.get(slot)
        if key is None or key.epoch != self._epoch.current() or key.expires < monotonic():
            return self._fetch(slot)
        return key

    def _fetch(self, slot: bytes) -> FieldKey:
        """A key's `expires` is when to come by here again; its true end is in `_ends`."""
        try:
            epoch = self._epoch.latest()
        except errors.EnvelopeError:
            self.keys.clear()
            self._ends.clear()
            raise
        self._keep(lambda key: key.epoch == epoch)
        key = self.keys.get(slot)
        if key is None or self._ends[slot] < monotonic():
            # The epoch was read before the key: one that moves meanwhile makes this key stale, never a stale key fresh.
            key = self._load(slot)
            key.epoch = epoch
            self._add(slot, key)
        key.expires = min(self._ends[slot], monotonic() + LOOK_SECONDS)
        return key

    def _keep(self, wanted: Callable[[FieldKey], bool]) -> None:
        for slot in [slot for slot, key in self.keys.items() if not wanted(key)]:
            del self.keys[slot], self._ends[slot]

    def _add(self, slot: bytes, key: FieldKey) -> None:
        while len(self.keys) >= MAX_KEYS:
            oldest = next(iter(self.keys))
            del self.keys[oldest], self._ends[oldest]
        self.keys[slot] = key
        self._ends[slot] = key.expires
