"""Gathers the themes: SQL calls `GD['pg_envelope'].admin.THEME.ROUTINE(...)`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from pg_envelope.backend.admin.tools import AdminTools

if TYPE_CHECKING:
    from pg_envelope.backend.admin.backups import BackupRoutines
    from pg_envelope.backend.admin.ddl import DdlRoutines
    from pg_envelope.backend.admin.erasure import ErasureRoutines
    from pg_envelope.backend.admin.jobs import JobRoutines
    from pg_envelope.backend.admin.keks import KekRoutines
    from pg_envelope.backend.admin.keys import KeyRoutines
    from pg_envelope.backend.admin.reads import ReadRoutines
    from pg_envelope.backend.admin.reports import ReportRoutines
    from pg_envelope.backend.admin.search import SearchRoutines
    from pg_envelope.backend.admin.tables import TableRoutines

Theme = TypeVar("Theme")


def _theme(load: Callable[[Admin], Theme]) -> cached_property[Theme]:
    """Makes a property that is loaded at its first use. An error of the import leaves through the guard."""

    def loaded(admin: Admin) -> Theme:
        return admin.tools.plain(load)(admin)

    return cached_property(loaded)


class Admin:
    """One property for each theme. `tools` is what they share."""

    def __init__(self, tools: AdminTools) -> None:
        self.tools = tools

    @_theme
    def tables(self) -> TableRoutines:
        from pg_envelope.backend.admin.tables import TableRoutines

        return TableRoutines(self.tools)

    @_theme
    def ddl(self) -> DdlRoutines:
        from pg_envelope.backend.admin.ddl import DdlRoutines

        return DdlRoutines(self.tools)

    @_theme
    def reads(self) -> ReadRoutines:
        from pg_envelope.backend.admin.reads import ReadRoutines

        return ReadRoutines(self.tools)

    @_theme
    def search(self) -> SearchRoutines:
        from pg_envelope.backend.admin.search import SearchRoutines

        return SearchRoutines(self.tools)

    @_theme
    def jobs(self) -> JobRoutines:
        from pg_envelope.backend.admin.jobs import JobRoutines

        return JobRoutines(self.tools, lambda kek: self.keks.rotate_now(kek))

    @_theme
    def keys(self) -> KeyRoutines:
        from pg_envelope.backend.admin.keys import KeyRoutines

        return KeyRoutines(self.tools)

    @_theme
    def keks(self) -> KekRoutines:
        from pg_envelope.backend.admin.keks import KekRoutines

        return KekRoutines(self.tools)

    @_theme
    def erasure(self) -> ErasureRoutines:
        from pg_envelope.backend.admin.erasure import ErasureRoutines

        return ErasureRoutines(self.tools)

    @_theme
    def backups(self) -> BackupRoutines:
        from pg_envelope.backend.admin.backups import BackupRoutines

        return BackupRoutines(self.tools)

    @_theme
    def reports(self) -> ReportRoutines:
        from pg_envelope.backend.admin.reports import ReportRoutines

        return ReportRoutines(self.tools)
