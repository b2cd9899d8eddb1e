"""Tells why a stored envelope does not open, in a fixed set of words.

The words tell what the key catalog knows of the key id in the header, which is no secret. There is one word for
everything that the AEAD refuses. So a person who alters ciphertext learns no more from it than from a SELECT.
"""

from __future__ import annotations

from time import monotonic

from pg_envelope import errors
from pg_envelope.backend.session_keys import CAPABILITY_BYTES
from pg_envelope.backend.values import FAULTS, Values
from pg_envelope.envelope import HEADER_BYTES

REASONS: dict[type[errors.EnvelopeError], str] = {
    errors.UnknownKey: "key unknown",
    errors.InvalidEnvelope: "does not open",
    errors.KeyDestroyed: "key destroyed",
    errors.KeySuspended: "key suspended",
    errors.KeyNotFound: "key lost",
    errors.UnwrapFailed: "key lost",
}
DOES_NOT_OPEN = REASONS[errors.InvalidEnvelope]
DESTROYED = REASONS[errors.KeyDestroyed]
# envelope_internal.fault_carefully gives these words: the server cannot read the stored bytes, or the type cannot read
# the text.
STORAGE_DAMAGED = "storage damaged"
NOT_OF_TYPE = "not of its type"
# Only verify() gives this: the value opens, but a search finds its row by another value, or by none.
WRONG_TOKEN = "wrong token"  # noqa: S105
# Nobody can make such a value readable in the place where it is.
BEYOND_HELP = (DOES_NOT_OPEN, REASONS[errors.UnknownKey], DESTROYED, STORAGE_DAMAGED, NOT_OF_TYPE)
# People did these on purpose, and other places tell them: the ledger tells erasures, envelope.keys tells suspensions.
ON_PURPOSE = (DESTROYED, REASONS[errors.KeySuspended])
# A key that cannot be had is asked for once in a walk, not again with each value.
KEPT_SECONDS = 2.0
MOST_KEPT = 10_000


class Faults:
    """Opens values only to see whether they open: their content goes nowhere."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._kept: dict[bytes, tuple[str, float]] = {}

    def as_role(self, value: bytes | None, field_uuid: str | None, row_key: str | None) -> str | None:
        """Returns one of REASONS, or None for an envelope that opens and for NULL. Raises NotPermitted, and
        errors that stop all.
        """
        if value is None:
            return None
        capability = self._values.right("read", field_uuid).capability
        slot = capability[:CAPABILITY_BYTES] + value[:HEADER_BYTES]
        reason, until = self._kept.get(slot, (None, 0.0))
        return reason if until > monotonic() else self._try(value, capability, row_key, slot)

    def _try(self, value: bytes, capability: bytes, row_key: str | None, slot: bytes) -> str | None:
        try:
            content = self._values.opened(value, capability, row_key)
        except FAULTS as error:
            reason = REASONS[type(error)]
            if reason != DOES_NOT_OPEN:
                self._keep(slot, reason)
            return reason
        return DESTROYED if content is None else None

    def _keep(self, slot: bytes, reason: str) -> None:
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[slot] = reason, monotonic() + KEPT_SECONDS
