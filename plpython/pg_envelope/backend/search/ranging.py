"""Writes the SQL of a search column that finds ranges of dates and numbers: its operators, and the needle's functions.

The operators find each row whose value lies in the range, and others of the same buckets.
"""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope.backend.search.column import GRAMS, RANGES, SearchColumn
from pg_envelope.backend.search.gin import ESTIMATES, OVERLAPS
from pg_envelope.backend.search.matching import BOOTSTRAP
from pg_envelope.backend.sqltext import dollar, ident

WITHIN, HOLDS = "<@", "@>"


def needles(search: SearchColumn, key_id: int) -> list[str]:
    """Makes the functions from a range to the grams of its buckets. They are made again when another version of the key
    is active.
    """
    call = f"GD['pg_envelope'].search.buckets({key_id}, needle, {search.normalizer!r}, {search.plain_type!r})"
    covered = f"{search.part('buckets')}(envelope_internal.canonical($1))"
    return [
        f"CREATE OR REPLACE FUNCTION {search.part('buckets')}(needle pg_catalog.text) RETURNS {GRAMS}"
        f" LANGUAGE plpython3u STABLE STRICT LEAKPROOF COST 10 AS {dollar(BOOTSTRAP + call)}",
        f"CREATE OR REPLACE FUNCTION {search.part('needle')}(needle {sought(search)}) RETURNS {GRAMS}"
        f" LANGUAGE sql STABLE LEAKPROOF BEGIN ATOMIC SELECT {covered}; END",
    ]


def operators(search: SearchColumn, schema: str) -> Iterator[str]:
    """Makes the operators that users write, which PostgreSQL puts into the query."""
    for sign, other, sides, column, needle in (
        (WITHIN, HOLDS, (search.type, sought(search)), "$1", "$2"),
        (HOLDS, WITHIN, (sought(search), search.type), "$2", "$1"),
    ):
        body = f"{column} {OVERLAPS.native} {search.part('needle')}({needle})::{search.type}"
        yield (
            f"CREATE FUNCTION {search.part('lies')}({', '.join(sides)}) RETURNS pg_catalog.bool LANGUAGE sql STABLE"
            f" LEAKPROOF BEGIN ATOMIC SELECT {body}; END"
        )
        yield (
            f"CREATE OPERATOR {ident(schema)}.{sign} (LEFTARG = {sides[0]}, RIGHTARG = {sides[1]},"
            f" FUNCTION = {search.part('lies')}, COMMUTATOR = OPERATOR({ident(schema)}.{other}), {ESTIMATES})"
        )


def dropped(search: SearchColumn) -> list[str]:
    """Returns the functions that do not go with the type."""
    return [f"{search.part('needle')}({sought(search)})", f"{search.part('buckets')}(pg_catalog.text)"]


def sought(search: SearchColumn) -> str:
    """Returns the type of the ranges that users look for."""
    return f"pg_catalog.{RANGES[search.plain_type]}"
