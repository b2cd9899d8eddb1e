"""Gets the file key of a sealed backup: from the broker, or from the break-glass key."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from uuid import UUID, uuid4

from pg_envelope import derivation, errors, keys_backup
from pg_envelope_client.backups.head import FIRST_DEK_ID, AboutCluster, BackupHead, Escrow, sealed_about
from pg_envelope_client.keys_backup.opening import Holder
from pg_envelope_client.problems import Problem
from pg_envelope_client.sealing.broker import Broker

SOCKET_HINT = "Run this on the broker's machine, as a user of allowed_users: --broker with the path of its socket."
GLASS_HINT = "pg-envelope keys-backup init; or, if the KMS alone shall open the backup: --kms-only"


def new(
    broker: Broker, database: UUID, kek: str, label: str, kind: str, made: str, about: AboutCluster, kms_only: bool
) -> tuple[BackupHead, bytes]:
    """Returns the head of a new backup, and its file key. Raises Problem."""
    try:
        dek = broker.generate(database, kek, FIRST_DEK_ID + secrets.randbelow(FIRST_DEK_ID))
        escrow = None if kms_only else Escrow(*broker.sealed_for_break_glass(database, dek))
        plain = BackupHead(
            label, kind, made, database, dek, uuid4(), os.urandom(derivation.SALT_BYTES), escrow, about=b""
        )
        key = _derived(broker, plain)
    except errors.NotPermitted as error:
        hint = GLASS_HINT if "backup" in error.message else SOCKET_HINT
        raise Problem(error.message, detail=error.detail, hint=hint, sqlstate=error.sqlstate) from None
    except errors.EnvelopeError as error:
        raise _told(error) from None
    return BackupHead(**{**vars(plain), "about": sealed_about(key, about)}), key


def by_broker(broker: Broker, head: BackupHead) -> bytes:
    """Returns the file key, which the KMS unwraps. Raises Problem."""
    try:
        return _derived(broker, head)
    except errors.EnvelopeError as error:
        raise _told(error) from None


def by_break_glass(holder: Holder, head: BackupHead, path: Path) -> bytes:
    """Returns the file key without KMS and broker. Raises Problem."""
    if head.escrow is None:
        raise Problem(f"{path} is not sealed for a break-glass key", hint="Only the KMS opens it: --broker")
    private = holder.private_key()
    if keys_backup.public_text(private.public_key()) != head.escrow.public_key:
        raise Problem(f"{path} was made for another break-glass key", detail=f"made {head.made}")
    place = keys_backup.SealPlace(keys_backup.BACKUP, head.escrow.environment, head.database)
    try:
        dek = keys_backup.unseal(private, place, head.dek.dek_id, head.escrow.sealed)
    except errors.EnvelopeError:
        dek = b""
    if not derivation.same(derivation.fingerprint(dek, head.dek.dek_id), head.dek.fingerprint):
        raise Problem(f"the break-glass key does not open {path}", hint="The head of the backup was altered.")
    return head.file_key(dek)


def _derived(broker: Broker, head: BackupHead) -> bytes:
    return broker.derive(head.database, head.key_row(), head.field, f"backup {head.label}").key


def _told(error: errors.EnvelopeError) -> Problem:
    return Problem(error.message, detail=error.detail, hint=error.hint, sqlstate=error.sqlstate)
