"""Tells the broker's audit log of refusals for want of a right. The refusal itself waits for nothing."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic

from pg_envelope import errors
from pg_envelope.backend.link import Link

# A session that is refused in a loop tells of the first refusals, then of one a second, with the number of those it
# left out.
BURST = 10.0
EACH_SECOND = 1.0


class Refusals:
    """The refusals of one session. They hold the package's own texts and the catalog's names, never an argument."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._left, self._since, self._skipped = BURST, monotonic(), 0

    def tell(self, error: errors.NotPermitted) -> None:
        """Never raises, never waits. A broker that is away hears nothing of the refusal."""
        if not self._may():
            self._skipped += 1
            return
        with suppress(Exception):
            about = {name: value for name, value in error.about.items() if value is not None}
            skipped = {"skipped": self._skipped} if self._skipped else {}
            self._link.tell("refused", reason=error.message, **about, **skipped)
            self._skipped = 0

    def _may(self) -> bool:
        now = monotonic()
        self._left = min(BURST, self._left + EACH_SECOND * (now - self._since))
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
