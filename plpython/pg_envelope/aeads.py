"""Imports the AEADs of `cryptography` by the shortest way.

The public module of `cryptography` imports all other ciphers, too. This module asks OpenSSL's binding directly, which
saves an eighth of the imports of a new connection's first read. The classes are the same.
"""

from __future__ import annotations

import sys

from pg_envelope import typed

try:
    from cryptography.hazmat.bindings._rust import openssl

    AESGCM = openssl.aead.AESGCM
    AESGCMSIV = openssl.aead.AESGCMSIV
    AESSIV = openssl.aead.AESSIV
    ChaCha20Poly1305 = openssl.aead.ChaCha20Poly1305
except (ImportError, AttributeError):
    # The binding's name is not public. Another release of `cryptography` may have it elsewhere.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV, AESSIV, ChaCha20Poly1305


def _invalid_tag() -> type[Exception]:
    """Imports the errors of `cryptography` before there is one.

    The binding imports them as it raises its first error, and where it cannot, it aborts the process, and PostgreSQL
    with it. It cannot without a free file handle, or after upgrades that removed the files. The module of the errors
    asks `typing` for one constant, which the stand-in has, too.
    """
    borrows = "typing" not in sys.modules
    if borrows:
        sys.modules["typing"] = typed
    try:
        from cryptography.exceptions import InvalidTag
    finally:
        if borrows:
            del sys.modules["typing"]
    return InvalidTag


try:
    InvalidTag = _invalid_tag()
except AttributeError:
    # Another release of `cryptography` may need more of `typing`.
    from cryptography.exceptions import InvalidTag

__all__ = ["AESGCM", "AESGCMSIV", "AESSIV", "ChaCha20Poly1305", "InvalidTag"]
