"""Tells the walker which rows have old values, and how these become envelopes: see resealing.Work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pg_envelope.backend.host import Host
from pg_envelope.backend.jobs import faulty
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.sqltext import literal
from pg_envelope.backend.tables.generate import Layout, Protected, encrypted_as_role
from pg_envelope.backend.tables.generate.expressions import clear_value, is_null, legacy_as_role, legacy_opens
from pg_envelope.backend.tables.owner import AsOwner

FOUND_BY = "adopt"
REASON = "legacy value does not open"


@dataclass(frozen=True)
class Converting:
    """Makes envelopes of what other software encrypted. A value that does not open stays as it is."""

    layout: Layout
    careful: bool

    @property
    def any(self) -> str:
        return self._some(_is_there)

    @property
    def movable(self) -> str:
        return self._some(self._opens)

    @property
    def values(self) -> dict[str, str]:
        return {name: self._envelope(found) for name, found in self.layout.protected.items()}

    @property
    def emptied(self) -> dict[str, str]:
        return {name: plain for plain, name in self.layout.plains.items()}

    def _some(self, condition: Callable[[Protected], str]) -> str:
        return f"({' OR '.join(map(condition, self.layout.protected.values()))})"

    def _opens(self, protected: Protected) -> str:
        return f"CASE WHEN {_is_there(protected)} THEN {legacy_opens(self.layout, protected, 't')} ELSE false END"

    def _envelope(self, protected: Protected) -> str:
        opened = legacy_as_role(self.layout, protected, "t")
        made = encrypted_as_role(self.layout, protected, "t", opened)
        condition = self._opens(protected) if self.careful else _is_there(protected)
        return f"CASE WHEN {condition} THEN {made} END"


def _is_there(protected: Protected) -> str:
    return f"NOT ({is_null(clear_value(protected, 't'))})"


def list_faults(host: Host, found: Place) -> int:
    """Lists the old values that do not open. Returns how many they are."""
    layout = found.layout
    faulty.forget(host, found.key, FOUND_BY)
    reasons = {name: _fault(layout, protected) for name, protected in layout.protected.items()}
    rows = AsOwner(host, found.base.owner_oid).rows(faulty.listing(layout, reasons))
    faulty.keep(host, layout, FOUND_BY, rows[: faulty.MOST_LISTED])
    return len(rows)


def _fault(layout: Layout, protected: Protected) -> str:
    bad = f"CASE WHEN {_is_there(protected)} THEN NOT {legacy_opens(layout, protected, 't')} ELSE false END"
    return f"CASE WHEN {bad} THEN {literal(REASON)} END"
