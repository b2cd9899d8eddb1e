"""Writes the SQL of a search column that finds parts of texts or jsonb: one operator, and the function that makes its
needle.

The operator finds each row that LIKE and ILIKE find with the same pattern, or @> of jsonb, and some more.
"""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope.backend.search.column import GRAMS, SearchColumn, equal_text
from pg_envelope.backend.search.gin import CONTAINS, ESTIMATES
from pg_envelope.backend.sqltext import dollar, ident
from pg_envelope.tokens import EVERY_PATTERN

BOOTSTRAP = "if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')\nreturn "


def needle(search: SearchColumn, key_id: int) -> str:
    """Makes the function from a pattern to its grams. It is made again when another version of the key is active.

    It refuses short patterns, so it is not LEAKPROOF: a pattern may come from a row that a policy hides.
    """
    call = f"GD['pg_envelope'].search.pattern({key_id}, needle, {search.normalizer!r})"
    return (
        f"CREATE OR REPLACE FUNCTION {search.part('needle')}(needle pg_catalog.text) RETURNS {GRAMS}"
        f" LANGUAGE plpython3u STABLE STRICT COST 10 AS {dollar(BOOTSTRAP + call)}"
    )


def operators(search: SearchColumn, schema: str) -> Iterator[str]:
    """Makes the operator that users write, which PostgreSQL puts into the query. So it uses the pattern once."""
    contains = f"$1 {CONTAINS.native}"
    long_text = f"'{EVERY_PATTERN}'::{GRAMS}"
    kind = "jsonb" if search.plain_type == "jsonb" else "text"
    made = f"{search.part('needle')}({equal_text(kind, '$2')})"
    body = f"{contains} {made}::{search.type} OR {contains} {long_text}::{search.type}"
    sides = f"({search.type}, pg_catalog.{kind})"
    yield (
        f"CREATE FUNCTION {search.part('matches')}{sides} RETURNS pg_catalog.bool LANGUAGE sql STABLE"
        f" BEGIN ATOMIC SELECT {body}; END"
    )
    yield (
        f"CREATE OPERATOR {ident(schema)}.{CONTAINS.sign} (LEFTARG = {search.type}, RIGHTARG = pg_catalog.{kind},"
        f" FUNCTION = {search.part('matches')}, {ESTIMATES})"
    )
