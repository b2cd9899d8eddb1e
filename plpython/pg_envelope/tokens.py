"""Makes search tokens: FORMAT.md section 8. Equal values have equal tokens under one key, and no token tells more."""

from __future__ import annotations

from collections.abc import Iterable

from pg_envelope import errors
from pg_envelope.hmacs import HashOf, hmac_of

TOKEN_BYTES = 16
LABEL = b"pg_envelope/1 token"
GRAM_LABEL = b"pg_envelope/1 gram"
GRAM_BYTES = 4
# A row has to fit into one page, and its grams are not compressed: the columns of some long texts must fit beside
# each other.
MOST_GRAMS = 400
# So many values are remembered with their tokens: an index compares each needle of an array some twenty times.
MOST_RECENT = 1000
# In the place of more grams: each search finds it.
EVERY_PATTERN = 0


class TokenKey:
    """A search key, which a session holds in the place of a FieldKey. It encrypts nothing.

    `epoch` and `expires` (monotonic seconds) bound its use, as they do for a field key. `recent` has tokens by
    normaliser and value. They are gone with the key.
    """

    __slots__ = ("_hashes", "_key", "epoch", "expires", "recent")

    def __init__(self, key: bytes, expires: float = float("inf")) -> None:
        """`key`: 32 bytes."""
        self._key = key
        self._hashes: dict[tuple[bytes, str], HashOf] = {}
        self.recent: dict[tuple[str, str], bytes] = {}
        self.epoch = b""
        self.expires = expires

    def token(self, content: bytes, normalize: str) -> bytes:
        """Returns 16 bytes.

        `normalize` is the name and version of the normaliser that made the content from a value.
        """
        return self._hash(LABEL, normalize)(content)[:TOKEN_BYTES]

    def remember(self, normalize: str, value: str, token: bytes) -> None:
        if len(self.recent) >= MOST_RECENT:
            self.recent.clear()
        self.recent[normalize, value] = token

    def grams(self, runs: Iterable[str], normalize: str) -> list[int]:
        """Returns unsigned 32-bit numbers in their order, each once."""
        made = self._hash(GRAM_LABEL, normalize)
        return sorted({int.from_bytes(made(run.encode())[:GRAM_BYTES], "big") for run in runs})

    def stored_grams(self, runs: Iterable[str], normalize: str) -> list[int]:
        """Returns the grams of a value as they are stored: EVERY_PATTERN alone for a value of too many parts."""
        made = self.grams(runs, normalize)
        return made if len(made) <= MOST_GRAMS else [EVERY_PATTERN]

    def _hash(self, label: bytes, normalize: str) -> HashOf:
        found = self._hashes.get((label, normalize))
        if found is None:
            prefix = b"\0".join((label, normalize.encode(), b""))
            found = self._hashes[label, normalize] = hmac_of(self._key, prefix)
        return found

    def seal(self, content: bytes, row_key: bytes) -> bytes:  # noqa: ARG002
        raise errors.NotPermitted

    def open(self, envelope: bytes, row_key: bytes) -> bytes:  # noqa: ARG002
        raise errors.NotPermitted
