"""Foreign keys between protected columns: tokens stand in for the values of both sides, and the values come back.

PostgreSQL writes the values that a foreign key misses into its error. So the key is not one of the token columns, but
of columns that are generated from them: their type has no text, and no dump holds them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.search import place, protecting
from pg_envelope.backend.search.carried import PlainKey
from pg_envelope.backend.search.column import SearchColumn
from pg_envelope.backend.search.place import Place
from pg_envelope.backend.sqltext import commas, derived_name, ident
from pg_envelope.backend.tables import catalog, grants, inspect, locks
from pg_envelope.backend.tables.inspect import Table
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.normalizers import EXACT
from pg_envelope.records import dataclass, replace

COLUMNS = """
    (SELECT jsonb_agg(a.attname ORDER BY p.n) FROM unnest(k.{key}) WITH ORDINALITY p (attnum, n)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = k.{relation} AND a.attnum = p.attnum)"""
# `rest` is what stands behind the columns, or NULL for a key that is written in another way: one with PERIOD.
FOUND = f"""
SELECT name, "table", target, columns::text, target_columns::text, updates, deletes, comment,
    CASE WHEN starts_with(definition, prefix) THEN substr(definition, length(prefix) + 1) END AS rest
FROM (SELECT k.conname AS name, k.conrelid AS "table", k.confrelid AS target, k.confupdtype AS updates,
        k.confdeltype AS deletes, obj_description(k.oid, 'pg_constraint') AS comment,
        {COLUMNS.format(key="conkey", relation="conrelid")} AS columns,
        {COLUMNS.format(key="confkey", relation="confrelid")} AS target_columns,
        pg_get_constraintdef(k.oid) AS definition
    FROM pg_catalog.pg_constraint k
    WHERE k.contype = 'f' AND k.conparentid = 0 AND (k.conrelid = ANY ($1) OR k.confrelid = ANY ($1))) f,
    LATERAL (SELECT format('FOREIGN KEY (%s) REFERENCES %s(%s)',
        (SELECT string_agg(quote_ident(c), ', ' ORDER BY n) FROM jsonb_array_elements_text(f.columns)
            WITH ORDINALITY x (c, n)),
        f.target::regclass,
        (SELECT string_agg(quote_ident(c), ', ' ORDER BY n) FROM jsonb_array_elements_text(f.target_columns)
            WITH ORDINALITY x (c, n))) AS prefix) p
ORDER BY "table", name"""
GENERATED = """
SELECT a.attname AS name, pg_get_expr(d.adbin, d.adrelid) AS source
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid AND t.typnamespace = 'envelope_search'::regnamespace
WHERE a.attrelid = $1 AND a.attgenerated = 's' AND NOT a.attisdropped"""
# A row without columns would be an empty dict, which is false.
UNIQUE = """
SELECT 1 AS one FROM pg_catalog.pg_index i
WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
    AND (SELECT array_agg(a.attname ORDER BY a.attname) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = $1 AND a.attnum = ANY (i.indkey[:i.indnkeyatts - 1]))
    = (SELECT array_agg(c ORDER BY c) FROM unnest($2::name[]) c)"""


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key, with the columns as users know them: protected ones, not those of tokens.

    `table` and `target` are OIDs; `rest` is the definition behind the columns; `updates` and `deletes` are its actions
    as pg_constraint has them.
    """

    name: str
    table: int
    target: int
    columns: tuple[str, ...]
    target_columns: tuple[str, ...]
    rest: str | None
    updates: str
    deletes: str
    comment: str | None

    def pairs(self) -> list[tuple[tuple[int, str], tuple[int, str]]]:
        """Returns the columns that it compares, each with the OID of its table."""
        both = zip(self.columns, self.target_columns, strict=True)
        return [((self.table, one), (self.target, other)) for one, other in both]


def find(host: Host, oids: Iterable[int]) -> list[ForeignKey]:
    """Returns the foreign keys from tables and to them, with the columns that PostgreSQL compares."""
    return [_foreign_key(row) for row in host.rows(FOUND, ["oid[]"], [list(oids)])]


def _foreign_key(row: Row) -> ForeignKey:
    columns = {name: tuple(json.loads(row[name])) for name in ("columns", "target_columns")}
    return ForeignKey(**{**row, **columns})


def of_tokens(host: Host, base: int) -> list[ForeignKey]:
    """Returns the foreign keys on tokens of a protected table, from it and to it."""
    found = find(host, [base])
    sources = {oid: _sources(host, oid) for key in found for oid in (key.table, key.target)}
    return [_as_known(key, sources) for key in found if sources[key.table].keys() & set(key.columns)]


def _as_known(key: ForeignKey, sources: Mapping[int, Mapping[str, str]]) -> ForeignKey:
    return replace(
        key,
        columns=tuple(sources[key.table].get(name, name) for name in key.columns),
        target_columns=tuple(sources[key.target].get(name, name) for name in key.target_columns),
    )


def _sources(host: Host, oid: int) -> dict[str, str]:
    """Returns the protected columns by the columns that stand in for them in foreign keys."""
    if host.row(catalog.KEY, ["oid"], [oid]) is None:
        return {}
    searches = place.find(host, oid).layout.searches
    return {name: searches[search].source for name, search in _generated(host, oid, searches).items()}


