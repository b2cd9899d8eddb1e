"""Keeps checkpoints in the KV of Vault or OpenBao, where the broker's login may create entries and not change them."""

from __future__ import annotations

from pg_envelope import errors
from pg_envelope.broker.kms.kms import Kms
from pg_envelope.broker.ledger.anchors import Keep


def keeping(kms: Kms, environment: str) -> Keep:
    """Returns what takes notes to the KV beside a KMS's store.

    It takes none any more once the KV has had another checkpoint of as many lines. One more line, and there would be
    no such checkpoint, and the broker would sign the changed ledger.
    """
    conflict: list[errors.Internal] = []

    def keep(note: bytes) -> None:
        if conflict:
            raise conflict[0]
        store = kms.provider.store
        if kms.down is not None or store is None:
            raise _failed(kms, kms.down)
        try:
            store.keep_note(environment, note.decode())
        except errors.StoreConflict as error:
            conflict.append(_failed(kms, error))
            raise conflict[0] from None
        except errors.EnvelopeError as error:
            raise _failed(kms, error) from None

    return keep


def _failed(kms: Kms, error: errors.EnvelopeError | None) -> errors.Internal:
    return errors.Internal(
        f"the broker cannot write a checkpoint to the KV of kms.{kms.name}", error.said if error else None
    )
