"""KEKs: their versions, and the move of all keys to others."""

from __future__ import annotations

from pg_envelope.backend import caller
from pg_envelope.backend.admin.tools import COMMITS, AdminTools
from pg_envelope.backend.commits import begin
from pg_envelope.backend.host import Row
from pg_envelope.backend.lifecycle.rotation import Rewrap


class KekRoutines:
    """`kek` is the name of a KEK in envelope.keks."""

    def __init__(self, tools: AdminTools) -> None:
        self._tools, self._host, self._link = tools, tools.host, tools.link
        self.rotate_kek = tools.plain(self.rotate_now)
        self.rewrap = tools.plain(self._rewrap)
        self.rekey = tools.plain(self._rekey)
        self.kms_versions = tools.plain(self._kms_versions)

    def rotate_now(self, kek: str | None) -> None:
        """Rotates a KEK, for a routine that has its own guard."""
        rewrap = self._rewrapping(kek, "rotate_kek")
        rewrap.rotate()
        rewrap.run()

    def _rewrap(self, kek: str | None) -> None:
        self._rewrapping(kek, "rewrap").run()

    def _rewrapping(self, kek: str | None, what: str) -> Rewrap:
        caller.refuse_others(self._host, what, COMMITS)
        begin(self._host, what)
        self._tools.keys.kek(kek or "")
        return Rewrap(self._host, self._link, kek or "", what)

    def _rekey(self, from_environment: str | None, from_kek: str | None, to_kek: str | None) -> None:
        from pg_envelope.backend.lifecycle.rekey import Rekey

        caller.refuse_others(self._host, "rekey", COMMITS)
        begin(self._host, "rekey")
        Rekey(self._host, self._link, self._tools.keys).run(from_environment or "", from_kek, to_kek)

    def _kms_versions(self) -> list[Row]:
        from pg_envelope.backend.lifecycle.kek_versions import kms_versions

        return kms_versions(self._host, self._link)
