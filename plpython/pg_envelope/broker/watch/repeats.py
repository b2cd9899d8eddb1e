"""Shortens the audit log: the first of many equal events is a line at once, and the others are counted.

A pool of sessions asks for the same keys many times a minute, and a user who may not connect can try all day. The log
shows at once every session and role that gets a key for the first time within `audit_repeats_seconds`. Only the number
of repeats is told later, in one line.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pg_envelope.broker.watch import audit as audit_log
from pg_envelope.broker.watch.audit import Audit
from pg_envelope.broker.watch.metrics import Counter

MOST = 10_000
# Two sessions that do the same differ in these facts, and in the number of their process.
PASSING = ("cached",)
PROCESS = "pid"

Facts = dict[str, Any]


@dataclass
class ToldRepeat:
    """A line that was written, and how many requests said the same since then."""

    event: str
    facts: Facts
    since: str
    until: float
    count: int = 0


class Repeats:
    """Lives in the event loop; `clock` is in seconds. With 0 seconds each event is a line."""

    def __init__(self, audit: Audit, seconds: float, clock: Callable[[], float], counter: Counter) -> None:
        self._audit, self._seconds, self._clock, self._counter = audit, seconds, clock, counter
        self._told: dict[str, ToldRepeat] = {}

    def write(self, event: str, **facts: Any) -> None:
        """Raises Internal when the audit log cannot be written."""
        same = _without_session(facts)
        name = json.dumps([event, same], sort_keys=True)
        held = self._told.get(name)
        # While the log cannot be written nothing is counted either, because no key leaves then.
        if held is not None and self._clock() < held.until and self._audit.trouble is None:
            held.count += 1
            self._counter.add()
            return
        self._audit.write(event, **facts)
        self._tell(name)
        if len(self._told) < MOST:
            self._told[name] = ToldRepeat(event, same, audit_log.now(), self._clock() + self._seconds)

    def sweep(self) -> None:
        """Tells the counts of all lines whose time is over. Raises Internal; a count that is not written stays."""
        now = self._clock()
        for name in [name for name, held in self._told.items() if held.until <= now]:
            self._tell(name)

    def tell_all(self) -> None:
        """Tells all counts, before a revocation and at the end, so that no line counts across a revocation. Raises
        Internal.
        """
        for name in list(self._told):
            self._tell(name)

    def _tell(self, name: str) -> None:
        held = self._told.get(name)
        if held is not None and held.count:
            self._audit.write(held.event, **held.facts, repeated=held.count, since=held.since)
        self._told.pop(name, None)


def _without_session(facts: Facts) -> Facts:
    return {name: _without_process(value) for name, value in facts.items() if name not in PASSING}


def _without_process(value: object) -> object:
    return {name: one for name, one in value.items() if name != PROCESS} if isinstance(value, dict) else value
