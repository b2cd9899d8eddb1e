"""Reading a text, the usual case, in one Python frame: what nearly every call of the product is.

Whatever is not usual (no key yet or no more, padding, NULL, a NUL byte, a bad envelope, a bug) goes to the careful
path, which starts anew and says what is wrong; so this one decides nothing, and knows no error.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import cast

from pg_envelope.backend.epoch import Epoch
from pg_envelope.backend.session_keys import CAPABILITY_BYTES, SessionKeys
from pg_envelope.envelope import FieldKey

Decrypt = Callable[..., str | None]


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
