"""Writes PL/pgSQL text: functions, blocks, conditions, errors.

Until the text is whole, NEXT stands for each line break, so that indenting never touches a literal or a name.
"""

from __future__ import annotations

from collections.abc import Sequence

from pg_envelope.backend.sqltext import commas, dollar, ident, literal
from pg_envelope.backend.tables.generate.layout import Layout

# No text of PostgreSQL holds it.
NEXT = "\0"
NOTE = "-- Written by pg_envelope. After a change of the base table: CALL envelope.refresh(...)"
BEGINNING = f"\n#variable_conflict use_column\n{NOTE}\n"
# A plan made for one call would hold OLD and NEW as constants, and auto_explain writes constants into the log.
GENERIC = "SET plan_cache_mode = force_generic_plan"
PINNED = f"SET search_path = pg_catalog, pg_temp {GENERIC}"


def owners(
    name: str, arguments: str, returns: str, body: str, volatility: str = "VOLATILE", pinned: bool = True
) -> list[str]:
    """Writes a function with its owner's rights. If it holds foreign text it pins the search_path, which takes 1 µs a
    call.
    """
    how = f"{volatility} SECURITY DEFINER {PINNED if pinned else GENERIC}"
    return _function(f"{name}({arguments})", returns, how, body)


def callers(name: str, arguments: str, returns: str, body: str) -> list[str]:
    """Writes a function with its caller's rights and search_path."""
    return _function(f"{name}({arguments})", returns, f"SECURITY INVOKER {GENERIC}", body)


def _function(signature: str, returns: str, how: str, body: str) -> list[str]:
    return [
        f"CREATE OR REPLACE FUNCTION {signature} RETURNS {returns} LANGUAGE plpgsql {how} AS {dollar(body)}",
        f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC",
    ]


def block(statements: Sequence[str], declare: Sequence[str] = (), label: str = "") -> str:
    head = [f"<<{label}>>"] if label else []
    declared = ["DECLARE", *(f"    {line}" for line in declare)] if declare else []
    text = NEXT.join([*head, *declared, "BEGIN", indented(statements), "END"])
    return f"{BEGINNING}{text}".replace(NEXT, "\n") + "\n"


def indented(statements: Sequence[str]) -> str:
    return NEXT.join("    " + statement.replace(NEXT, f"{NEXT}    ") for statement in statements)


def when(condition: str, *then: str, otherwise: Sequence[str] = ()) -> str:
    other = ["ELSE", indented(otherwise)] if otherwise else []
    return NEXT.join([f"IF {condition} THEN", indented(then), *other, "END IF;"])


def loop(*statements: str) -> str:
    return NEXT.join(["LOOP", indented(statements), "END LOOP;"])


def fail(message: str, sqlstate: str, layout: Layout, **fields: str) -> str:
    names = {"schema": layout.schema, "table": layout.view_name, **fields}
    using = commas(f"{name.upper()} = {literal(text)}" for name, text in names.items())
    return f"RAISE EXCEPTION USING ERRCODE = '{sqlstate}', MESSAGE = {literal(message)}, {using};"


def comment(what: str, text: str) -> str:
    return f"COMMENT ON {what} IS {literal(text)}"


def trigger(name: str, when_fired: str, relation: str, level: str, function: str, condition: str = "") -> str:
    when_clause = f" WHEN ({condition})" if condition else ""
    return (
        f"CREATE OR REPLACE TRIGGER {ident(name)} {when_fired} ON {relation} FOR EACH {level}{when_clause}"
        f" EXECUTE FUNCTION {function}()"
    )
