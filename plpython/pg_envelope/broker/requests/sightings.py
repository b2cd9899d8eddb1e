"""Remembers which running databases asked lately, by uuid. Two at the same time are an original and a living copy."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pg_envelope import wire

# A database that has said nothing for so long still counts as alive.
RECENT_SECONDS = 3600.0
Held = TypeVar("Held")

MOST_DATABASES, MOST_INSTANCES = 10_000, 20


@dataclass
class Sighting:
    """One run of a server, with one database in it. Times are seconds of the broker's clock."""

    name: str
    first: float
    last: float


class Sightings:
    """Keeps the sightings in memory only. The database's own record of its home finds a copy that this broker did not
    see.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: OrderedDict[str, OrderedDict[str, Sighting]] = OrderedDict()

    def note(self, body: wire.Message, who: Mapping[str, str | int]) -> None:
        """Notes a request of a primary for a database's keys."""
        database, instance = body.get("database_uuid"), who.get("instance")
        if isinstance(database, str) and isinstance(instance, str):
            now = self._clock()
            seen = _youngest(self._seen, database.lower()[:36], OrderedDict(), MOST_DATABASES)
            held = _youngest(seen, instance, Sighting(str(who.get("database", "")), now, now), MOST_INSTANCES)
            held.last = now

    def others(self, database: object, instance: object) -> list[wire.Message]:
        """Returns those that spoke after this instance had spoken first. No restart explains them."""
        seen, now = self._seen.get(str(database), OrderedDict()), self._clock()
        mine = seen.get(str(instance))
        return [
            {"database": held.name, "instance": other, "seconds": int(now - held.last)}
            for other, held in seen.items()
            if mine is not None and other != instance and held.last > mine.first and now - held.last < RECENT_SECONDS
        ]


def _youngest(held: OrderedDict[str, Held], name: str, new: Held, most: int) -> Held:
    """Returns the entry of a name, or puts `new` in its place. The least recently used entry makes room for it."""
    found = held.setdefault(name, new)
    held.move_to_end(name)
    while len(held) > most:
        held.popitem(last=False)
    return found
