"""Makes search tokens: FORMAT.md section 8. Equal values have equal tokens under one key, and no token tells more."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from pg_envelope import errors

TOKEN_BYTES = 16
LABEL = b"pg_envelope/1 token"
GRAM_LABEL = b"pg_envelope/1 gram"
GRAM_BYTES = 4
# A row has to fit into one page, and its grams are not compressed: the columns of some long texts must fit beside
# each other.
MOST_GRAMS = 400
# In the place of more grams: each search finds it.
EVERY_PATTERN = 0


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

    def grams(self, runs: Iterable[str], normalize: str) -> list[int]:
        """Returns unsigned 32-bit numbers in their order, each once."""
        return sorted({self._gram(run, normalize) for run in runs})

    def stored_grams(self, runs: Iterable[str], normalize: str) -> list[int]:
        """Returns the grams of a value as they are stored: EVERY_PATTERN alone for a value of too many parts."""
        made = self.grams(runs, normalize)
        return made if len(made) <= MOST_GRAMS else [EVERY_PATTERN]

    def _gram(self, run: str, normalize: str) -> int:
        message = b"\0".join((GRAM_LABEL, normalize.encode(), run.encode()))
        return int.from_bytes(hmac.digest(self._key, message, "sha256")[:GRAM_BYTES], "big")

    def seal(self, content: bytes, row_key: bytes) -> bytes:  # noqa: ARG002
        raise errors.NotPermitted

    def open(self, envelope: bytes, row_key: bytes) -> bytes:  # noqa: ARG002
        raise errors.NotPermitted
