"""Chooses the normaliser that a user named, and refuses one that is not for the column."""

from __future__ import annotations

from pg_envelope import errors, phone
from pg_envelope.backend.search.column import TEXTS, plain_type
from pg_envelope.backend.tables.inspect import Column
from pg_envelope.normalizers import EXACT, MATCH, MONTH, PHONE, YEAR, normalizer

# For dates alone: each takes the values of a span of time for equal.
SPANS = (YEAR, MONTH)
# Types whose canonical text begins with a year.
WITH_YEAR = frozenset(("date", "timestamp", "timestamptz"))
# A user's function, by its name as the user writes it.
OF_FUNCTION = "function "
HINT = (
    "Normalisers: exact, trim, casefold, email, digits, unaccent, last4 (or another number), phone-DE (or another"
    " country), prefix4 (or another number), and year and month for dates; or a function: public.plate."
)


def newest(name: str) -> str:
    """Returns name and version, for a name that a user wrote. Raises BadInput.

    The name of a function has no version yet: functions.settle() finds it.
    """
    if "." in name:
        return OF_FUNCTION + name
    versioned = f"{name}/1"
    try:
        normalizer(versioned)
    except errors.Internal:
        raise errors.BadInput("there is no such normaliser", hint=HINT) from None
    if telephone := PHONE.fullmatch(versioned):
        phone.check(telephone[1])
    return versioned


def unfit(column: Column, versioned: str) -> str | None:
    """Returns the reason why a normaliser is not for a column's type. Every column can be searched by exact."""
    kind = plain_type(column)
    is_date, is_text = kind in WITH_YEAR, kind in (*TEXTS, "citext", None)
    if versioned == MATCH and kind == "bpchar":
        return f"column {column.name}: a char(n) ends with blanks, which patterns count and its values do not show"
    if versioned == EXACT or (is_date if versioned in SPANS else is_text):
        return None
    whose = "dates and timestamps" if versioned in SPANS else "texts"
    return f"column {column.name}: normaliser {versioned.split('/')[0]} is for {whose}"
