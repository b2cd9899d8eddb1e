"""Writes the SQL of a search column that finds parts of texts: one operator, and the operator class of its GIN index.

The server's own code for arrays compares grams. The operator finds each row that LIKE and ILIKE find with the same
pattern, and some more: so it has a name of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope.backend.search.column import COMPARE, GRAMS, SearchColumn
from pg_envelope.backend.sqltext import dollar, ident
from pg_envelope.tokens import EVERY_PATTERN

BOOTSTRAP = "if 'pg_envelope' not in GD: plpy.execute('SELECT envelope_internal.bootstrap()')\nreturn "
CONTAINS = "@>"
# Nothing tells how common grams are, so the planner takes its own guess.
ESTIMATES = "RESTRICT = pg_catalog.contsel, JOIN = pg_catalog.contjoinsel"
# What GIN calls, by number: the server's function, its arguments and what it returns. {} is the type.
SUPPORT = {
    2: ("ginarrayextract", "{}, internal, internal", "internal"),
    3: ("ginqueryarrayextract", "{}, internal, int2, internal, internal, internal, internal", "internal"),
    4: ("ginarrayconsistent", "internal, int2, {}, int4, internal, internal, internal, internal", "bool"),
    6: ("ginarraytriconsistent", "internal, int2, {}, int4, internal, internal, internal", '"char"'),
}
SAFE = "IMMUTABLE STRICT PARALLEL SAFE"


def types(search: SearchColumn) -> Iterator[str]:
    both = f"({search.type}, {search.type})"
    yield (
        f"CREATE FUNCTION {search.part('contains')}{both} RETURNS pg_catalog.bool"
        f" LANGUAGE internal {SAFE} LEAKPROOF AS 'arraycontains'"
    )
    yield (
        f"CREATE OPERATOR {COMPARE}.{CONTAINS} (LEFTARG = {search.type}, RIGHTARG = {search.type},"
        f" FUNCTION = {search.part('contains')}, {ESTIMATES})"
    )
    for function, arguments, returns in SUPPORT.values():
        signature = f"{search.part(function)}({arguments.format(search.type)})"
        yield f"CREATE FUNCTION {signature} RETURNS {returns} LANGUAGE internal {SAFE} AS '{function}'"
    support = ", ".join(
        f"FUNCTION {number} {search.part(function)}({arguments.format(search.type)})"
        for number, (function, arguments, _) in SUPPORT.items()
    )
    yield f"CREATE OPERATOR FAMILY {search.opclass} USING gin"
    yield (
        f"CREATE OPERATOR CLASS {search.opclass} DEFAULT FOR TYPE {search.type} USING gin FAMILY {search.opclass} AS"
        f" OPERATOR 2 {COMPARE}.{CONTAINS} {both}, FUNCTION 1 pg_catalog.btoidcmp(pg_catalog.oid, pg_catalog.oid),"
        f" {support}, STORAGE pg_catalog.oid"
    )


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
    contains = f"$1 OPERATOR({COMPARE}.{CONTAINS})"
    long_text = f"'{EVERY_PATTERN}'::{GRAMS}"
    body = f"{contains} {search.part('needle')}($2)::{search.type} OR {contains} {long_text}::{search.type}"
    sides = f"({search.type}, pg_catalog.text)"
    yield (
        f"CREATE FUNCTION {search.part('matches')}{sides} RETURNS pg_catalog.bool LANGUAGE sql STABLE"
        f" BEGIN ATOMIC SELECT {body}; END"
    )
    yield (
        f"CREATE OPERATOR {ident(schema)}.{CONTAINS} (LEFTARG = {search.type}, RIGHTARG = pg_catalog.text,"
        f" FUNCTION = {search.part('matches')}, {ESTIMATES})"
    )
