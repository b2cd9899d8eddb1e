"""Carries out the routines of adoption that DBAs call. It is imported at its first use."""

from __future__ import annotations

import json

from pg_envelope import errors
from pg_envelope.backend.adoption.adoption import Adoption
from pg_envelope.backend.adoption.beginning import Adopting
from pg_envelope.backend.adoption.exporting import Exporting, export
from pg_envelope.backend.adoption.legacy_keys import LegacyKeys
from pg_envelope.backend.adoption.reading import layout_of
from pg_envelope.backend.adoption.sampling import ROWS, column_of, report, report_of, sample
from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.guard import Guard
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.jobs.walker import Share, pace_of
from pg_envelope.backend.keys import Keys, chosen_kek
from pg_envelope.backend.link import Link
from pg_envelope.backend.search import place
from pg_envelope.backend.session_keys import SessionKeys
from pg_envelope.backend.tables import catalog, options
from pg_envelope.backend.tables.inspect import inspect
from pg_envelope.backend.tables.unprotect import unprotect
from pg_envelope.backend.values import Values
from pg_envelope.foreign.apart import columns_beside
from pg_envelope.foreign.writers import writer_of
from pg_envelope.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pg_envelope.backend.admin.tools import AdminTools

PLAIN = "plain"
WHY = "It opens foreign ciphertext and replaces tables."


class AdoptionAdmin:
    """One attribute per SQL routine. A relation comes as text, in the form in which regclass writes it."""

    def __init__(
        self, host: Host, guard: Guard, link: Link, values: Values, session_keys: SessionKeys, tools: AdminTools
    ) -> None:
        """`tools` are those of the other routines for DBAs, and know what changes tables now."""
        self._host, self._tools = host, tools
        keys = Keys(host, link)
        self._legacy_keys = LegacyKeys(host, keys, values, session_keys)
        self._adoption = Adoption(host, link, keys, self._legacy_keys)
        self.import_key: Callable[..., None] = guard.plain(self._legacy_keys.take_over)
        self.inspect = guard.plain(self._inspect)
        self.adopt = guard.plain(tools.alone(self._adopt))
        self.convert = guard.plain(tools.alone(self._convert))
        self.finish = guard.plain(tools.alone(self._finish))
        self.export = guard.plain(tools.alone(self._export))
        self._exporting = Exporting()
        self.exported = guard.plain(self._exporting.value)

    def _inspect(
        self, rel: str | None, column: str | None, key: str | None, wanted: int | None, specification: str | None
    ) -> list[Row]:
        table = inspect(self._host, self._tools.table(rel, "inspect", WHY))
        found = column_of(table, column)
        form = None if specification is None else layout_of(specification)
        beside = columns_beside(form or "", found.name)
        values = sample(self._host, table, found, 1000 if wanted is None else wanted, beside)
        row = self._host.row(ROWS, ["oid"], [table.oid])
        rows = int(row["rows"]) if row else 0
        legacy_key = self._legacy_keys.find(key)[1] if key is not None or form is not None else None
        if form is not None and legacy_key is not None:
            return list(report_of(values, legacy_key, rows, form))
        return list(report(values, legacy_key, rows))

    def _adopt(
        self,
        rel: str | None,
        column: str | None,
        form: str | None,
        key: str | None,
        plain_type: str | None,
        accepts_unauthenticated: bool | None,
        kek: str | None,
        store: str | None,
    ) -> None:
        oid = self._tools.table(rel, "adopt", WHY)
        wanted = wanted_of(column)
        key_uuid, legacy_key = self._legacy_keys.find(key)
        way = Adopting(key_uuid, legacy_key, form or "", plain_type, bool(accepts_unauthenticated))
        self._adoption.adopt(oid, wanted, way, chosen_kek(kek), store)

    def _convert(
        self,
        rel: str | None,
        batch_size: int | None,
        pause_ms: int | None,
        part: int | None,
        parts: int | None,
        max_lag_mb: int | None,
    ) -> None:
        share = Share(1 if part is None else part, 1 if parts is None else parts)
        pace = pace_of(batch_size, pause_ms, max_lag_mb=max_lag_mb)
        self._adoption.convert(self._tools.table(rel, "convert", WHY), pace, share)

    def _finish(
        self,
        rel: str | None,
        batch_size: int | None,
        pause_ms: int | None,
        destroy_key: bool | None,
        drop_parts: bool | None,
        max_lag_mb: int | None,
    ) -> None:
        oid = self._tools.table(rel, "finish_adoption", WHY)
        pace = pace_of(batch_size, pause_ms, max_lag_mb=max_lag_mb)
        self._adoption.finish(oid, pace, destroy_key is not False, bool(drop_parts))

    def _export(self, rel: str | None, column: str | None, form: str | None, key: str | None) -> None:
        oid = self._tools.table(rel, "export", WHY)
        catalog.refuse_rollout(self._host, oid, "export")
        if form == PLAIN:
            unprotect(self._host, oid, "error")
            return
        found = place.find(self._host, oid)
        write = writer_of(form or "", self._legacy_keys.find(key)[1])
        self._exporting.run(write, lambda: export(self._host, found, columns_of(column), form or ""))


def wanted_of(column: str | None) -> dict[str, FieldOptions]:
    """Returns options by column: of a name, of a JSON array of names, or of an object as protect() takes it."""
    if not (column or "").lstrip().startswith("{"):
        return {name: FieldOptions() for name in columns_of(column)}
    try:
        wanted = options.parse(column)
    except ValueError:
        raise errors.BadInput("column must be a name, or JSON as protect() takes it", hint=options.HINT) from None
    for name, chosen in wanted.items():
        if chosen.is_deterministic and not chosen.force:
            raise errors.Unsupported(
                f"column {name}: what equal envelopes tell cannot be measured before the values are adopted",
                hint='With "force": true it is adopted so all the same. docs/deterministic.md says what it tells.',
            )
    return wanted


def columns_of(column: str | None) -> list[str]:
    """Returns the names of one column, or of a JSON array of columns. Raises BadInput."""
    if not (column or "").lstrip().startswith("["):
        return [column or ""]
    try:
        found = json.loads(column or "")
    except ValueError:
        found = None
    if not found or not all(isinstance(name, str) for name in found) or len(set(found)) < len(found):
        raise errors.BadInput("column must be a name, or a JSON array of different names")
    return list(found)
