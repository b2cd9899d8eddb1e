"""Indexes and UNIQUE constraints of a column that is protected: they become those of its tokens, and come back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pg_envelope.backend.host import Host
from pg_envelope.backend.search.column import searchable
from pg_envelope.backend.sqltext import commas, ident
from pg_envelope.backend.tables.inspect import Table

# Of one table, what a token can stand in for: B-trees of plain columns. `class` and `collation` are NULL for defaults.
INDEXES = """
SELECT c.relname AS name, i.indisunique AS is_unique, k.conname IS NOT NULL AS is_constraint,
    coalesce(k.condeferrable, false) AS is_deferrable, coalesce(k.condeferred, false) AS is_deferred,
    coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_equal,
    pg_get_expr(i.indpred, i.indrelid) AS predicate,
    (SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'order', i.indoption[p.n - 1]::int,
            'class', CASE WHEN NOT o.opcdefault THEN format('%I.%I', n.nspname, o.opcname) END,
            'collation', CASE WHEN i.indcollation[p.n - 1] <> a.attcollation
                THEN i.indcollation[p.n - 1]::regcollation::text END) ORDER BY p.n)
     FROM generate_series(1, i.indnkeyatts) p (n)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[p.n - 1]
     JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[p.n - 1]
     JOIN pg_catalog.pg_namespace n ON n.oid = o.opcnamespace)::text AS columns,
    (SELECT coalesce(jsonb_agg(a.attname ORDER BY p.n), '[]')
     FROM generate_series(i.indnkeyatts + 1, i.indnatts) p (n)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[p.n - 1])::text AS included
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_am m ON m.oid = c.relam
LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype = 'u'
WHERE i.indrelid = $1 AND m.amname = 'btree' AND NOT i.indisprimary AND NOT i.indisexclusion AND i.indisvalid
    AND i.indexprs IS NULL
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint f WHERE f.conindid = i.indexrelid AND f.contype = 'f')
    -- A condition on the protected column cannot be told from a token.
    AND NOT EXISTS (
        SELECT FROM unnest($2::name[]) w (name) JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attname = w.name
        WHERE pg_get_expr(i.indpred, i.indrelid) IS NOT NULL
            AND EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_class'::regclass
                AND d.objid = i.indexrelid AND d.refobjid = $1 AND d.refobjsubid = a.attnum)
            AND NOT a.attnum = ANY (i.indkey))
ORDER BY c.relname"""
RECORD = "INSERT INTO envelope_private.carried VALUES ($1, $2, $3::jsonb)"
RECORDED = "SELECT definition::text FROM envelope_private.carried WHERE key_uuid = $1 ORDER BY name"
FORGET_ONE = "DELETE FROM envelope_private.carried WHERE key_uuid = $1 AND name = $2"
DESCENDING, NULLS_FIRST = 1, 2


@dataclass(frozen=True)
class Part:
    """A column of an index. `order` has PostgreSQL's bits: 1 descending, 2 NULLs first."""

    name: str
    order: int = 0
    opclass: str | None = None
    collation: str | None = None

    def sql(self) -> str:
        words = [ident(self.name), f"COLLATE {self.collation}" if self.collation else "", self.opclass or ""]
        words.append("DESC" if self.order & DESCENDING else "")
        words.append("NULLS FIRST" if self.order & NULLS_FIRST else "NULLS LAST")
        return " ".join(filter(None, words))


