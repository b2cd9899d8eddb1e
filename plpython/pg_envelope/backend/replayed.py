"""Tells a session of a standby which revocation was the last that the standby has replayed.

The epoch moves when the primary commits. A standby that lags still shows the old state in its catalog then.
"""

from __future__ import annotations

from time import monotonic

from pg_envelope.backend.host import Host

# It runs with the caller's search_path, so every name is qualified.
LOOK = "SELECT pg_catalog.pg_is_in_recovery() AS standby, envelope_internal.revocation() AS last"
LOOK_SECONDS = 1.0


class Replayed:
    """Looks only while `standby` is set, which the reader of the key catalog does. A primary's sessions never ask,
    and pay nothing.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._until, self._last = 0.0, 0
        self.standby = False

    def last(self) -> int:
        """Returns a number that moves within a second after a revocation was replayed here; 0 on a primary."""
        if self.standby and monotonic() >= self._until:
            row = self._host.row(LOOK) or {"standby": False, "last": 0}
            self.standby, self._last = row["standby"], row["last"]
            self._until = monotonic() + LOOK_SECONDS
        return self._last if self.standby else 0
