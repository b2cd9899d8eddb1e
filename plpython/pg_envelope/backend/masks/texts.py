"""Masks of texts. Each hides the whole value where it cannot tell the parts that it may show."""

from __future__ import annotations

import re
from collections.abc import Callable

from pg_envelope.hmacs import hmac_of
from pg_envelope.typed import Any

# Takes a value's canonical text and its row key.
Mask = Callable[[str, str], str | None]
# The only mask of a bytea is NULL.
AnyMask = Callable[[Any, str], Any]
HIDDEN = "***"
HASH_DIGITS = 32
LAST = 4
# A local part of an e-mail address with fewer characters shows none of them.
LOCAL_PART = 4
PHONE_DIGITS = 8
PAN_DIGITS = range(12, 20)
# With fewer digits, the first six would show too much of the card number.
FIRST_SIX_DIGITS = range(15, 20)
IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", re.ASCII)
GAPS = re.compile("[ -]")
NO_DIGITS = re.compile("[^0-9]")
CARD = re.compile("[0-9]+")


def nothing(_value: str, _row_key: str) -> None:
    """Shows NULL."""


def constant(text: str) -> Mask:
    return lambda _value, _row_key: text


def keyed_hash(secret: bytes) -> Mask:
    """Shows the same digits for equal values."""
    made = hmac_of(secret, b"hash\0")
    return lambda value, _: made(value.encode()).hex()[:HASH_DIGITS]


def partial(first: int, last: int) -> Mask:
    """Shows the ends of a value that has at least as many characters between them."""

    def mask(value: str, _: str) -> str:
        if len(value) < 2 * (first + last):
            return HIDDEN
        return value[:first] + HIDDEN + value[len(value) - last :]

    return mask


def email(value: str, _: str) -> str:
    local, at, domain = value.rpartition("@")
    return (local[:1] if len(local) >= LOCAL_PART else "") + HIDDEN + at + domain if at else HIDDEN


def phone(value: str, _: str) -> str:
    digits = NO_DIGITS.sub("", value)
    return HIDDEN + (digits[-LAST:] if len(digits) >= PHONE_DIGITS else "")


def pan(value: str, _: str) -> str:
    digits = GAPS.sub("", value)
    if not CARD.fullmatch(digits) or len(digits) not in PAN_DIGITS:
        return HIDDEN
    return (digits[:6] if len(digits) in FIRST_SIX_DIGITS else "") + HIDDEN + digits[-LAST:]


def iban(value: str, _: str) -> str:
    compact = GAPS.sub("", value).upper()
    return compact[:4] + HIDDEN + compact[-LAST:] if IBAN.fullmatch(compact) else HIDDEN
