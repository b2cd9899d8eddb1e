"""Backups of keys, and a database that was restored or copied."""

from __future__ import annotations

from pg_envelope.backend.admin.tools import AdminTools
from pg_envelope.backend.lifecycle import sequences
from pg_envelope.backend.lifecycle.keys_backup import KeysBackup


class BackupRoutines:
    """A backup of keys is in docs/keys-backup.md."""

    def __init__(self, tools: AdminTools) -> None:
        self._tools, self._host, self._link = tools, tools.host, tools.link
        keys_backup = KeysBackup(tools.host, tools.link, tools.keys)
        self.keys_backup_place = tools.plain(keys_backup.place)
        self.keys_backup = tools.plain(keys_backup.keys_backup)
        self.keys_return_key = tools.plain(keys_backup.keys_return_key)
        self.keys_return = tools.plain(keys_backup.keys_return)
        self.this_is_the_original = tools.plain(self._this_is_the_original)
        self.mend_sequences = tools.plain(self._mend_sequences)

    def _this_is_the_original(self) -> None:
        from pg_envelope.backend.lifecycle.identity import Claim

        Claim(self._host, self._link).run()

    def _mend_sequences(self) -> int:
        return sequences.mend(self._host)
