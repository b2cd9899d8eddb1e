"""Rules for reads: audit, limits and masks."""

from __future__ import annotations

import json

from pg_envelope.backend import caller
from pg_envelope.backend.admin.tools import COMMITS, AdminTools
from pg_envelope.backend.commits import begin
from pg_envelope.backend.search import place
from pg_envelope.backend.tables.audit import Auditing, LimitWanted
from pg_envelope.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pg_envelope.backend.masks.rules import Rules


class ReadRoutines:
    """What happens when a role reads a column or uses a named key."""

    def __init__(self, tools: AdminTools) -> None:
        self._tools, self._host, self._link = tools, tools.host, tools.link
        self.set_limit = tools.plain(self._set_limit)
        self.set_audit_key = tools.plain(self._set_audit_key)
        self.set_audit = tools.plain(tools.alone(self._set_audit))
        self.mask = tools.plain(tools.alone(self._mask))
        self.unmask = tools.plain(tools.alone(self._unmask))

    def _set_audit(self, rel: str | None, column: str | None, level: str | None) -> None:
        oid = self._tools.table(rel, "set_audit")
        begin(self._host, "set_audit")
        Auditing(self._host, self._link, self._tools.keys).of_column(oid, column, level)

    def _set_limit(
        self, rel: str | None, column: str | None, rows: int | None, per: str | None, action: str | None
    ) -> None:
        oid = self._tools.table(rel, "set_limit")
        begin(self._host, "set_limit")
        Auditing(self._host, self._link, self._tools.keys).limit_column(oid, column, LimitWanted(rows, per, action))

    def _set_audit_key(self, name: str | None, level: str | None) -> None:
        caller.refuse_others(self._host, "set_audit_key", COMMITS)
        begin(self._host, "set_audit_key")
        Auditing(self._host, self._link, self._tools.keys).of_key(name, level)

    def _mask(
        self, rel: str | None, column: str | None, role: str | None, kind: str | None, arguments: str | None
    ) -> None:
        found = place.find(self._host, self._tools.settled(rel, "mask"))
        self._rules().mask(found, column, role, kind, json.loads(arguments or "{}"))

    def _unmask(self, rel: str | None, column: str | None, role: str | None) -> None:
        self._rules().unmask(place.find(self._host, self._tools.settled(rel, "unmask")), column, role)

    def _rules(self) -> Rules:
        from pg_envelope.backend.masks.rules import Rules

        return Rules(self._host, self._tools.keys, self._tools.masks().secret)
