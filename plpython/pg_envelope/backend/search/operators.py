"""Writes the SQL of the operators = and <> between a search column and a searched value, or another search column.

PostgreSQL puts the operators' functions into the query. One comparison of tokens is left, which an index serves, and
one call that makes the token. So these functions are STABLE, pin nothing, and use each argument once.
"""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope.backend.search import matching, ranging
from pg_envelope.backend.search.column import (
    COMPARE,
    LISTED,
    SCHEMA,
    TOKEN,
    SearchColumn,
    equal_text,
    of_function,
    quoted_type,
)
from pg_envelope.backend.search.matching import BOOTSTRAP
from pg_envelope.backend.sqltext import dollar, ident, literal
from pg_envelope.normalizers import KEPT

NAMES = {"=": "equals", "<>": "differs"}
ESTIMATES = {
    "=": "RESTRICT = pg_catalog.eqsel, JOIN = pg_catalog.eqjoinsel",
    "<>": "RESTRICT = pg_catalog.neqsel, JOIN = pg_catalog.neqjoinsel",
}
TEXT = "pg_catalog.text"
INLINED = "LANGUAGE sql {} LEAKPROOF"


def create(search: SearchColumn, schema: str, key_id: int) -> list[str]:
    """`schema` is that of the protected tables, where the operators are found; `key_id` names the search key."""
    if search.is_match:
        return [*needles(search, key_id), *matching.operators(search, schema)]
    if search.is_range:
        return [*needles(search, key_id), *ranging.operators(search, schema)]
    return [
        *needles(search, key_id),
        *_with_needles(search, schema),
        *_with_columns(search, schema),
        _with_tokens(search),
    ]


def needles(search: SearchColumn, key_id: int) -> list[str]:
    """Makes the functions from a searched value to its token. They are made again when another version of the key
    becomes active.
    """
    if search.is_match:
        return [matching.needle(search, key_id)]
    if search.is_range:
        return ranging.needles(search, key_id)
    call = f"GD['pg_envelope'].search.needle({key_id}, needle, {search.normalizer!r})"
    token = (
        f"CREATE OR REPLACE FUNCTION {search.part('token')}(needle {TEXT}) RETURNS {TOKEN}"
        f" LANGUAGE plpython3u STABLE STRICT LEAKPROOF COST 10 AS {dollar(BOOTSTRAP + call)}"
    )
    texts = (_needle(search, kind) for kind in kinds(search))
    return [token, *texts, *(order for kind in listed(search) for order in _orders(search, kind, key_id))]


def kinds(search: SearchColumn) -> list[str]:
    """Returns the types that users may look for: text, and the type of the column's own values."""
    return [TEXT] if search.is_text else [TEXT, quoted_type(search.plain_type)]


def listed(search: SearchColumn) -> list[str]:
    """Returns the types for which the index serves `= ANY (array)`. The order of their needles must be known without a
    query.
    """
    return kinds(search)[-1:] if search.plain_type in LISTED and not search.normalizer.startswith(KEPT) else []


def _needle(search: SearchColumn, kind: str) -> str:
    value = "needle" if search.plain_type in ("text", "citext") else f"needle::{quoted_type(search.plain_type)}"
    body = f"{search.part('token')}({of_function(search.normalizer, equal_text(search.plain_type, value))})"
    how = INLINED.format("STABLE")
    return f"CREATE OR REPLACE FUNCTION {search.part('needle')}(needle {kind}) RETURNS {TOKEN} {how} {_parsed(body)}"


def _orders(search: SearchColumn, kind: str, key_id: int) -> Iterator[str]:
    """Yields the functions by which the index orders a token and a needle, and two needles.

    The first needle of a session asks the broker. An array of one needle is not sorted before the index's root is read,
    so the request may run under that page's shared lock. It holds up only a session that splits this page, and only for
    the broker's deadline.
    """
    normalize = repr(search.normalizer)
    calls = {
        "pg_catalog.bytea": f"compare(one, {key_id}, str(other), {normalize})",
        kind: f"compare_needles(str(one), {key_id}, str(other), {normalize})",
    }
    for one, call in calls.items():
        body = dollar(f"{BOOTSTRAP}GD['pg_envelope'].search.{call}")
        yield (
            f"CREATE OR REPLACE FUNCTION {search.part('order')}(one {one}, other {kind}) RETURNS pg_catalog.int4"
            f" LANGUAGE plpython3u IMMUTABLE STRICT AS {body}"
        )