def _generated(host: Host, oid: int, searches: Iterable[str]) -> dict[str, str]:
    """Returns search columns by the columns that are generated from them. PostgreSQL quotes a name only if it must."""
    by_text = {text: search for search in searches for text in (search, ident(search))}
    rows = host.rows(GENERATED, ["oid"], [oid])
    return {row["name"]: by_text[row["source"]] for row in rows if row["source"] in by_text}


def is_compared(host: Host, base: Table, search: SearchColumn) -> bool:
    """Tells whether a foreign key compares the tokens of a search column."""
    ends = {end for key in find(host, [base.oid]) for end in _ends(key)}
    return any((base.oid, name) in ends for name in _generated(host, base.oid, [search.name]))


def drop_all(host: Host, bases: Sequence[Table]) -> list[ForeignKey]:
    """Drops the foreign keys on tokens of protected tables, with what they compare. Returns them, for make().

    A foreign key that a person has dropped has left its columns.
    """
    found = {(key.table, key.name): key for base in bases for key in of_tokens(host, base.oid)}
    for key in found.values():
        drop(host, key)
    ends = (oid for key in found.values() for oid in (key.table, key.target))
    for oid in sorted({*ends, *(base.oid for base in bases)}):
        drop_columns(host, inspect.inspect(host, oid))
    return list(found.values())


def drop(host: Host, key: ForeignKey) -> None:
    locks.exclusive(host, *(inspect.inspect(host, oid).sql for oid in dict.fromkeys((key.table, key.target))))
    host.run(f"ALTER TABLE {inspect.inspect(host, key.table).sql} DROP CONSTRAINT {ident(key.name)}")


def drop_columns(host: Host, base: Table) -> None:
    """Drops the columns of tokens that no foreign key compares any more, with their indexes."""
    used = {name for key in find(host, [base.oid]) for oid, name in _ends(key) if oid == base.oid}
    for row in host.rows(GENERATED, ["oid"], [base.oid]):
        if row["name"] not in used:
            host.run(f"ALTER TABLE {base.sql} DROP COLUMN {ident(row['name'])}")


def _ends(key: ForeignKey) -> Iterator[tuple[int, str]]:
    for one, other in key.pairs():
        yield one
        yield other


def plain(host: Host, key: ForeignKey) -> PlainKey:
    """Returns the foreign key on the values, under the names of the tables for users."""
    table, target = (_known_as(host, oid) for oid in (key.table, key.target))
    columns, target_columns = (commas(map(ident, names)) for names in (key.columns, key.target_columns))
    definition = f"FOREIGN KEY ({columns}) REFERENCES {target} ({target_columns}){key.rest}"
    return PlainKey(key.name, table, definition, key.comment)


def _known_as(host: Host, oid: int) -> str:
    key = host.row(catalog.KEY, ["oid"], [oid])
    return inspect.inspect(host, oid if key is None else key["view"]).sql


def make(host: Host, key: ForeignKey) -> None:
    """Makes the foreign key on the tokens of its columns. Rewrites a table that has no column for that yet."""
    columns = _compared(host, key.table, key.columns)
    target_columns = _compared(host, key.target, key.target_columns)
    table, target = inspect.inspect(host, key.table), inspect.inspect(host, key.target)
    with protecting.usable(host, target):
        _make_unique(host, target, target_columns)
        AsOwner(host, table.owner_oid).run(
            f"ALTER TABLE {table.sql} ADD CONSTRAINT {ident(key.name)} FOREIGN KEY ({commas(map(ident, columns))})"
            f" REFERENCES {target.sql} ({commas(map(ident, target_columns))}){key.rest}"
        )
    if key.comment is not None:
        grants.comment(host, f"CONSTRAINT {ident(key.name)} ON {table.sql}", key.comment)


def _compared(host: Host, oid: int, columns: Iterable[str]) -> list[str]:
    """Returns the columns that the key compares, made if they are missing: those of tokens for protected ones."""
    found = place.find(host, oid)
    chosen = {search.source: search for name in columns for search in reversed(exact(found, name))}
    there = _made_of(host, oid, chosen.values())
    _add(host, found, [search for search in chosen.values() if search.name not in there])
    there = _made_of(host, oid, chosen.values())
    return [there[chosen[name].name] if name in chosen else name for name in columns]


def _made_of(host: Host, oid: int, searches: Iterable[SearchColumn]) -> dict[str, str]:
    return {search: name for name, search in _generated(host, oid, [one.name for one in searches]).items()}


def exact(found: Place, column: str) -> list[SearchColumn]:
    """Returns the search columns that find exactly the values of a protected column."""
    return [search for search in found.layout.searches_of(column) if search.normalizer == EXACT]


def _add(host: Host, found: Place, searches: Iterable[SearchColumn]) -> None:
    added = commas(
        f"ADD COLUMN {ident(search.reference)} {search.type} GENERATED ALWAYS AS ({ident(search.name)}) STORED"
        for search in searches
    )
    if added:
        with protecting.usable(host, found.base):
            AsOwner(host, found.base.owner_oid).run(f"ALTER TABLE {found.base.sql} {added}")


def _make_unique(host: Host, target: Table, columns: list[str]) -> None:
    if host.row(UNIQUE, ["oid", "text[]"], [target.oid, columns]) is None:
        name = derived_name(f"{target.name}_{'_'.join(columns)}", "_key")
        indexed = commas(map(ident, columns))
        AsOwner(host, target.owner_oid).run(f"CREATE UNIQUE INDEX {ident(name)} ON {target.sql} ({indexed})")
