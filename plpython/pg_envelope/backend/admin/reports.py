"""Reports: status, signed reports, and who can read what."""

from __future__ import annotations

import json

from pg_envelope import errors
from pg_envelope.backend import caller
from pg_envelope.backend.admin.tools import AdminTools
from pg_envelope.backend.host import Row
from pg_envelope.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pg_envelope.backend.lifecycle.signing import Signing


class ReportRoutines:
    """What auditors and monitoring ask for."""

    def __init__(self, tools: AdminTools) -> None:
        self._tools, self._host, self._link = tools, tools.host, tools.link
        self.signing_keys = tools.plain(lambda: self._signing().public_keys())
        self.status = tools.plain(self._status)
        self.sign_report = tools.plain(self._sign_report)
        self.is_harmless = tools.plain(self._is_harmless)
        self.verify_keys = tools.plain(self._verify_keys)
        self.access = tools.plain(tools.alone(self._access))

    def _sign_report(self, report: str | None) -> list[Row]:
        """Signs it as a report and nothing else: so it cannot pass for a receipt."""
        content = json.loads(report or "null")
        if not isinstance(content, dict):
            raise errors.BadInput("sign_report() needs a JSON object")
        signed = self._signing().sign({"what": "report", "report": content})
        return [{"statement": signed.text, "signature": signed.signature, "public_key": signed.public_key}]

    def _signing(self) -> Signing:
        from pg_envelope.backend.lifecycle.signing import Signing

        return Signing(self._host, self._link, self._tools.keys)

    def _access(self, proof: bool | None) -> list[Row]:
        from pg_envelope.backend.access.report import access

        caller.refuse_others(self._host, "access", "It reads as each role.")
        return access(self._host, proof=bool(proof))

    def _is_harmless(self, rel: str | None) -> bool:
        from pg_envelope.backend.access.code import is_harmless

        return is_harmless(self._host, self._host.relation(rel or ""))

    def _status(self) -> list[Row]:
        from pg_envelope.backend.status import Status

        return list(Status(self._host, self._link).rows())

    def _verify_keys(self) -> list[Row]:
        from pg_envelope.backend.unreadable import verify

        return list(verify(self._host, self._link))
