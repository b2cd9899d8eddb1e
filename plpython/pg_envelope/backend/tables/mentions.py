"""Finds functions that name a table in their bodies. PostgreSQL keeps no record of that, so nothing carries them over.

They go on with the view under the table's name. What a view does in another way is told.
"""

from __future__ import annotations

from collections.abc import Iterator

from pg_envelope.backend.host import Host
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables.bodies import tokens
from pg_envelope.backend.tables.generate import COMMENTED, Layout, upsert_name

# The functions of the package itself are commented. Bodies that PostgreSQL has parsed are its dependents.
BODIES = """
SELECT p.oid::regprocedure::text AS what, p.prosrc AS body FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE l.lanname IN ('plpgsql', 'sql') AND p.prosqlbody IS NULL AND p.oid >= 16384
    AND strpos(lower(p.prosrc), lower($1)) > 0 AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
    AND NOT starts_with(coalesce(obj_description(p.oid, 'pg_proc'), ''), $2)
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1"""
# Words that follow one another, and what becomes of them.
DIFFERENT: dict[tuple[str, ...], str] = {
    ("on", "conflict"): "ON CONFLICT: write to {upsert}, which envelope.allow_upsert() makes",
    ("merge", "into"): "MERGE works from PostgreSQL 17 on",
    ("truncate",): "TRUNCATE: CALL envelope.truncate(...)",
    ("current", "of"): "WHERE CURRENT OF: use the primary key",
    ("tablesample",): "TABLESAMPLE works on the base table alone",
    ("ctid",): "ctid: use the primary key",
    ("execute",): "builds SQL while it runs, which cannot be read beforehand",
}
OF_ROWS: dict[tuple[str, ...], str] = {
    ("%", "rowtype"): "%ROWTYPE has the search columns, too",
    ("select", "*"): "SELECT * has the search columns, too",
}
# The notice lists so many functions at most.
SHOWN = 20


def tell(host: Host, layout: Layout) -> None:
    """Tells which functions name the table, if there are any."""
    found = list(functions(host, layout))
    if found:
        more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        host.notice(
            f"functions name {layout.view} in their bodies, and use the view from now on",
            detail="\n".join([*found[:SHOWN], *more]),
            hint='docs/protected-tables.md, "What is different from a plain table".',
        )


def functions(host: Host, layout: Layout) -> Iterator[str]:
    """Yields a line for each function."""
    for row in host.rows(BODIES, ["text", "text"], [layout.view_name, COMMENTED]):
        words = list(tokens(row["body"]))
        if layout.view_name in words or "execute" in words:
            yield ": ".join([row["what"], *filter(None, ["; ".join(_different(words, layout))])])


def _different(words: list[str], layout: Layout) -> Iterator[str]:
    wanted = {**DIFFERENT, **OF_ROWS} if layout.searches else DIFFERENT
    for phrase, told in wanted.items():
        if phrase in zip(*(words[start:] for start in range(len(phrase))), strict=False):
            yield told.format(upsert=ident(upsert_name(layout.view_name)))
