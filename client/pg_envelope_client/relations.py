"""Which tables are protected: what the integrations of ORMs ask the database, and the answer."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

IS_THERE = "SELECT pg_catalog.to_regprocedure('envelope.relations()') IS NOT NULL"
RELATIONS = """
SELECT n.nspname, v.relname, pg_catalog.pg_table_is_visible(v.oid), b.relname, u.relname, r.search_columns::text,
    r.unique_constraints::text, ARRAY(
        SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid
        WHERE a.attrelid OPERATOR(pg_catalog.=) v.oid
            AND t.typnamespace OPERATOR(pg_catalog.=) 'envelope_search'::pg_catalog.regnamespace)::text[]
FROM envelope.relations() r
JOIN pg_catalog.pg_class v ON v.oid OPERATOR(pg_catalog.=) r.relation
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) v.relnamespace
JOIN pg_catalog.pg_class b ON b.oid OPERATOR(pg_catalog.=) r.base_table
LEFT JOIN pg_catalog.pg_class u ON u.oid OPERATOR(pg_catalog.=) r.upsert_relation"""
# CHECKs of the base table that the plain table has not.
CHECKS = ("envelope_no_drafts", "envelope_only_marks")


class Relations(NamedTuple):
    """The relations of one protected table, by name; `upsert` if allow_upsert() was called. `searches` maps search
    columns to the columns that they find. `uniques` has UNIQUE constraints for which indexes of tokens stand.
    `types` are those of the search columns. `visible` tells whether the name is found without its schema.
    """

    schema: str
    name: str
    visible: bool
    base: str
    upsert: str | None
    searches: dict[str, str]
    uniques: dict[str, dict[str, Any]]
    types: list[str]


def read(cursor: Any) -> list[Relations]:
    """Returns the protected tables of the database. One without the extension has none."""
    cursor.execute(IS_THERE)
    if not cursor.fetchone()[0]:
        return []
    cursor.execute(RELATIONS)
    return [_relations(*row) for row in cursor.fetchall()]


def _relations(
    schema: str, name: str, visible: bool, base: str, upsert: str | None, searches: str, uniques: str, types: list[str]
) -> Relations:
    return Relations(schema, name, visible, base, upsert, json.loads(searches), json.loads(uniques), types)
