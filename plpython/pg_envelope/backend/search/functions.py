"""Takes a function of a user's as a normaliser: an expression of a few harmless functions of PostgreSQL's own.

Whoever searches evaluates it, whatever that role may do, and PostgreSQL writes some errors with the value in them. So
it calls no code that anybody can change, and none that acts or fails. A copy of it is kept, which nobody else can
replace: the tokens stay those of the function as it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pg_envelope import errors
from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.search.column import COMPARE
from pg_envelope.backend.search.normalize import OF_FUNCTION
from pg_envelope.backend.sqltext import ident, literal, qualified
from pg_envelope.normalizers import KEPT
from pg_envelope.records import replace

FUNCTION = """
SELECT p.oid::regprocedure::text AS signature, pg_get_function_sqlbody(p.oid) AS body, p.prosqlbody::text AS tree,
    p.proargnames[1] AS argument,
    p.provolatile = 'i' AND p.prokind = 'f' AND NOT p.proretset AND p.prorettype = 'text'::regtype
        AND p.proargtypes[0] = 'text'::regtype AS fits
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname || '.' || p.proname = $1 AND p.pronargs = 1 ORDER BY p.proargtypes[0] = 'text'::regtype DESC LIMIT 1"""
CALLED = """
SELECT p.oid, CASE WHEN p.pronamespace = 'pg_catalog'::regnamespace THEN p.proname::text ELSE p.oid::regproc::text END
    AS name
