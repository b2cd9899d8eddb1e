"""The field keys of this session, by who may use them: a slot is capability (16 bytes) | header (6 bytes)."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Union

from pg_envelope import errors
from pg_envelope.backend.epoch import Epoch
from pg_envelope.backend.erased import Erased
from pg_envelope.envelope import FieldKey

CAPABILITY_BYTES = 16
MAX_KEYS = 20_000
# So often a key that is in use is held against the epoch file at its path; a broker that lost its file makes a new one.
LOOK_SECONDS = 1.0

if TYPE_CHECKING:
    from pg_envelope.tokens import TokenKey

# As text: who searches nothing does not import it.
Key = Union[FieldKey, Erased, "TokenKey"]


class Keyring:
    """A bounded cache of FieldKeys; emptied when the revocation epoch moves, refilled through `load`.

    It needs no notion of roles: a slot begins with the capability, and only those who may read a column can name it.
    """

    def __init__(
        self, epoch: Epoch, load: Callable[[bytes], dict[bytes, Key]], replayed: Callable[[], int] = int
    ) -> None:
        """`replayed`: on a standby, a number that moves when a revocation was replayed; 0 elsewhere."""
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
        """Takes in what `load` gives; how many keys that were."""
        epoch = self._latest()
        loaded = load()
        self._add(loaded, epoch)
        return len(loaded)

    def _fetch(self, slot: bytes) -> Key:
        """A key's `expires` is when to come by here again; its true end is in `_ends`."""
        epoch = self._latest()
        key = self.keys.get(slot)
        if key is not None and self._ends[slot] >= monotonic():
            key.expires = min(self._ends[slot], monotonic() + LOOK_SECONDS)
            return key
        # The epoch was read before the key: one that moves meanwhile makes this key stale, never a stale key fresh.
        loaded = self._load(slot)
        self._add(loaded, epoch)
        return loaded[slot]

    def _latest(self) -> bytes:
        """The epoch now; keys of another one are dropped first."""
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
        """As the youngest, so that none of them makes room for another."""
        for slot, key in loaded.items():
            self._drop(slot)
            while len(self.keys) >= MAX_KEYS:
                self._drop(next(iter(self.keys)))
            self.keys[slot] = key
            self._ends[slot] = key.expires
            key.epoch = epoch
            key.expires = min(key.expires, monotonic() + LOOK_SECONDS)

    def _drop(self, slot: bytes) -> None:
        self.keys.pop(slot, None)
        self._ends.pop(slot, None)
