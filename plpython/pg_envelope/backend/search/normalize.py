"""Holds the normalisers. A normaliser's version is part of each token, so no version ever changes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from pg_envelope import errors

Normalize = Callable[[str], str]

NOT_DIGITS = re.compile(r"\D")
LAST = re.compile(r"last(\d{1,2})/1")
HINT = "Normalisers: exact, trim, casefold, email, digits, unaccent, and last4 (or another number)."


def _exact(value: str) -> str:
    return value


def _trim(value: str) -> str:
    return value.strip()


def _casefold(value: str) -> str:
    """Unicode's NFKC_Casefold: a match of texts that look alike, without regard to case."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", value).casefold())
    return unicodedata.normalize("NFKC", folded.casefold())


def _email(value: str) -> str:
    """No mail system of today tells upper from lower case. Dots and +tags stay, because only the host knows whose they
    are.
    """
    return _casefold(value).strip()


def _digits(value: str) -> str:
    """The digits of any script, as ASCII."""
    return "".join(str(unicodedata.decimal(digit)) for digit in NOT_DIGITS.sub("", value))


def _unaccent(value: str) -> str:
    marked = unicodedata.normalize("NFD", _casefold(value))
    return unicodedata.normalize("NFC", "".join(one for one in marked if not unicodedata.combining(one)))


KNOWN: dict[str, Normalize] = {
    "exact/1": _exact,
    "trim/1": _trim,
    "casefold/1": _casefold,
    "email/1": _email,
    "digits/1": _digits,
    "unaccent/1": _unaccent,
}


def _last(count: int) -> Normalize:
    def last(value: str) -> str:
        return _digits(value)[-count:]

    return last


def newest(name: str) -> str:
    """Returns name and version, for a name that a user wrote. Raises BadInput."""
    versioned = f"{name}/1"
    try:
        normalizer(versioned)
    except errors.Internal:
        raise errors.BadInput("there is no such normaliser", hint=HINT) from None
    return versioned


def normalizer(versioned: str) -> Normalize:
    """Returns a normaliser by name and version.

    Raises Internal for one that this version of the package does not have.
    """
    found = KNOWN.get(versioned)
    if found is not None:
        return found
    last = LAST.fullmatch(versioned)
    if last is None or int(last[1]) == 0:
        raise errors.Internal
    return _last(int(last[1]))
