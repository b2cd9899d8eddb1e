"""Carries out the functions of canaries that DBAs call. It is imported at its first use."""

from __future__ import annotations

from pg_envelope.backend.guard import Guard
from pg_envelope.backend.host import Host
from pg_envelope.backend.link import Link
from pg_envelope.backend.tables.canaries import Canaries
from pg_envelope.backend.values import Values
from pg_envelope.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pg_envelope.backend.admin.tools import AdminTools

WHY = "It writes the key catalog and the table."


class CanaryAdmin:
    """One attribute per SQL function. A relation comes as text, in the form in which regclass writes it."""

    def __init__(self, host: Host, guard: Guard, link: Link, values: Values, tools: AdminTools) -> None:
        """`tools` know what changes tables now."""
        self._tools = tools
        self._canaries = Canaries(host, link, values.opened)
        self.plant = guard.plain(tools.alone(self._plant))
        self.remove = guard.plain(tools.alone(self._remove))

    def _plant(self, rel: str | None, row: str | None, note: str | None) -> None:
        self._canaries.plant(self._tools.table(rel, "plant_canary", WHY), row, note)

    def _remove(self, rel: str | None, row: str | None) -> None:
        self._canaries.remove(self._tools.table(rel, "remove_canary", WHY), row)
