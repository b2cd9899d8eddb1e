"""Writes the SQL by which GIN finds rows that have several numbers in a search column: FORMAT.md sections 8.1 and 8.2.

The server's own code for arrays compares the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope.backend.search.column import COMPARE, SearchColumn
from pg_envelope.backend.sqltext import dollar, literal
from pg_envelope.records import dataclass

# Nothing tells how common numbers are, so the planner takes its own guess.
ESTIMATES = "RESTRICT = pg_catalog.contsel, JOIN = pg_catalog.contjoinsel"
# What GIN calls, by number: the server's function, its arguments and what it returns. {} is the type.
SUPPORT = {
    2: ("ginarrayextract", "{}, internal, internal", "internal"),
    3: ("ginqueryarrayextract", "{}, internal, int2, internal, internal, internal, internal", "internal"),
    4: ("ginarrayconsistent", "internal, int2, {}, int4, internal, internal, internal, internal", "bool"),
    6: ("ginarraytriconsistent", "internal, int2, {}, int4, internal, internal, internal", '"char"'),
}
# Others than candidates are not all that others than the answer are: some candidates are no answer.
NEGATED = f"""
BEGIN
    RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE =
        {literal("pg_envelope: NOT before a search that finds candidates would miss rows")}, HINT =
        {literal("Write NOT before the condition on the column itself, without the search column.")};
END"""
SAFE = "IMMUTABLE STRICT PARALLEL SAFE"


@dataclass(frozen=True)
class Comparison:
    """An operator of arrays: its sign, its number for GIN, the server's function, and the name that it gets here."""

    sign: str
    strategy: int
    function: str
    name: str

    @property
    def native(self) -> str:
        return f"OPERATOR({COMPARE}.{self.sign})"


OVERLAPS = Comparison("&&", 1, "arrayoverlap", "overlaps")
CONTAINS = Comparison("@>", 2, "arraycontains", "contains")


def types(search: SearchColumn) -> Iterator[str]:
    found, both = compared(search), f"({search.type}, {search.type})"
    yield (
        f"CREATE FUNCTION {search.part(found.name)}{both} RETURNS pg_catalog.bool"
        f" LANGUAGE internal {SAFE} LEAKPROOF AS '{found.function}'"
    )
    yield (
        f"CREATE FUNCTION {search.part('negated')}{both} RETURNS pg_catalog.bool"
        f" LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS {dollar(NEGATED)}"
    )
    names = {found.sign: search.part(found.name), f"!{found.sign}": search.part("negated")}
    for sign, other in zip(names, reversed(names), strict=True):
        yield (
            f"CREATE OPERATOR {COMPARE}.{sign} (LEFTARG = {search.type}, RIGHTARG = {search.type},"
            f" FUNCTION = {names[sign]}, NEGATOR = OPERATOR({COMPARE}.{other}), {ESTIMATES})"
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
        f" OPERATOR {found.strategy} {COMPARE}.{found.sign} {both},"
        f" FUNCTION 1 pg_catalog.btoidcmp(pg_catalog.oid, pg_catalog.oid), {support}, STORAGE pg_catalog.oid"
    )


def compared(search: SearchColumn) -> Comparison:
    """A text has all parts of a pattern. A value has one of the buckets of a range."""
    return OVERLAPS if search.is_range else CONTAINS
