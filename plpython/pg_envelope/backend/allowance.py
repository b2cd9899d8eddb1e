"""Reads limited columns only as far as the broker allows. It asks for some values at once, and not for each."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from pg_envelope import errors
from pg_envelope.backend.read_facts import AuditedField, put
from pg_envelope.backend.read_limit import Limit
from pg_envelope.backend.ring_writer import RingWriter
from pg_envelope.backend.server import server

# What was granted and is not used in this time is lost, so that it does not count for another time.
KEPT_SECONDS = 1.0
MOST_AT_ONCE = 100
PARTS = 10


class Allowance:
    """What this session may still read, by column and user. `user` names the session's user."""

    def __init__(self, writer: RingWriter, user: Callable[[], str]) -> None:
        self._writer, self._user = writer, user
        self._left: dict[tuple[str, int], tuple[int, float]] = {}

    def take(self, found: AuditedField, limit: Limit) -> None:
        """Takes one value. Raises LimitReached, or what RingWriter.ask raises: then it must not be read."""
        asked = found.field, server().GetSessionUserId()
        left, until = self._left.get(asked, (0, 0.0))
        if not left or until < monotonic():
            left, until = self._ask(found, limit), monotonic() + KEPT_SECONDS
        put(self._left, asked, (left - 1, until))

    def _ask(self, found: AuditedField, limit: Limit) -> int:
        wanted = max(1, min(MOST_AT_ONCE, limit.rows // PARTS))
        told: dict[str, object] = {
            "field": found.field,
            "user": self._user(),
            "rows": limit.rows,
            "seconds": limit.seconds,
        }
        told |= {"refuses": limit.then == "refuse", "wanted": wanted}
        granted = int(self._writer.ask(None, "spend", **told)["granted"])
        if granted < 1:
            raise errors.LimitReached(detail=f"{limit.rows} values in {limit.seconds} seconds for one user")
        return granted
