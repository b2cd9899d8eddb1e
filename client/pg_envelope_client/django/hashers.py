"""A password hasher for Django, which reads and writes what envelope.hash_password() makes."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.hashers import BasePasswordHasher, mask_hash

from pg_envelope_client.passwords import BCRYPT_BYTES, PasswordHashes


class NoName(str):
    """The empty text, which Django finds before the first `$` of a bare hash. It counts as a name that is there."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


class EnvelopeHasher(BasePasswordHasher):
    """Bare hashes, as they stand in a column that SQL verifies, too: bcrypt, or Argon2id for more than 72 bytes.

    For the first place of PASSWORD_HASHERS. Weaker hashes are made anew at the next login.
    """

    algorithm = NoName()

    def salt(self) -> str:
        """Returns a text that nothing uses: each hash draws a salt of its own."""
        return "drawn"

    def encode(self, password: str, salt: str) -> str:  # noqa: ARG002
        long = len(password.encode()) > BCRYPT_BYTES
        return PasswordHashes("argon2id" if long else "bcrypt").hash(password)

    def verify(self, password: str, encoded: str) -> bool:
        """Raises BadInput for a hash that would cost too much to verify."""
        return PasswordHashes().verify(password, encoded)

    def must_update(self, encoded: str) -> bool:
        return PasswordHashes().needs_update(encoded)

    def decode(self, encoded: str) -> dict[str, Any]:
        name, _, rest = encoded.removeprefix("$").partition("$")
        return {"algorithm": name, "hash": rest}

    def safe_summary(self, encoded: str) -> dict[str, Any]:
        """Returns what the admin's pages show of a hash."""
        found = self.decode(encoded)
        return {"algorithm": found["algorithm"], "hash": mask_hash(found["hash"], show=3)}

    def harden_runtime(self, password: str, encoded: str) -> None:
        """Does nothing: a weak hash that does not fit shows by its time that it is weak, and no more."""