@dataclass(frozen=True)
class Index:
    """A B-tree of plain columns, or the UNIQUE constraint that it is for."""

    name: str
    parts: tuple[Part, ...]
    included: tuple[str, ...] = ()
    is_unique: bool = False
    is_constraint: bool = False
    is_deferrable: bool = False
    is_deferred: bool = False
    nulls_equal: bool = False
    predicate: str | None = None

    def names(self) -> set[str]:
        return {part.name for part in self.parts}

    def of_tokens(self, tokens: Mapping[str, tuple[str, str]]) -> Index:
        """The same with search columns in the place of protected ones; `tokens` has names and operator classes."""
        parts = (Part(*tokens[p.name][:1], 0, tokens[p.name][1]) if p.name in tokens else p for p in self.parts)
        return replace(self, parts=tuple(parts))

    def create(self, table: str) -> str:
        """As an index: no constraint takes an operator class of its own, and none is missed, for errors are alike."""
        unique = "UNIQUE " if self.is_unique else ""
        columns = commas(part.sql() for part in self.parts)
        return f"CREATE {unique}INDEX {ident(self.name)} ON {table} ({columns}){self._tail()}" + self._where()

    def restore(self, table: str) -> str:
        if not self.is_constraint:
            return self.create(table)
        nulls = " NULLS NOT DISTINCT" if self.nulls_equal else ""
        include = f" INCLUDE ({commas(map(ident, self.included))})" if self.included else ""
        deferred = " DEFERRABLE" if self.is_deferrable else ""
        deferred += " INITIALLY DEFERRED" if self.is_deferred else ""
        columns = commas(ident(part.name) for part in self.parts)
        unique = f"UNIQUE{nulls} ({columns}){include}{deferred}"
        return f"ALTER TABLE {table} ADD CONSTRAINT {ident(self.name)} {unique}"

    def drop(self, schema: str, table: str) -> str:
        if self.is_constraint:
            return f"ALTER TABLE {table} DROP CONSTRAINT {ident(self.name)}"
        return f"DROP INDEX {ident(schema)}.{ident(self.name)}"

    def _tail(self) -> str:
        include = f" INCLUDE ({commas(map(ident, self.included))})" if self.included else ""
        return include + (" NULLS NOT DISTINCT" if self.nulls_equal else "")

    def _where(self) -> str:
        return f" WHERE {self.predicate}" if self.predicate else ""


def find(host: Host, table: Table, wanted: Iterable[str]) -> list[Index]:
    """Those on columns that are to be protected, which tokens can stand in for."""
    names = set(wanted)
    fit = {column.name for column in table.columns if searchable(host, column)}
    found = [_index(row) for row in host.rows(INDEXES, ["oid", "text[]"], [table.oid, list(names)])]
    return [one for one in found if (used := one.names() & names) and used <= fit and _fits(one, names)]


def _fits(index: Index, names: set[str]) -> bool:
    """Deferred, a duplicate would be told later than an index tells it. No value can be had from an index of tokens."""
    protected = (part for part in index.parts if part.name in names)
    plain = all(part.opclass is None and part.collation is None for part in protected)
    return plain and not index.is_deferrable and not names & set(index.included)


def _index(row: dict[str, Any]) -> Index:
    parts = [Part(p["name"], p["order"], p["class"], p["collation"]) for p in json.loads(row["columns"] or "[]")]
    rest = {name: row[name] for name in ("is_unique", "is_constraint", "is_deferrable", "is_deferred", "nulls_equal")}
    included = tuple(json.loads(row["included"]))
    return Index(row["name"], tuple(parts), included, predicate=row["predicate"], **rest)


def of_column(host: Host, table: Table, column: str) -> list[Index]:
    """B-trees on a column of tokens."""
    found = [_index(row) for row in host.rows(INDEXES, ["oid", "text[]"], [table.oid, [column]])]
    return [one for one in found if column in one.names() and column not in one.included]


def renamed(index: Index, name: str) -> Index:
    return replace(index, name=name)


def record(host: Host, key_uuid: str, indexes: Iterable[Index]) -> None:
    """For unprotect()."""
    for index in indexes:
        host.rows(RECORD, ["uuid", "name", "text"], [key_uuid, index.name, json.dumps(asdict(index))])


def recorded(host: Host, key_uuid: str) -> list[Index]:
    found = [json.loads(row["definition"]) for row in host.rows(RECORDED, ["uuid"], [key_uuid])]
    return [
        Index(**{**one, "parts": tuple(Part(**part) for part in one["parts"]), "included": tuple(one["included"])})
        for one in found
    ]


def forget_of(host: Host, key_uuid: str, column: str, names: Iterable[str]) -> None:
    """What stood for indexes of a column is gone: unprotect() does not put those back, which rows may violate now."""
    for index in recorded(host, key_uuid):
        if column in index.names() and index.name in set(names):
            host.rows(FORGET_ONE, ["uuid", "name"], [key_uuid, index.name])


def forget(host: Host, key_uuid: str) -> None:
    host.rows("DELETE FROM envelope_private.carried WHERE key_uuid = $1", ["uuid"], [key_uuid])
