"""Tells the walker which rows have old values, and how these become envelopes: see resealing.Work."""

from __future__ import annotations

from pg_envelope.backend.host import Host
from pg_envelope.backend.jobs import faulty
from pg_envelope.backend.rollout.work import Sealing, is_there
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.sqltext import literal
from pg_envelope.backend.tables.generate import Layout, Protected, encrypted_as_role
from pg_envelope.backend.tables.generate.expressions import legacy_as_role, legacy_opens
from pg_envelope.backend.tables.owner import AsOwner

FOUND_BY = "adopt"
REASON = "legacy value does not open"


class Converting(Sealing):
    """Makes envelopes of what other software encrypted. A value that does not open stays as it is."""

    @property
    def movable(self) -> str:
        return f"({' OR '.join(map(self._opens, self.layout.protected.values()))})"

    def envelope(self, protected: Protected) -> str:
        opened = legacy_as_role(self.layout, protected, "t")
        made = encrypted_as_role(self.layout, protected, "t", opened)
        condition = self._opens(protected) if self.careful else is_there(protected)
        return f"CASE WHEN {condition} THEN {made} END"

    def _opens(self, protected: Protected) -> str:
        return f"CASE WHEN {is_there(protected)} THEN {legacy_opens(self.layout, protected, 't')} ELSE false END"


def list_faults(host: Host, found: Place) -> int:
    """Lists the old values that do not open. Returns how many they are."""
    layout = found.layout
    faulty.forget(host, found.key, FOUND_BY)
    reasons = {name: _fault(layout, protected) for name, protected in layout.protected.items()}
    rows = AsOwner(host, found.base.owner_oid).rows(faulty.listing(layout, reasons))
    faulty.keep(host, layout, FOUND_BY, rows[: faulty.MOST_LISTED])
    return len(rows)


def _fault(layout: Layout, protected: Protected) -> str:
    bad = f"CASE WHEN {is_there(protected)} THEN NOT {legacy_opens(layout, protected, 't')} ELSE false END"
    return f"CASE WHEN {bad} THEN {literal(REASON)} END"
