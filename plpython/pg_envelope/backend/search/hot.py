"""Makes the token of a searched value in few Python frames. Nearly every look-up is this usual case.

As in backend/hot.py, all other cases go to the careful path, which says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic

from pg_envelope.backend.epoch import Epoch
from pg_envelope.backend.session_keys import SessionKeys
from pg_envelope.tokens import TokenKey
from pg_envelope.typed import cast

# Takes the number of a search key, a value, and the normaliser's name.
Sought = Callable[[int, str, str], bytes]


def sought(
    slots: Mapping[int, bytes],
    session_keys: SessionKeys,
    epoch: Epoch,
    made: Callable[[TokenKey, str, str], bytes],
    careful: Sought,
) -> Sought:
    """Does what Tokens._sought does, for keys that the session holds, and remembers the token.

    A key that was taken away gives nothing, also of what is remembered: the epoch has moved.
    """
    # Another kind of key has no `recent`. The careful path answers for it.
    keys = cast(dict[bytes, TokenKey], session_keys.keys)

    def found(key_id: int, value: str, normalize: str) -> bytes:
        try:
            key = keys[slots[key_id]]
            if monotonic() < key.expires and key.epoch == epoch.mapped:
                token = key.recent.get((normalize, value))
                if token is None:
                    token = made(key, value, normalize)
                    key.remember(normalize, value, token)
                return token
        except Exception:  # noqa: S110 -- the careful path raises it again
            pass
        return careful(key_id, value, normalize)

    return found


def needle(found: Sought) -> Callable[[int, str, str], str]:
    """Returns the token as the text that envelope_search.token reads."""
    return lambda key_id, value, normalize: "\\x" + found(key_id, value, normalize).hex()


def compare(found: Sought) -> Callable[[bytes, int, str, str], int]:
    """Compares a stored token and a needle as a B-tree does: -1, 0 or 1."""

    def order(token: bytes, key_id: int, value: str, normalize: str) -> int:
        other = found(key_id, value, normalize)
        return (token > other) - (token < other)

    return order


def compare_needles(found: Sought) -> Callable[[str, int, str, str], int]:
    """Compares two needles by their tokens."""

    def order(left: str, key_id: int, right: str, normalize: str) -> int:
        one, other = found(key_id, left, normalize), found(key_id, right, normalize)
        return (one > other) - (one < other)

    return order
