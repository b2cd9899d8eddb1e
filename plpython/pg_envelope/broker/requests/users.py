"""Remembers which databases use a KEK. All must rewrap before old KEK versions are removed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from uuid import UUID

from pg_envelope import wire

MOST = 1000


class KekUsers:
    """Kept in memory, since the broker's start.

    When there are too many, the one that asked longest ago is forgotten.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, UUID], str] = OrderedDict()

    def note(self, keks: Iterable[str], database: UUID, who: Mapping[str, str | int]) -> None:
        """Notes a request for a database's keys under these KEKs. `who` tells the database's name."""
        for kek in keks:
            # An application at the door does not tell the database's name, and must not make us forget it.
            name = who.get("database") or self._seen.get((kek, database), "")
            self._seen[kek, database] = str(name)
            self._seen.move_to_end((kek, database))
        while len(self._seen) > MOST:
            self._seen.popitem(last=False)

    def of(self, kek: str) -> list[wire.Message]:
        """Returns the databases under a KEK: uuid and name, as the response to `status` has them."""
        return [{"uuid": str(uuid), "name": name} for (used, uuid), name in self._seen.items() if used == kek]
