"""Every error a user can meet: one class per cause, with its SQLSTATE and its code on the socket.

EnvelopeError
├── InvalidEnvelope       XX001  wrong key, wrong place, flipped or cut bytes: one text for all, no detail
│   └── UnknownKey, the same to a user
├── NotPermitted          42501  the role or the path has no right
├── KeyNotFound           42704
├── KeyDestroyed          55000
├── KeySuspended          55000
├── BadInput              22023
│   ├── NotProtected      42704
│   └── AlreadyProtected  42710
├── Unsupported           0A000
├── ValueTooLong          54000
├── LimitReached          53400  a user has read as many values as a column's limit allows
├── NotConfigured         55000
├── Conflict              40001  a row changed under the statement
└── Unavailable           58000  the broker or the KMS did not do its part
    ├── KmsUnavailable (and KmsBusy), KmsSealed, KmsDenied, KmsInvalid, KekUnknown, KekRolledBack, UnwrapFailed, ...

No message, detail or hint ever holds a value, a key, a token or an argument that could be one.
"""

from __future__ import annotations

from collections.abc import Mapping


class EnvelopeError(Exception):
    """An error with what a person needs: message, DETAIL, HINT, SQLSTATE; `code` names it on the socket."""

    sqlstate = "58000"
    code = "internal"
    text = "internal error"
    default_hint: str | None = None

    def __init__(self, message: str | None = None, detail: str | None = None, hint: str | None = None) -> None:
        super().__init__(message or self.text)
        self.message = message or self.text
        self.detail = detail
        self.hint = hint if hint is not None else self.default_hint

    @property
    def said(self) -> str:
        """Returns message and detail in one line."""
        return self.message + (f": {self.detail}" if self.detail else "")


class InvalidEnvelope(EnvelopeError):
    """The value does not authenticate. Carries no detail: a reason would be an oracle."""

    sqlstate = "XX001"
    code = "invalid_envelope"
    text = "the envelope cannot be opened"
    default_hint = "It was altered or moved, or it belongs to another row, column, database or key."

    def __init__(self) -> None:
        super().__init__()


class UnknownKey(InvalidEnvelope):
    """The header names no key of the column. A user meets the same error; verify() tells it apart."""


class NotPermitted(EnvelopeError):
    """The role or path has no right. `about` is for the audit log alone: `label` and `key_id`, where known."""

    sqlstate = "42501"
    code = "not_permitted"
    text = "permission denied"

    def __init__(
        self,
        message: str | None = None,
        detail: str | None = None,
        hint: str | None = None,
        about: Mapping[str, str | int | None] | None = None,
    ) -> None:
        super().__init__(message, detail, hint)
        self.about = about or {}


class KeyNotFound(EnvelopeError):
    sqlstate = "42704"
    code = "key_not_found"
    text = "the key does not exist in its store"
    default_hint = "Compare envelope.keys with the KMS; after a restore, the key may have been deleted since."


class KeyDestroyed(EnvelopeError):
    sqlstate = "55000"
    code = "key_destroyed"
    text = "the key was destroyed"
    default_hint = (
        "Its values cannot be read again. For new writes envelope.rotate(...) or rotate_key(...) makes a new "
        "key. If you did not expect this, see envelope.keys and the audit log."
    )


class KeySuspended(EnvelopeError):
    sqlstate = "55000"
    code = "key_suspended"
    text = "the key is suspended"
    default_hint = "CALL envelope.unsuspend(...) makes the key usable again; see envelope.keys."


class BadInput(EnvelopeError):
    sqlstate = "22023"
    code = "bad_request"
    text = "invalid argument"


class NotProtected(BadInput):
    sqlstate = "42704"


class AlreadyProtected(BadInput):
    sqlstate = "42710"


class Unsupported(EnvelopeError):
    sqlstate = "0A000"
    code = "unsupported"
    text = "not supported"


class ValueTooLong(EnvelopeError):
    sqlstate = "54000"
    code = "value_too_long"
    text = "the value is too long to be encrypted"


class LimitReached(EnvelopeError):
    sqlstate = "53400"
    code = "limit_reached"
    text = "the limit of reads is reached"
    default_hint = (
        "A DBA sets the limit of a column by envelope.set_limit(...). The ledger of reads tells who reached it."
    )


