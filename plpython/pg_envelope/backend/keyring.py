"""The field keys of this session, by who may use them: a slot is capability (16 bytes) | header (6 bytes)."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from pg_envelope.backend.epoch import Epoch
from pg_envelope.envelope import FieldKey

CAPABILITY_BYTES = 16
MAX_KEYS = 10_000


class Keyring:
    """A bounded cache of FieldKeys; emptied when the revocation epoch moves, refilled through `load`.

    It needs no notion of roles: a slot begins with the capability, and only those who may read a column can name it.
    """

    def __init__(self, epoch: Epoch, load: Callable[[bytes], FieldKey]) -> None:
        self._keys: dict[bytes, FieldKey] = {}
        self._epoch = epoch
        self._load = load

    def get(self, slot: bytes) -> FieldKey:
        """The key of a slot, fetched when it is not here or its time is over; raises what `load` raises."""
        key = self._keys.get(slot)
        if key is None or key.epoch != self._epoch.current() or key.expires < monotonic():
            return self._fetch(slot)
        return key

    def _fetch(self, slot: bytes) -> FieldKey:
        epoch = self._epoch.current()
        for stale in [known for known, key in self._keys.items() if key.epoch != epoch]:
            del self._keys[stale]
        self._keys.pop(slot, None)
        # The epoch was read before the key: one that moves meanwhile makes this key stale, never a stale key fresh.
        key = self._load(slot)
        key.epoch = epoch
        while len(self._keys) >= MAX_KEYS:
            del self._keys[next(iter(self._keys))]
        self._keys[slot] = key
        return key
