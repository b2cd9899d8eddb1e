"""Reading and writing a text, the usual case, in one Python frame: what nearly every call of the product is.

Whatever is not usual (no key yet or no more, padding, NULL, a NUL byte, a bad envelope, a bug) goes to the careful
path, which starts anew and says what is wrong; so this one decides nothing, and knows no error.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import cast

from pg_envelope.backend.authority import Kind, Right
from pg_envelope.backend.epoch import Epoch
from pg_envelope.backend.session_keys import CAPABILITY_BYTES, SessionKeys
from pg_envelope.envelope import FieldKey

Decrypt = Callable[..., str | None]
Encrypt = Callable[..., bytes | None]


def decrypt_text(session_keys: SessionKeys, epoch: Epoch, careful: Decrypt) -> Decrypt:
    """Values.decrypt for text, for keys that the session holds; `careful` for everything else. Saves 0.4 µs of 2.4."""
    # An Erased has none of these members: the careful path answers for it.
    keys = cast(dict[bytes, FieldKey], session_keys.keys)

    def decrypt(value: bytes, capability: bytes, row_key: str) -> str | None:
        try:
            key = keys[capability + value[:6]]
            if monotonic() < key.expires and key.epoch == epoch.mapped and len(capability) == CAPABILITY_BYTES:
                end = key.nonce_end
                content = key.decrypt(value[6:end], value[end:], key.aad + row_key.encode())
                if not key.padded and 0 not in content:
                    return content.decode()
        except Exception:  # noqa: S110 -- the careful path raises it again
            pass
        return careful(value, capability, row_key)

    return decrypt


def decrypt_text_as_role(right: Callable[[Kind, str], Right], decrypt: Decrypt, careful: Decrypt) -> Decrypt:
    """Values.decrypt_as_role for text: `decrypt` with what the current role's right gives."""

    def decrypt_as_role(value: bytes, field_uuid: str, row_key: str) -> str | None:
        try:
            capability = right("read", field_uuid).capability
        except Exception:
            return careful(value, field_uuid, row_key)
        return decrypt(value, capability, row_key)

    return decrypt_as_role


def encrypt_text(session_keys: SessionKeys, epoch: Epoch, careful: Encrypt) -> Encrypt:
    """Values.encrypt for text, for the keys that the session holds; `careful` for everything else."""
    keys = cast(dict[bytes, FieldKey], session_keys.keys)

    def encrypt(value: str, seal: bytes, row_key: str, scope: str | None = None) -> bytes | None:
        try:
            key = keys[seal]
            # With none left, a reservation comes first, which can fail: not a case for here.
            if monotonic() < key.expires and key.epoch == epoch.mapped and key.left:
                return key.seal(value.encode(), row_key.encode())
        except Exception:  # noqa: S110 -- the careful path raises it again
            pass
        return careful(value, seal, row_key, scope)

    return encrypt
