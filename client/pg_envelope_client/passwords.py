"""Makes and verifies the hashes of envelope.hash_password() in the application. Only this module knows bcrypt."""

from __future__ import annotations

import re
from hmac import compare_digest

from pg_envelope import errors
from pg_envelope.argon2id import MEMORY_KIB, PASSES, argon2id, is_argon2id

ROUNDS = 12
BCRYPT_BYTES = 72
ALGORITHMS = ("bcrypt", "argon2id")
MOST_CHARACTERS = 1000
BCRYPT = re.compile(r"\$2([abxy])\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}\Z")
ARGON2ID = re.compile(
    r"\$argon2id\$v=19\$m=([0-9]{1,10}),t=([0-9]{1,10}),p=([0-9]{1,8})\$[+/A-Za-z0-9]+\$[+/A-Za-z0-9]+\Z"
)
# As envelope.password_limits(): a hash says what it costs to verify, and somebody could have planted it.
MOST_ROUNDS = 15
MOST = {"memory": 262144, "passes": 64, "lanes": 64, "memory x passes": 1048576}


class PasswordHashes:
    """Hashes passwords as envelope.hash_password does: bcrypt with 2^12 rounds, or Argon2id with 64 MiB and 3 passes.

    The methods are named as passlib's. Either side verifies what the other one made.
    """

    def __init__(self, algorithm: str = "bcrypt") -> None:
        """Raises BadInput for another algorithm than bcrypt and argon2id."""
        if algorithm not in ALGORITHMS:
            raise errors.BadInput("unknown password hash algorithm", hint=f"Algorithms: {', '.join(ALGORITHMS)}.")
        self._algorithm = algorithm

    def hash(self, password: str) -> str:
        """Returns a new hash. Raises BadInput for more than the 72 bytes that bcrypt reads, and for the byte 00."""
        content = _encoded(password)
        if self._algorithm == "argon2id":
            return argon2id(password)
        if len(content) > BCRYPT_BYTES:
            raise errors.BadInput(
                "the password is longer than 72 bytes, and bcrypt reads no more", hint='Use PasswordHashes("argon2id").'
            )
        import bcrypt

        return bcrypt.hashpw(content, bcrypt.gensalt(ROUNDS)).decode()

    def verify(self, password: str, hash: str) -> bool:
        """Tells whether a hash of bcrypt or Argon2id belongs to a password. False for a text that is no such hash.

        Raises BadInput for a hash that would cost too much to verify, and Unsupported for bcrypt's old form $2x$.
        """
        _refuse_costly(hash)
        if _is(ARGON2ID, hash):
            return is_argon2id(password, hash)
        found = _is(BCRYPT, hash)
        return found is not None and _bcrypt_fits(_encoded(password), hash, found[1])

    def needs_update(self, hash: str) -> bool:
        """Tells whether a hash is weaker than those of `hash`, or is no hash of these algorithms."""
        if found := _is(BCRYPT, hash):
            return found[1] == "x" or int(found[2]) < ROUNDS
        found = _is(ARGON2ID, hash)
        return found is None or int(found[1]) < MEMORY_KIB or int(found[2]) < PASSES

    def verify_and_update(self, password: str, hash: str) -> tuple[bool, str | None]:
        """Returns whether the hash fits, and a new hash to store if the old one is weak. Raises as `verify` does."""
        fits = self.verify(password, hash)
        return fits, self.hash(password) if fits and self.needs_update(hash) else None


def _is(form: re.Pattern[str], hash: str) -> re.Match[str] | None:
    return form.match(hash) if len(hash) <= MOST_CHARACTERS else None


def _refuse_costly(hash: str) -> None:
    bcrypt, argon = _is(BCRYPT, hash), _is(ARGON2ID, hash)
    asked = {"memory": 0, "passes": 0, "lanes": 0}
    if argon:
        asked = dict(zip(asked, map(int, argon.groups()), strict=True))
    asked["memory x passes"] = asked["memory"] * asked["passes"]
    if (bcrypt and int(bcrypt[2]) > MOST_ROUNDS) or any(asked[name] > most for name, most in MOST.items()):
        raise errors.BadInput(
            "verifying this hash would cost too much",
            hint="Did your application make this hash, or did somebody plant it?",
        )


def _bcrypt_fits(password: bytes, hash: str, form: str) -> bool:
    if form == "x":
        raise errors.Unsupported("bcrypt's old form $2x$ cannot be verified here", hint="envelope.verify_password can.")
    import bcrypt

    # As pgcrypto does: bytes behind the 72nd do not count.
    made = bcrypt.hashpw(password[:BCRYPT_BYTES], f"$2b${hash[4:]}".encode())
    return compare_digest(made[4:], hash[4:].encode())


def _encoded(password: str) -> bytes:
    if "\0" in password:
        raise errors.BadInput("a password never holds the byte 00")
    try:
        return password.encode()
    except UnicodeEncodeError:
        raise errors.BadInput("the password cannot be written in UTF-8") from None
