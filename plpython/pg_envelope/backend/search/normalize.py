"""Chooses the normaliser that a user named, and refuses one that is not for the column."""

from __future__ import annotations

from pg_envelope import buckets, errors, leaf_paths, phone
from pg_envelope.backend.search.column import RANGES, TEXTS, plain_type
from pg_envelope.backend.tables.inspect import Column
from pg_envelope.normalizers import EXACT, MATCH, MONTH, PHONE, YEAR, kind_of, normalizer

# For dates alone: each takes the values of a span of time for equal.
SPANS = (YEAR, MONTH)
# Types whose canonical text begins with a year.
WITH_YEAR = frozenset(("date", "timestamp", "timestamptz"))
# A user's function, by its name as the user writes it.
OF_FUNCTION = "function "
HINT = (
    "Normalisers: exact, trim, casefold, email, digits, unaccent, last4 (or another number), phone-DE (or another"
    " country), prefix4 (or another number), and year and month for dates; for a range search range-month (or"
    " day, year, or a number); or a function: public.plate."
)


def newest(name: str) -> str:
    """Returns name and version, for a name that a user wrote. Raises BadInput.

    The name of a function has no version yet: functions.settle() finds it.
    """
    versioned = f"{name}/1"
    if leaf_paths.of_name(versioned):
        return leaf_paths.name_of(name.removeprefix("contains-").split(","))
    if "." in name and not buckets.named(versioned):
        return OF_FUNCTION + name
    try:
        normalizer(versioned)
    except errors.Internal:
        raise errors.BadInput("there is no such normaliser", hint=HINT) from None
    if telephone := PHONE.fullmatch(versioned):
        phone.check(telephone[1])
    return versioned


def unfit(column: Column, versioned: str) -> str | None:
    """Returns the reason why a normaliser is not for a column's type. Exact is for each type but jsonb."""
    kind = plain_type(column)
    is_date, is_text = kind in WITH_YEAR, kind in (*TEXTS, "citext", None)
    is_contains = kind_of(versioned) == "contains"
    if (kind == "jsonb") != is_contains:
        return f"column {column.name}: a jsonb has a contains search, and no other column has one"
    if is_contains:
        return None
    if versioned == MATCH and kind == "bpchar":
        return f"column {column.name}: a char(n) ends with blanks, which patterns count and its values do not show"
    if kind_of(versioned) == "range":
        return _without_ranges(column, kind, versioned)
    if versioned == EXACT or (is_date if versioned in SPANS else is_text):
        return None
    whose = "dates and timestamps" if versioned in SPANS else "texts"
    return f"column {column.name}: normaliser {versioned.split('/')[0]} is for {whose}"


def _without_ranges(column: Column, kind: str | None, versioned: str) -> str | None:
    if kind not in RANGES:
        more = ". Make it a double precision" if kind == "float4" else ""
        return f"column {column.name}: a range search is for dates, timestamps, integers, numeric and float8{more}"
    if buckets.is_of_dates(versioned) != (kind in WITH_YEAR):
        wanted = "day, month or year" if kind in WITH_YEAR else "a number, such as 1000"
        return f"column {column.name}: the bucket of its ranges must be {wanted}"
    return None
