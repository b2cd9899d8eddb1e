"""Gathers the themes: SQL calls `GD['pg_envelope'].admin.THEME.ROUTINE(...)`."""

from __future__ import annotations

from pg_envelope.backend.admin.tools import AdminTools
from pg_envelope.backend.guard import late
from pg_envelope.typed import TYPE_CHECKING

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


class Admin:
    """One property for each theme. `tools` is what they share."""

    def __init__(self, tools: AdminTools) -> None:
        self.tools, self.guard = tools, tools.guard

    @late
    def tables(self) -> TableRoutines:
        from pg_envelope.backend.admin.tables import TableRoutines

        return TableRoutines(self.tools)

    @late
    def ddl(self) -> DdlRoutines:
        from pg_envelope.backend.admin.ddl import DdlRoutines

        return DdlRoutines(self.tools)

    @late
    def reads(self) -> ReadRoutines:
        from pg_envelope.backend.admin.reads import ReadRoutines

        return ReadRoutines(self.tools)

    @late
    def search(self) -> SearchRoutines:
        from pg_envelope.backend.admin.search import SearchRoutines

        return SearchRoutines(self.tools)

    @late
    def jobs(self) -> JobRoutines:
        from pg_envelope.backend.admin.jobs import JobRoutines

        return JobRoutines(self.tools, lambda kek: self.keks.rotate_now(kek))

    @late
    def keys(self) -> KeyRoutines:
        from pg_envelope.backend.admin.keys import KeyRoutines

        return KeyRoutines(self.tools)

    @late
    def keks(self) -> KekRoutines:
        from pg_envelope.backend.admin.keks import KekRoutines

        return KekRoutines(self.tools)

    @late
    def erasure(self) -> ErasureRoutines:
        from pg_envelope.backend.admin.erasure import ErasureRoutines

        return ErasureRoutines(self.tools)

    @late
    def backups(self) -> BackupRoutines:
        from pg_envelope.backend.admin.backups import BackupRoutines

        return BackupRoutines(self.tools)

    @late
    def reports(self) -> ReportRoutines:
        from pg_envelope.backend.admin.reports import ReportRoutines

        return ReportRoutines(self.tools)
