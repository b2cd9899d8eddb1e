"""Encrypts and decrypts each value for views, triggers and users. This is the hot path of the product."""

from __future__ import annotations

from collections.abc import Callable

from pg_envelope import envelope, errors
from pg_envelope.backend.audited import AuditedKey
from pg_envelope.backend.authority import Authority, Kind, Right
from pg_envelope.backend.guard import text
from pg_envelope.backend.scopes import Scopes
from pg_envelope.backend.session_keys import CAPABILITY_BYTES, SessionKeys
from pg_envelope.envelope import HEADER_BYTES
from pg_envelope.typed import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pg_envelope.backend.masks.session import Masks
    from pg_envelope.backend.reads import Reads

SEAL_BYTES = CAPABILITY_BYTES + HEADER_BYTES
Passes = Callable[[errors.EnvelopeError, bytes], bool]
AUDITED_HINT = "This column is audited. Read it through its view, which writes an event first."
Content = TypeVar("Content", str, bytes)
# Called before a value of an audited column is opened: its key, the capability and the row key.
Note = Callable[[AuditedKey, bytes, str], None]
# These errors are about one value or its key. Every other error (no right, no broker, no KMS) says nothing of the
# value.
FAULTS = (errors.InvalidEnvelope, errors.KeyDestroyed, errors.KeySuspended, errors.KeyNotFound, errors.UnwrapFailed)