FROM pg_catalog.pg_proc p WHERE p.oid = ANY ($1)"""
FROZEN = """
SELECT 1 AS one FROM pg_catalog.pg_proc p WHERE p.pronamespace = $1::regnamespace AND p.proname = $2"""
RECORD = "INSERT INTO envelope_private.search_function VALUES ($1, $2) ON CONFLICT (normalizer) DO NOTHING"
UNUSED = """
DELETE FROM envelope_private.search_function f
WHERE NOT EXISTS (SELECT FROM envelope_private.search_key k WHERE k.normalizer = f.normalizer) RETURNING normalizer"""
EVERY = """
SELECT f.normalizer, f.function, min(t.view::regclass::text) AS relation
FROM envelope_private.search_function f JOIN envelope_private.search_key k USING (normalizer)
JOIN envelope_private.search s USING (search_uuid) JOIN envelope_private.protected_column c USING (field_uuid)
JOIN envelope_private.protected_table t USING (key_uuid) GROUP BY 1, 2 ORDER BY 1"""
# They give the same for the same text, whoever calls them, and none of their errors shows a value.
HARMLESS = frozenset(
    "lower upper initcap translate replace regexp_replace btrim ltrim rtrim left right reverse textcat"  # noqa: SIM905
    " split_part normalize text texteq textne textlike textnlike texticlike textregexeq starts_with strpos"
    " length char_length"
    " int4eq int4ne int4lt int4le int4gt int4ge".split()
)
NODES = frozenset(
    "QUERY FROMEXPR TARGETENTRY FUNCEXPR OPEXPR CONST PARAM CASEEXPR CASEWHEN COALESCEEXPR COALESCE BOOLEXPR"  # noqa: SIM905
    " NULLTEST RELABELTYPE COLLATEEXPR".split()
)
# bool, int4 and text, by their numbers.
PLAIN_CONSTANTS = frozenset(("16", "23", "25"))
CONSTANT = re.compile(r":consttype (\d+)")
NODE, CALL = re.compile(r"\{(\w+)"), re.compile(r":(?:opfuncid|funcid) (\d+)")
HINT = (
    "For example: CREATE FUNCTION plate(value text) RETURNS text IMMUTABLE RETURN translate(upper(value), ' -', '');"
    " docs/search.md lists what it may call."
)


def settle(host: Host, normalizer: str) -> str:
    """Returns a normaliser by name and version. For the name of a function it keeps a copy. Raises BadInput."""
    if not normalizer.startswith(OF_FUNCTION):
        _check_kept(host, normalizer)
        return normalizer
    found = _found(host, normalizer.removeprefix(OF_FUNCTION))
    versioned = _versioned(found)
    _freeze(host, found, versioned)
    host.rows(RECORD, ["text", "text"], [versioned, found["signature"]])
    return versioned


def settle_all(host: Host, wanted: Mapping[str, FieldOptions]) -> dict[str, FieldOptions]:
    """Returns the options with such normalisers. Raises BadInput."""
    return {
        name: replace(options, search=tuple(replace(s, normalize=settle(host, s.normalize)) for s in options.search))
        for name, options in wanted.items()
    }


def _check_kept(host: Host, normalizer: str) -> None:
    name = normalizer.split("/")[0]
    if normalizer.startswith(KEPT) and not host.row(FROZEN, ["text", "name"], [COMPARE, name]):
        raise errors.BadInput("no such function is kept", hint=HINT)


def _found(host: Host, name: str) -> Row:
    found = host.row(FUNCTION, ["text"], [name])
    if found is None:
        raise errors.BadInput("there is no such function of one argument", hint=HINT)
    reason = _unfit(host, found)
    if reason:
        raise errors.BadInput(f"function {found['signature']} cannot be a normaliser: {reason}", hint=HINT)
    return found


def _unfit(host: Host, found: Row) -> str | None:
    if not found["fits"]:
        return "it must be IMMUTABLE, and make a text of a text"
    if found["body"] is None or not found["argument"]:
        return "it must be an SQL function with a named argument and RETURN, whose names PostgreSQL has resolved"
    tree = found["tree"]
    if set(NODE.findall(tree)) - NODES or tree.count("{QUERY ") != 1:
        return "it must be one expression without a query or a cast"
    # The literal of another type could run a user's code when the copy is made.
    if set(CONSTANT.findall(tree)) - PLAIN_CONSTANTS:
        return "its literals must be texts, whole numbers, true and false"
    if tree.count("{PARAM ") != 1:
        return "it must use its argument once"
    if ":constisnull true" in tree:
        return "it must not make NULL of a text: a CASE needs ELSE"
    strange = sorted(name for name in _called(host, tree) if name not in HARMLESS)
    return f"it calls {', '.join(strange)}" if strange else None


def _called(host: Host, tree: str) -> list[str]:
    """Returns the functions that an expression calls: those of pg_catalog without a schema."""
    oids = set(CALL.findall(tree))
    found = {str(row["oid"]): row["name"] for row in host.rows(CALLED, ["oid[]"], [[int(oid) for oid in oids]])}
    return [found.get(oid, "what is not known") for oid in oids]


def _versioned(found: Row) -> str:
    """Returns name and version: another body is another normaliser."""
    from hashlib import sha256  # 2 ms, which every first call of an administrator would pay

    return f"{KEPT}{sha256(found['body'].encode()).hexdigest()[:16]}/1"


def _freeze(host: Host, found: Row, versioned: str) -> None:
    name = versioned.split("/")[0]
    if host.row(FROZEN, ["text", "name"], [COMPARE, name]):
        return
    signature = f"{qualified(COMPARE, name)}({ident(found['argument'])} pg_catalog.text)"
    host.run(f"CREATE FUNCTION {signature} RETURNS pg_catalog.text LANGUAGE sql IMMUTABLE {found['body']}")
    host.run(f"GRANT EXECUTE ON FUNCTION {signature} TO PUBLIC")
    comment = literal(f"pg_envelope: the normaliser that {found['signature']} was")
    host.run(f"COMMENT ON FUNCTION {signature} IS {comment}")


def drop_unused(host: Host) -> None:
    """Drops the copies that no search key uses any more."""
    for row in host.rows(UNUSED):
        name = row["normalizer"].split("/")[0]
        host.run(f"DROP FUNCTION IF EXISTS {qualified(COMPARE, name)}(pg_catalog.text)")


def changed(host: Host) -> list[Row]:
    """Returns rows of relation and function, for functions that are gone or have another body than their copies."""
    return [row for row in host.rows(EVERY) if _now(host, row["function"]) != row["normalizer"]]


def _now(host: Host, signature: str) -> str | None:
    found = host.row("SELECT pg_get_function_sqlbody(to_regprocedure($1)) AS body", ["text"], [signature])
    return None if found is None or found["body"] is None else _versioned(found)
