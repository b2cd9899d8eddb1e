"""What destroys keys, what tells about it beforehand, and what repeats it after a restore."""

from __future__ import annotations

from pg_envelope.backend.admin.tools import AdminTools
from pg_envelope.backend.commits import begin
from pg_envelope.backend.host import Row
from pg_envelope.backend.lifecycle.erasure import Erasure, check_scope
from pg_envelope.backend.tables import catalog
from pg_envelope.backend.tables.scope_values import ScopeColumn


class ErasureRoutines:
    """`subject` is a value of the scope column, as text."""

    def __init__(self, tools: AdminTools) -> None:
        self._tools, self._host, self._link = tools, tools.host, tools.link
        self.affected = tools.plain(self._affected)
        self.shred = tools.plain(self._shred)
        self.shred_key = tools.plain(self._shred_key)
        self.shred_dropped = tools.plain(self._shred_dropped)
        self.replay_erasures = tools.plain(self._replay_erasures)
        self.forget_all_keys = tools.plain(self._forget_all_keys)

    def _affected(self, rel: str | None, subject: str | None) -> list[Row]:
        from pg_envelope.backend.lifecycle.affected import affected

        return affected(self._host, self._tools.table(rel, "affected"), subject)

    def _shred(self, rel: str | None, subject: str | None, reason: str | None) -> None:
        oid = self._tools.settled(rel, "shred")
        catalog.refuse_shared_rollout(self._host, oid, "shred")
        begin(self._host, "shred")
        erasure = Erasure(self._host, self._link)
        key = erasure.of_table(oid)
        check_scope(key, subject)
        for scope in [None] if subject is None else ScopeColumn.of(self._host, oid).known(subject):
            erasure.shred("shred", key, scope, reason or "")

    def _shred_key(self, name: str | None, reason: str | None) -> None:
        self._tools.refuse_others("shred_key")
        begin(self._host, "shred_key")
        erasure = Erasure(self._host, self._link)
        erasure.shred("shred_key", erasure.of_name(name), None, reason or "")

    def _shred_dropped(self, key: str | None, reason: str | None, subject: str | None) -> None:
        """`subject` is the text that envelope.keys shows. No column is left whose type could give it another one."""
        self._tools.refuse_others("shred_dropped")
        begin(self._host, "shred_dropped")
        erasure = Erasure(self._host, self._link)
        found = erasure.of_dropped(key)
        check_scope(found, subject)
        erasure.shred("shred_dropped", found, subject, reason or "")

    def _replay_erasures(self, destroy_active: bool | None) -> list[Row]:
        from pg_envelope.backend.lifecycle.replay import Replay

        return Replay(self._host, self._link, bool(destroy_active)).run()

    def _forget_all_keys(self, database: str | None) -> int:
        from pg_envelope.backend.lifecycle.forgetting import Forgetting

        self._tools.refuse_others("forget_all_keys")
        return Forgetting(self._host, self._link).forget_all(database)
