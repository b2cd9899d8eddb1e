"""Hashes passwords with Argon2id, in PHC format. Server and client make the same hashes."""

from __future__ import annotations

import os

from pg_envelope import fips

# RFC 9106's second recommended option; more than OWASP's minimum. Lanes run one after the other: no threads here.
PASSES = 3
LANES = 4
MEMORY_KIB = 65536
HASH_BYTES = 32
INSTEAD = "PBKDF2 is approved, and this package does not make it. bcrypt is not approved either."
SALT_BYTES = 16


def argon2id(password: str) -> str:
    """A password's hash with a new salt, in PHC format. Raises Unsupported while the FIPS provider is active."""
    fips.refuse("Argon2id", INSTEAD)
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    made = Argon2id(
        salt=os.urandom(SALT_BYTES), length=HASH_BYTES, iterations=PASSES, lanes=LANES, memory_cost=MEMORY_KIB
    )
    return made.derive_phc_encoded(password.encode())


def is_argon2id(password: str, hash: str) -> bool:
    """Whether `hash`, in PHC format, is that of the password; False for a malformed one.

    A hash says what it costs to verify: SQL's envelope.verify_password() looks at that first. Raises Unsupported while
    the FIPS provider is active.
    """
    fips.refuse("Argon2id", INSTEAD)
    from cryptography.exceptions import InvalidKey
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    try:
        Argon2id.verify_phc_encoded(password.encode(), hash)
    except (InvalidKey, ValueError):
        return False
    return True
