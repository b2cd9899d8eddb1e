"""Checks a signed statement: FORMAT.md section 5. Needs no broker and no database."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pg_envelope import errors
from pg_envelope.typed import Any


def verify(held: Any, trusted: Collection[str]) -> dict[str, Any]:
    """Returns the signed statement. `held` has `statement`, `signature`, `public_key`.

    Raises InvalidEnvelope, whatever is wrong.
    """
    try:
        if held["public_key"] not in trusted:
            raise errors.InvalidEnvelope
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(held["public_key"], validate=True))
        key.verify(base64.b64decode(held["signature"], validate=True), held["statement"].encode())
        found: dict[str, Any] = json.loads(held["statement"])
    except (LookupError, TypeError, ValueError, AttributeError, InvalidSignature):
        raise errors.InvalidEnvelope from None
    return found
