"""Tells the broker of refusals for want of a right, for its audit log, and of values that do not open, for its metrics.

The error itself waits for nothing.
"""

from __future__ import annotations

from contextlib import suppress
from time import monotonic

from pg_envelope import errors
from pg_envelope.backend.link import Link

# A session that fails in a loop tells of the first errors, then of one a second, with the number of those it left out.
BURST = 10.0
EACH_SECOND = 1.0
# An erased or suspended value fails on purpose.
DOES_NOT_OPEN = (errors.InvalidEnvelope, errors.UnwrapFailed)


class Quota:
    """How many errors of one kind may be told now, and how many were not."""

    def __init__(self) -> None:
        self.skipped = 0
        self._left, self._since = BURST, monotonic()

    def may(self) -> bool:
        now = monotonic()
        self._left = min(BURST, self._left + EACH_SECOND * (now - self._since))
        self._since = now
        if self._left < 1:
            self.skipped += 1
            return False
        self._left -= 1
        return True


class Refusals:
    """The errors of one session. They hold the package's own texts and the catalog's names, never an argument."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._refused, self._failed = Quota(), Quota()

    def tell(self, error: errors.EnvelopeError) -> None:
        """Never raises, never waits. A broker that is away hears nothing of the error."""
        if isinstance(error, errors.NotPermitted):
            about = {name: value for name, value in error.about.items() if value is not None}
            self._send(self._refused, "refused", reason=error.message, **about)
        elif isinstance(error, DOES_NOT_OPEN):
            self._send(self._failed, "failed", error=error.code)

    def _send(self, quota: Quota, op: str, **told: str | int) -> None:
        if quota.may():
            with suppress(Exception):
                skipped = {"skipped": quota.skipped} if quota.skipped else {}
                self._link.tell(op, **told, **skipped)
                quota.skipped = 0