class NotConfigured(EnvelopeError):
    sqlstate = "55000"
    code = "not_configured"
    text = "pg_envelope is not configured"


class Conflict(EnvelopeError):
    sqlstate = "40001"
    code = "conflict"
    text = "could not serialize access due to concurrent update"


class Unavailable(EnvelopeError):
    """The broker, or what stands behind it, did not answer as it should."""

    code = "unavailable"
    text = "the key broker is not available"
    default_hint: str | None = "Run: pg-envelope broker --check --config FILE."


class KmsUnavailable(Unavailable):
    code = "kms_unavailable"
    text = "the KMS does not answer"
    default_hint = (
        "Keys in the broker's cache stay usable until its grace is over. Is the KMS up, and reachable from the broker?"
    )


class KmsBusy(KmsUnavailable):
    """The KMS is up, and refused the request before it did anything: a quota is used up."""

    code = "kms_busy"
    text = "the KMS refuses more requests for now"
    default_hint = "Its quota or rate limit is used up, after the broker has waited. Try again, or raise the limit."


class KmsSealed(Unavailable):
    code = "kms_sealed"
    text = "the KMS is sealed"
    default_hint = "Unseal it (bao operator unseal). Keys in the broker's cache stay usable until its grace is over."


class KmsDenied(Unavailable):
    code = "kms_denied"
    text = "the KMS refused the broker's login or request"
    default_hint = "Token expired or revoked, or a policy is missing. Run: pg-envelope broker --check --config FILE."


class KmsInvalid(Unavailable):
    """The KMS is up and knows the broker, but the request, or the key that it names, does not suit the KMS."""

    code = "kms_invalid"
    text = "the KMS refused the request as invalid"
    default_hint = (
        "Do mounts, namespace and keys in [kms.NAME] and [kek.NAME] name what the KMS has?"
        " Run: pg-envelope broker --check --config FILE."
    )


class KekUnknown(Unavailable):
    sqlstate = "42704"
    code = "kek_unknown"
    text = "the broker's configuration has no such KEK"
    default_hint = "KEKs are declared as [kek.NAME] in the broker's configuration; envelope.status() lists them."


class KekRolledBack(Unavailable):
    """The KMS forgot versions of a KEK. Their wraps open nowhere any more; only caches still hold their DEKs."""

    sqlstate = "55000"
    code = "kek_rolled_back"
    text = "the KMS knows only older versions of the KEK than the key catalog: it was restored to an earlier state"
    default_hint = (
        "Do not flush, and do not restart the broker: its cache may hold the only keys."
        " Run pg-envelope keys-backup make, then see docs/runbooks/restore.md."
    )


class UnwrapFailed(Unavailable):
    sqlstate = "XX001"
    code = "unwrap_failed"
    text = "a wrapped DEK cannot be unwrapped"
    default_hint = (
        "It was altered or moved, its KEK version was removed, or it belongs to another database or environment:"
        " see envelope.status()."
    )


class StoreUnknown(Unavailable):
    sqlstate = "22023"
    code = "store_unknown"
    text = "this KEK has no such store for wrapped DEKs"
    default_hint = "Stores: 'vault' (KV version 2, with Vault or OpenBao) and 'catalog'."


class StoreConflict(Unavailable):
    code = "store_conflict"
    text = "the key store already holds a key of this id"
    default_hint = None


class Deadline(Unavailable):
    code = "deadline"
    text = "the broker did not answer in time"


class Overloaded(Unavailable):
    sqlstate = "53000"
    code = "overloaded"
    text = "the broker has too many requests waiting"
    default_hint = "Try again; see pg_envelope_requests_waiting in the broker's metrics."


class Internal(Unavailable):
    code = "internal"
    text = "internal error in the broker"
    default_hint = "See the broker's log."


def _all(base: type[EnvelopeError]) -> list[type[EnvelopeError]]:
    return [base, *(found for child in base.__subclasses__() for found in _all(child))]


BY_CODE = {
    found.code: found
    for found in _all(EnvelopeError)
    if found not in (EnvelopeError, InvalidEnvelope, UnknownKey, NotProtected, AlreadyProtected)
}
