"""Jobs that read or write whole tables in committed batches, and what proves that they did."""

from __future__ import annotations

from collections.abc import Callable

from pg_envelope.backend import caller
from pg_envelope.backend.admin.tools import COMMITS, AdminTools
from pg_envelope.backend.commits import begin
from pg_envelope.backend.jobs.walker import Pace, pace_of
from pg_envelope.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pg_envelope.backend.jobs.reencrypt import Reencryption


class JobRoutines:
    """`rotate_kek` rotates a KEK and brings the keys to its new version."""

    def __init__(self, tools: AdminTools, rotate_kek: Callable[[str | None], None]) -> None:
        self._tools, self._host, self._link = tools, tools.host, tools.link
        self._rotate_kek = rotate_kek
        self.reencrypt = tools.plain(self._reencrypt)
        self.receipt = tools.plain(self._receipt)
        self.verify = tools.plain(self._verify)
        self.rotate_due = tools.plain(self._rotate_due)

    def _reencrypt(
        self,
        rel: str | None,
        batch_size: int | None,
        pause_ms: int | None,
        part: int | None,
        parts: int | None,
        newest_first: bool | None,
        max_lag_mb: int | None,
    ) -> None:
        pace = pace_of(batch_size, pause_ms, newest_first=bool(newest_first), max_lag_mb=max_lag_mb)
        self._reencryption(rel, "reencrypt").run(pace, 1 if part is None else part, 1 if parts is None else parts)

    def _receipt(self, rel: str | None) -> str:
        return self._reencryption(rel, "receipt").receipt()

    def _verify(self, rel: str | None, batch_size: int | None, pause_ms: int | None, anew: bool | None) -> None:
        from pg_envelope.backend.jobs.verify import Verification, verify_all

        # It writes next to nothing.
        pace = pace_of(batch_size, pause_ms, max_lag_mb=0)
        if rel is None:
            self._tools.refuse_others("verify")
            verify_all(self._host, pace, bool(anew))
        else:
            Verification(self._host, self._tools.table(rel, "verify")).run(pace, bool(anew))

    def _rotate_due(self, dry_run: bool | None) -> None:
        from pg_envelope.backend.lifecycle.schedule import RotateDue, tell_overdue

        caller.refuse_others(self._host, "rotate_due", COMMITS)
        begin(self._host, "rotate_due")
        try:
            RotateDue(self._host, self._tools.keys, self._rotate_kek, self._reencrypt_due).run(bool(dry_run))
        finally:
            tell_overdue(self._host, self._link)

    def _reencrypt_due(self, oid: int) -> None:
        self._reencryption_of(oid).run(Pace())

    def _reencryption(self, rel: str | None, what: str) -> Reencryption:
        return self._reencryption_of(self._tools.table(rel, what))

    def _reencryption_of(self, oid: int) -> Reencryption:
        from pg_envelope.backend.jobs.reencrypt import Reencryption
        from pg_envelope.backend.lifecycle.signing import Signing

        return Reencryption(self._host, Signing(self._host, self._link, self._tools.keys), oid)