def _with_needles(search: SearchColumn, schema: str) -> Iterator[str]:
    for kind in kinds(search):
        for operator in NAMES:
            yield from _both_ways(search, schema, operator, kind)
    for kind in listed(search):
        order = search.part("order")
        yield (
            f"ALTER OPERATOR FAMILY {search.part('ops')} USING btree ADD"
            f" OPERATOR 3 {ident(schema)}.= ({search.type}, {kind}),"
            f" FUNCTION 1 ({search.type}, {kind}) {order}(pg_catalog.bytea, {kind}),"
            f" FUNCTION 1 ({kind}, {kind}) {order}({kind}, {kind})"
        )


def _both_ways(search: SearchColumn, schema: str, operator: str, kind: str) -> Iterator[str]:
    """True unless an enum would be on the left: an enum has no operator of its own, and its literals would find this
    one.
    """
    token = f"{search.part('needle')}({{}})::{search.type}"
    if search.is_enum and kind != TEXT:
        yield from _operator(
            search, schema, operator, (search.type, kind), f"$1 {_native(operator)} {token.format('$2')}"
        )
        return
    mirror = f"COMMUTATOR = OPERATOR({ident(schema)}.{operator})"
    for sides, column, needle in (((search.type, kind), "$1", "$2"), ((kind, search.type), "$2", "$1")):
        body = f"{column} {_native(operator)} {token.format(needle)}"
        yield from _operator(search, schema, operator, sides, body, mirror)


def _with_tokens(search: SearchColumn) -> str:
    """Lets the index serve the operator by which clients look up tokens that they have made."""
    return (
        f"ALTER OPERATOR FAMILY {search.part('ops')} USING btree ADD"
        f" OPERATOR 3 {COMPARE}.= ({TOKEN}, pg_catalog.bytea),"
        f" FUNCTION 1 ({search.type}, pg_catalog.bytea) pg_catalog.byteacmp(pg_catalog.bytea, pg_catalog.bytea),"
        " FUNCTION 1 (pg_catalog.bytea, pg_catalog.bytea) pg_catalog.byteacmp(pg_catalog.bytea, pg_catalog.bytea)"
    )


def _with_columns(search: SearchColumn, schema: str) -> Iterator[str]:
    sides = (search.type, search.part("self"))
    for operator in NAMES:
        yield from _operator(search, schema, operator, sides, f"$1 {_native(operator)} $2::{search.type}")


def _parsed(expression: str) -> str:
    """The body is parsed now. Callers could not name the functions that it calls."""
    return f"BEGIN ATOMIC SELECT {expression}; END"


def _native(operator: str) -> str:
    return f"OPERATOR({COMPARE}.{operator})"


def _operator(
    search: SearchColumn, schema: str, operator: str, sides: tuple[str, str], body: str, mirror: str = ""
) -> Iterator[str]:
    name = search.part(NAMES[operator])
    how = INLINED.format("IMMUTABLE" if search.part("self") in sides else "STABLE")
    yield f"CREATE FUNCTION {name}({', '.join(sides)}) RETURNS pg_catalog.bool {how} {_parsed(body)}"
    options = ", ".join(filter(None, [ESTIMATES[operator], mirror]))
    yield (
        f"CREATE OPERATOR {ident(schema)}.{operator} (LEFTARG = {sides[0]}, RIGHTARG = {sides[1]},"
        f" FUNCTION = {name}, {options})"
    )


def drop(search: SearchColumn) -> list[str]:
    """Drops the key's type with everything that depends on it. No view may use any of it."""
    families = {"btree": search.part("ops"), "hash": search.part("hash_ops")}
    if search.has_grams:
        families["gin"] = search.opclass
    return [
        *(f"DROP OPERATOR FAMILY {name} USING {method} CASCADE" for method, name in families.items()),
        f"DROP TYPE {search.type} CASCADE",
        *(f"DROP FUNCTION {function}" for function in _left(search)),
    ]


def _left(search: SearchColumn) -> list[str]:
    """Returns the functions that do not go with the type."""
    if search.is_match:
        return [f"{search.part('needle')}({TEXT})"]
    if search.is_range:
        return ranging.dropped(search)
    return [
        *(f"{search.part('needle')}({kind})" for kind in kinds(search)),
        *(f"{search.part('order')}({one}, {kind})" for kind in listed(search) for one in ("pg_catalog.bytea", kind)),
        f"{search.part('token')}({TEXT})",
    ]


def granted(search: SearchColumn) -> str:
    """Grants EXECUTE, because default privileges may have taken it from PUBLIC. No name in the schema is found without
    that.
    """
    return (
        "SELECT pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', p.oid::pg_catalog.regprocedure)"
        " AS statement"
        f" FROM pg_catalog.pg_proc p WHERE p.pronamespace = {literal(SCHEMA)}::pg_catalog.regnamespace"
        f" AND pg_catalog.starts_with(p.proname, {literal(search.type_name + '_')})"
    )
