"""Refuses DDL after which a protected column would not be what its catalog says, or PostgreSQL would look at envelopes.

It looks at what a command has made, so it need not understand the command.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import literal
from pg_envelope.backend.tables import kept
from pg_envelope.backend.tables.generate import Layout
from pg_envelope.backend.tables.inspect import NO_DRAFTS, Table

# Trigger conditions, too. A trigger of some columns only looks at which columns a statement names.
COMPUTED = f"""
SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) AS what, c.relkind = 'i' OR k.contype IN ('u', 'x')
    AS is_index
FROM pg_catalog.pg_depend d
LEFT JOIN pg_catalog.pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
LEFT JOIN pg_catalog.pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
LEFT JOIN pg_catalog.pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.refobjsubid = $2 AND (
    d.classid = ANY ('{{pg_attrdef,pg_policy,pg_statistic_ext}}'::regclass[]) OR c.relkind = 'i'
    OR k.contype <> 'n' AND k.conname <> {literal(NO_DRAFTS)} OR t.tgqual::text LIKE '%:varattno ' || $2 || ' %')
ORDER BY 1"""
CIPHERTEXT = "envelope.ciphertext"
UNPROTECT = "CALL envelope.unprotect(...), change the table, and protect it again."
SEARCH = "CALL envelope.add_search(...) makes an index of a protected column: docs/search.md."


def check(
    host: Host, key: Row, base: Table, layout: Layout, retyped: Collection[str], dropped: Collection[str]
) -> None:
    """Raises Unsupported with what to do. `retyped` and `dropped` are columns of the view."""
    for reason, hint in _reasons(host, key, base, layout, retyped, dropped):
        raise errors.Unsupported(f"{layout.view} is protected: {reason}", hint=hint)
    if layout.row_key.keys() & set(retyped):
        kept.every_one_opens(host, layout, base)


def _reasons(
    host: Host, key: Row, base: Table, layout: Layout, retyped: Collection[str], dropped: Collection[str]
) -> Iterator[tuple[str, str]]:
    for name in layout.protected:
        column = base.column(name)
        if column is None or column.type != CIPHERTEXT:
            yield f"the type of column {name} cannot be changed", UNPROTECT
        elif column.default is not None:
            yield f"column {name} got a default", "Set the default in a command that does nothing else."
        else:
            yield from _computed(host, base, name, column.attnum)
    lost = [search for search in layout.searches if search in dropped]
    yield from ((f"{name} is a search column", "CALL envelope.drop_search(...)") for name in lost)
    scope = key["scope_column"]
    if scope is not None and (scope in retyped or base.column(scope) is None):
        yield f"column {scope} says whose key encrypts a row", UNPROTECT


def _computed(host: Host, base: Table, name: str, attnum: int) -> Iterator[tuple[str, str]]:
    for row in host.rows(COMPUTED, ["oid", "int4"], [base.oid, attnum]):
        yield f"{row['what']} would use the envelopes of column {name}", SEARCH if row["is_index"] else UNPROTECT