class Values:
    """Serves values by capability (the path of a view or trigger) and by role (named keys, row-level security).

    None stays None. Every method raises EnvelopeError, and no method lets a value into an exception.
    """

    def __init__(
        self,
        session_keys: SessionKeys,
        authority: Authority,
        scopes: Scopes,
        reads: Callable[[], Reads],
        masks: Callable[[], Masks],
    ) -> None:
        """`reads` returns the session's half of the ledger of reads, and `masks` its masks."""
        self._get = session_keys.get
        self._authority = authority
        self._scopes = scopes
        self._reads, self._masks = reads, masks
        # Tells whether a value that does not open may read as NULL in the statement under way: see writes.Unread.
        self.passes: Passes | None = None

    def decrypt(
        self, value: bytes | None, capability: bytes | None, row_key: str | None, note: Note | None = None
    ) -> bytes | None:
        """The plaintext bytes of an envelope in its place; None for an erased one, where the table says so.

        Raises NotPermitted for an audited column, unless `note` writes its event.
        """
        return self._decrypt(value, capability, row_key, note or _refuse)

    def opened(self, value: bytes | None, capability: bytes | None, row_key: str | None) -> bytes | None:
        """Does what `decrypt` does, for code that shows the plaintext to nobody: that is no read."""
        return self._decrypt(value, capability, row_key, _pass_over)

    def _decrypt(self, value: bytes | None, capability: bytes | None, row_key: str | None, note: Note) -> bytes | None:
        if value is None:
            return None
        if capability is None or row_key is None or len(capability) != CAPABILITY_BYTES:
            raise errors.NotPermitted(about={"key_id": int.from_bytes(value[2:HEADER_BYTES], "big")})
        try:
            key = self._get(capability + value[:HEADER_BYTES])
            if type(key) is AuditedKey:
                note(key, capability, row_key)
            return key.open(value, row_key.encode())
        except (errors.InvalidEnvelope, errors.KeyDestroyed) as error:
            if self.passes is not None and self.passes(error, capability):
                return None
            raise

    def decrypt_text(
        self, value: bytes | None, capability: bytes | None, row_key: str | None, note: Note | None = None
    ) -> str | None:
        """Returns the plaintext of an envelope as text. Content that is no text counts as an envelope that does
        not open.
        """
        content = self.decrypt(value, capability, row_key, note)
        try:
            return None if content is None else text(content)
        except (UnicodeError, errors.InvalidEnvelope):
            self.no_value(capability)
            return None

    def encrypt(
        self, value: bytes | None, seal: bytes | None, row_key: str | None, scope: str | None = None
    ) -> bytes | None:
        """Returns a new envelope under the key that `seal` (capability | header) names, or a template of it and
        `scope`.
        """
        if value is None:
            return None
        if seal is None or len(seal) != SEAL_BYTES:
            seal = self._scopes.seal(seal, scope)
        if row_key is None:
            raise errors.BadInput("the row has no key to bind the value to", hint="No primary key column may be NULL.")
        return self._get(seal).seal(value, row_key.encode())

    def reseal(
        self, value: bytes | None, seal: bytes | None, row_key: str | None, scope: str | None = None
    ) -> bytes | None:
        """Returns the same value under the newest key. None when the value stays: it has that key already, or
        does not open.
        """
        if value is None:
            return None
        if seal is None:
            raise errors.NotPermitted
        if len(seal) == SEAL_BYTES and value[:HEADER_BYTES] == seal[CAPABILITY_BYTES:]:
            return None
        try:
            content = self.opened(value, seal[:CAPABILITY_BYTES], row_key)
        except FAULTS:
            return None
        if content is None:
            return None
        newest = seal if len(seal) == SEAL_BYTES else self._scopes.seal(seal, scope)
        return None if value[:HEADER_BYTES] == newest[CAPABILITY_BYTES:] else self.encrypt(content, newest, row_key)

    def decrypt_as_role(self, value: bytes | None, field_uuid: str | None, row_key: str | None) -> bytes | None:
        right = self.right("read", field_uuid)
        content = self.decrypt(value, right.capability, row_key, self.note_by_right)
        return self.shown_by_right(content, field_uuid, row_key) if right.is_masked else content

    def decrypt_text_as_role(self, value: bytes | None, field_uuid: str | None, row_key: str | None) -> str | None:
        right = self.right("read", field_uuid)
        content = self.decrypt_text_by_right(value, right.capability, row_key)
        return self.shown_by_right(content, field_uuid, row_key) if right.is_masked else content

    def shown_by_right(self, content: Content | None, field_uuid: str | None, row_key: str | None) -> Content | None:
        """Returns what the current role sees of a value that its right reads. Raises NotPermitted."""
        return self._masks().shown_by_right(content, field_uuid, row_key or "")

    def decrypt_text_by_right(self, value: bytes | None, capability: bytes | None, row_key: str | None) -> str | None:
        """Does what decrypt_text_as_role does, where the role's right gave the capability."""
        return self.decrypt_text(value, capability, row_key, self.note_by_right)

    def decrypt_audited(self, value: bytes | None, token: bytes | None, row_key: str | None) -> bytes | None:
        """Does what `decrypt` does, for a token of `Reads.opened` in the place of the capability."""
        return self.decrypt(value, self._counted(value, token, row_key), row_key, _pass_over)

    def decrypt_text_audited(self, value: bytes | None, token: bytes | None, row_key: str | None) -> str | None:
        return self.decrypt_text(value, self._counted(value, token, row_key), row_key, _pass_over)

    def note_by_right(self, key: AuditedKey, capability: bytes, row_key: str) -> None:
        """Counts a value that is about to be read by the current role's right. Raises what Reads raises."""
        self._reads().count_by_right(key.field, capability, row_key)

    def _counted(self, value: bytes | None, token: bytes | None, row_key: str | None) -> bytes | None:
        """Counts a value. Returns the capability in its token. Raises NotPermitted for a token without an event."""
        if value is None or token is None:
            return None
        self._reads().count(token, row_key or "")
        return token[:CAPABILITY_BYTES]

    def encrypt_as_role(
        self, value: bytes | None, field_uuid: str | None, row_key: str | None, scope: str | None = None
    ) -> bytes | None:
        return self.encrypt(value, self.right("write", field_uuid).seal, row_key, scope)

    def no_value(self, right: bytes | str | None) -> bool:
        """Returns False where the calling statement may read NULL for this bad value. Raises InvalidEnvelope
        elsewhere.

        `right` is the right by which the value is read: a capability, or the field under row-level security.
        """
        by_path = right[:CAPABILITY_BYTES] if isinstance(right, bytes) else None
        capability = by_path or self.right("read", None if isinstance(right, bytes) else right).capability
        if self.passes is not None and self.passes(errors.InvalidEnvelope(), capability):
            return False
        raise errors.InvalidEnvelope

    def right(self, kind: Kind, field_uuid: str | None) -> Right:
        """The current role's right to a field. Raises NotPermitted."""
        if field_uuid is None:
            raise errors.NotPermitted
        return self._authority.right(kind, field_uuid)

    def encrypt_named(self, value: bytes | None, name: str | None, context: str | None) -> bytes | None:
        """Encrypts a value under a named key, bound to the caller's context."""
        if value is None:
            return None
        return self.encrypt(value, self._authority.right("name", name or "").seal, context or "")

    def decrypt_named(self, value: bytes | None, context: str | None) -> bytes | None:
        """Decrypts an envelope of encrypt_named. The envelope's header names the key."""
        if value is None:
            return None
        right = self._authority.right("key", str(envelope.key_id(value)))
        return self.decrypt(value, right.capability, context or "", self.note_by_right)


def _refuse(_key: AuditedKey, _capability: bytes, _row_key: str) -> None:
    raise errors.NotPermitted(hint=AUDITED_HINT)


def _pass_over(_key: AuditedKey, _capability: bytes, _row_key: str) -> None:
    pass
