"""Normalisers: what a token takes for equal, FORMAT.md section 8. A normaliser's version is part of each token, so no
version ever changes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from pg_envelope import buckets, errors, grams, leaf_paths, phone

Normalize = Callable[[str], str]

EXACT = "exact/1"
YEAR, MONTH = "year/1", "month/1"
# Of search columns that find parts of a text: FORMAT.md section 8.1.
MATCH = "match/1"
# Of search columns that find jsonb values by what they contain, in all of their paths: FORMAT.md section 8.3.
CONTAINS = "contains/1"
IN_PARTS = ("match", "contains")
DATE = re.compile(r"([0-9]+)(-[0-9]{2})-[0-9]{2}(?:[ T].*?)??( BC)?", re.DOTALL)
NOT_DIGITS = re.compile(r"\D")
LAST = re.compile(r"last([1-9]\d?)/1")
PREFIX = re.compile(r"prefix([1-9]\d?)/1")
PHONE = re.compile(r"phone-([A-Z]{2})/1")
# Begins the name of a normaliser that is the copy of a user's SQL function.
KEPT = "function_"
# SQL has called it already.
KEPT_FUNCTION = re.compile(rf"{KEPT}[0-9a-f]{{16}}/1")


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


def _year(value: str) -> str:
    """Returns the year of a date's canonical text. An infinite date stays as it is."""
    found = DATE.fullmatch(value)
    return value if found is None else found[1] + (found[3] or "")


def _month(value: str) -> str:
    found = DATE.fullmatch(value)
    return value if found is None else "".join(found.groups(""))


KNOWN: dict[str, Normalize] = {
    EXACT: _exact,
    "trim/1": _trim,
    "casefold/1": _casefold,
    "email/1": _email,
    "digits/1": _digits,
    "unaccent/1": _unaccent,
    YEAR: _year,
    MONTH: _month,
    MATCH: grams.folded,
    CONTAINS: _exact,
}


def _last(count: int) -> Normalize:
    def last(value: str) -> str:
        return _digits(value)[-count:]

    return last


def _prefix(count: int) -> Normalize:
    def prefix(value: str) -> str:
        return _casefold(value)[:count]

    return prefix


def _phone(region: str) -> Normalize:
    def number(value: str) -> str:
        return phone.e164(value, region)

    return number


def _bucket(scale: buckets.Scale) -> Normalize:
    def narrowest(value: str) -> str:
        return scale.of_value(value)[0]

    return narrowest


@lru_cache(maxsize=64)
def kind_of(versioned: str) -> str:
    """Returns the kind of search that a normaliser is for: exact, match, contains or range."""
    if buckets.named(versioned):
        return "range"
    if versioned == CONTAINS or leaf_paths.of_name(versioned):
        return "contains"
    return "match" if versioned == MATCH else "exact"


def is_in_parts(versioned: str) -> bool:
    """Tells whether a search finds values by parts of them, and not by equal tokens."""
    return kind_of(versioned) in IN_PARTS


def normalizer(versioned: str) -> Normalize:
    """Returns a normaliser by name and version.

    Raises Internal for one that this version of the package does not have.
    """
    is_whole = KEPT_FUNCTION.fullmatch(versioned) or leaf_paths.of_name(versioned)
    found = _exact if is_whole else KNOWN.get(versioned)
    if found is not None:
        return found
    if buckets.named(versioned):
        return _bucket(buckets.scale(versioned))
    if telephone := PHONE.fullmatch(versioned):
        return _phone(telephone[1])
    for pattern, made in ((LAST, _last), (PREFIX, _prefix)):
        if counted := pattern.fullmatch(versioned):
            return made(int(counted[1]))
    raise errors.Internal
