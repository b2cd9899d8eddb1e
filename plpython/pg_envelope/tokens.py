"""Makes search tokens: FORMAT.md section 8. Equal values have equal tokens under one key, and no token tells more."""

from __future__ import annotations

import hmac

from pg_envelope import errors

TOKEN_BYTES = 16
LABEL = b"pg_envelope/1 token"


class TokenKey:
    """A search key, which a session holds in the place of a FieldKey. It encrypts nothing.

    `epoch` and `expires` (monotonic seconds) bound its use, as they do for a field key.
    """

    __slots__ = ("_key", "epoch", "expires")

    def __init__(self, key: bytes, expires: float = float("inf")) -> None:
        """`key`: 32 bytes."""
        self._key = key
        self.epoch = b""
        self.expires = expires

    def token(self, content: bytes, normalize: str) -> bytes:
        """Returns 16 bytes.

        `normalize` is the name and version of the normaliser that made the content from a value.
        """
        message = b"\0".join((LABEL, normalize.encode(), content))
        return hmac.digest(self._key, message, "sha256")[:TOKEN_BYTES]

    def seal(self, content: bytes, row_key: bytes) -> bytes:  # noqa: ARG002
        raise errors.NotPermitted

    def open(self, envelope: bytes, row_key: bytes) -> bytes:  # noqa: ARG002
        raise errors.NotPermitted
