"""Writes the SQL of a search key's type, which is opaque and compared by the server's own code for bytea.

The type has no literal, so an untyped IN list is refused and not compared as something else. Its output is empty, so
nobody sees a token. Only search columns have the type, so a role that may not read one cannot compare either.
"""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope.backend.search import gin
from pg_envelope.backend.search.column import COMPARE, SearchColumn
from pg_envelope.backend.sqltext import literal

# The server's function, its commutator, and the estimate of how many rows it finds.
#
# Each statement searches the name of an internal function in the server's list, from its beginning. texteq stands at
# the beginning, and byteaeq far behind it: that made 9 of the 20 µs of a look-up. Under the collation of the database,
# texteq compares bytes. Only an explicit COLLATE could name another.
COMPARISONS = {
    "<": ("bytealt", ">", "scalarltsel", "scalarltjoinsel"),
    "<=": ("byteale", ">=", "scalarlesel", "scalarlejoinsel"),
    "=": ("texteq", "=", "eqsel", "eqjoinsel"),
    ">=": ("byteage", "<=", "scalargesel", "scalargejoinsel"),
    ">": ("byteagt", "<", "scalargtsel", "scalargtjoinsel"),
    "<>": ("byteane", "<>", "neqsel", "neqjoinsel"),
}
IN_ORDER = ("<", "<=", "=", ">=", ">")
SAFE = "IMMUTABLE STRICT PARALLEL SAFE"


def create(search: SearchColumn) -> list[str]:
    contained = gin.types(search) if search.has_grams else ()
    return [*_type(search), *_comparisons(search), *_classes(search), *contained]


def comment(search: SearchColumn, label: str) -> str:
    """Returns the type's comment, which tells a person the type's purpose."""
    return f"COMMENT ON TYPE {search.type} IS {literal(f'pg_envelope: search tokens of {label}')}"


def _type(search: SearchColumn) -> Iterator[str]:
    name = search.type
    yield f"CREATE TYPE {name}"
    # The input function refuses every text, and does not repeat it.
    yield _internal(f"{search.part('in')}(pg_catalog.cstring)", name, SAFE, "shell_in")
    # A binary COPY asks for the function, also for columns that it leaves out.
    yield _internal(f"{search.part('recv')}(pg_catalog.internal)", name, SAFE, "pg_node_tree_recv")
    yield _internal(f"{search.part('out')}({name})", "pg_catalog.cstring", SAFE, "void_out")
    yield _internal(f"{search.part('send')}({name})", "pg_catalog.bytea", SAFE, "void_send")
    functions = ", ".join(
        f"{role} = {search.part(part)}"
        for role, part in {"INPUT": "in", "OUTPUT": "out", "RECEIVE": "recv", "SEND": "send"}.items()
    )
    layout = "INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = plain"
    # Without a collation, texteq refuses to compare.
    yield f"CREATE TYPE {name} ({functions}, {layout}, COLLATABLE = true)"
    yield f"CREATE CAST ({search.stored} AS {name}) WITHOUT FUNCTION AS IMPLICIT"
    # With the type itself on both sides, PostgreSQL would take a literal of unknown type for a value of this type.
    yield f"CREATE DOMAIN {search.part('self')} AS {name}"


def _internal(signature: str, returns: str, how: str, function: str) -> str:
    return f"CREATE FUNCTION {signature} RETURNS {returns} LANGUAGE internal {how} AS '{function}'"


def _comparisons(search: SearchColumn) -> Iterator[str]:
    both = f"({search.type}, {search.type})"
    for operator, (function, commutator, restrict, join) in COMPARISONS.items():
        name = search.part(function)
        yield _internal(f"{name}{both}", "pg_catalog.bool", f"{SAFE} LEAKPROOF", function)
        more = f", HASHES, MERGES, NEGATOR = OPERATOR({COMPARE}.<>)" if operator == "=" else ""
        yield (
            f"CREATE OPERATOR {COMPARE}.{operator} (LEFTARG = {search.type}, RIGHTARG = {search.type},"
            f" FUNCTION = {name}, COMMUTATOR = OPERATOR({COMPARE}.{commutator}),"
            f" RESTRICT = pg_catalog.{restrict}, JOIN = pg_catalog.{join}{more})"
        )
    yield _internal(f"{search.part('cmp')}{both}", "pg_catalog.int4", f"{SAFE} LEAKPROOF", "byteacmp")
    yield _internal(f"{search.part('hash')}({search.type})", "pg_catalog.int4", f"{SAFE} LEAKPROOF", "hashvarlena")


def _classes(search: SearchColumn) -> Iterator[str]:
    family, kind = search.part("ops"), search.type
    compared = ", ".join(f"OPERATOR {number} {COMPARE}.{operator}" for number, operator in enumerate(IN_ORDER, 1))
    yield f"CREATE OPERATOR FAMILY {family} USING btree"
    yield (
        f"CREATE OPERATOR CLASS {family} DEFAULT FOR TYPE {kind} USING btree FAMILY {family} AS {compared},"
        f" FUNCTION 1 {search.part('cmp')}({kind}, {kind})"
    )
    yield (
        f"CREATE OPERATOR CLASS {search.part('hash_ops')} DEFAULT FOR TYPE {kind} USING hash AS"
        f" OPERATOR 1 {COMPARE}.=, FUNCTION 1 {search.part('hash')}({kind})"
    )
