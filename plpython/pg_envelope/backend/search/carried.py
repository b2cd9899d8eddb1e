"""Carries indexes and UNIQUE constraints of a protected column over to its tokens, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

from pg_envelope import errors
from pg_envelope.backend.host import Host
from pg_envelope.backend.search.column import has_equality
from pg_envelope.backend.sqltext import commas, derived_name, ident
from pg_envelope.backend.tables import grants
from pg_envelope.backend.tables.dependents.statistics import Statistics
from pg_envelope.backend.tables.generate.layout import Layout
from pg_envelope.backend.tables.inspect import Table
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.records import asdict, dataclass, field, replace
from pg_envelope.typed import Any

# What the indexes of partitions are called that belong to an index `i` of the whole table, by partition.
OF_PARTITIONS = """(
    SELECT coalesce(jsonb_object_agg(format('%I.%I', n.nspname, t.relname), x.relname), '{}')
    FROM pg_catalog.pg_partition_tree(i.indexrelid) p JOIN pg_catalog.pg_index b ON b.indexrelid = p.relid
    JOIN pg_catalog.pg_class x ON x.oid = p.relid JOIN pg_catalog.pg_class t ON t.oid = b.indrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace WHERE p.relid <> i.indexrelid)::text"""
# The indexes of one table that may be of tokens, or that tokens can replace: on plain columns. `class` and `collation`
# are NULL for defaults.
INDEXES = f"""
SELECT c.relname AS name, i.indisunique AS is_unique, k.conname IS NOT NULL AS is_constraint,
    coalesce(k.condeferrable, false) AS is_deferrable, coalesce(k.condeferred, false) AS is_deferred,
    coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_equal,
    pg_get_expr(i.indpred, i.indrelid) AS predicate, i.indnkeyatts::int AS width,
    EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attname = ANY ($2::name[])
        AND i.indpred::text LIKE format('%%:varattno %s %%', a.attnum)) AS asks_for_value,
    m.amname AS method,
    CASE WHEN k.oid IS NULL THEN obj_description(c.oid, 'pg_class') ELSE obj_description(k.oid, 'pg_constraint') END
        AS comment,
    (SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'order', i.indoption[p.n - 1]::int,
            'normalize', CASE WHEN i.indkey[p.n - 1] = 0 THEN 'casefold/1' END,
            'class', CASE WHEN NOT o.opcdefault THEN format('%I.%I', n.nspname, o.opcname) END,
            'collation', CASE WHEN i.indcollation[p.n - 1] <> a.attcollation
                THEN i.indcollation[p.n - 1]::regcollation::text END) ORDER BY p.n)
     FROM generate_series(1, i.indnkeyatts) p (n)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND (a.attnum = i.indkey[p.n - 1]
        OR i.indkey[p.n - 1] = 0 AND a.attnum > 0 AND NOT a.attisdropped
            AND pg_get_indexdef(i.indexrelid, p.n::int, true)
                IN (format('lower(%I)', a.attname), format('lower(%I::text)', a.attname)))
     JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[p.n - 1]
     JOIN pg_catalog.pg_namespace n ON n.oid = o.opcnamespace)::text AS columns,
    (SELECT coalesce(jsonb_agg(a.attname ORDER BY p.n), '[]')
     FROM generate_series(i.indnkeyatts + 1, i.indnatts) p (n)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[p.n - 1])::text AS included,
    {OF_PARTITIONS} AS of_partitions
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_am m ON m.oid = c.relam
LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype = 'u'
WHERE i.indrelid = $1 AND m.amname IN ('btree', 'gin') AND NOT i.indisprimary AND NOT i.indisexclusion AND i.indisvalid
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
RECORDED = """
SELECT definition::text FROM envelope_private.carried
WHERE key_uuid = $1 AND NOT definition ? 'referring' ORDER BY name"""
WAITING = "SELECT definition::text FROM envelope_private.carried WHERE key_uuid = $1 AND definition ? 'referring'"
DEFINE = "UPDATE envelope_private.carried SET definition = $3::jsonb WHERE key_uuid = $1 AND name = $2"
FORGET_ONE = "DELETE FROM envelope_private.carried WHERE key_uuid = $1 AND name = $2"
# The server writes the table's name with its schema: the search_path is pinned.
DROPPABLE = f"""
SELECT c.relname AS name, k.oid IS NOT NULL AS is_constraint, i.indisunique AS is_unique,
    CASE WHEN k.oid IS NULL THEN obj_description(c.oid, 'pg_class') ELSE obj_description(k.oid, 'pg_constraint') END
        AS comment,
    CASE WHEN k.oid IS NOT NULL THEN pg_get_constraintdef(k.oid) ELSE
        substr(pg_get_indexdef(i.indexrelid), 1 + length(format('CREATE %sINDEX %I ON %s%I.%I ',
            CASE WHEN i.indisunique THEN 'UNIQUE ' END, c.relname, CASE c.relkind WHEN 'I' THEN 'ONLY ' END,
            n.nspname, t.relname))) END AS definition,
    {OF_PARTITIONS} AS of_partitions,
    ARRAY(SELECT DISTINCT a.attname FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1
            AND (d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                OR d.classid = 'pg_constraint'::regclass AND d.objid = k.oid)) AS columns
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_class t ON t.oid = i.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid
    AND k.contype IN ('u', 'x')
WHERE i.indrelid = $1 AND NOT i.indisprimary AND NOT i.indisreplident
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint f WHERE f.conindid = i.indexrelid AND f.contype = 'f')
    AND EXISTS (SELECT FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND a.attname = ANY ($2::name[])
            AND (d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                OR d.classid = 'pg_constraint'::regclass AND d.objid = k.oid))
ORDER BY c.relname"""
FLAGS = ("is_unique", "is_constraint", "is_deferrable", "is_deferred", "nulls_equal", "asks_for_value", "method")
DESCENDING, NULLS_FIRST = 1, 2
# Of a protected column, and what is made of it first: the search column, and its operator class.
Tokens = Mapping[tuple[str, str | None], tuple[str, str]]


class Duplicate(errors.EnvelopeError):
    sqlstate = "23505"


@dataclass(frozen=True)
class Part:
    """A column of an index. `order` has PostgreSQL's bits: 1 descending, 2 NULLs first.

    `normalize` is the normaliser that stands in for lower(column).
    """

    name: str
    order: int = 0
    opclass: str | None = None
    collation: str | None = None
    normalize: str | None = None

    def sql(self, method: str) -> str:
        value = ident(self.name)
        words = [
            f"pg_catalog.lower({value})" if self.normalize else value,
            f"COLLATE {self.collation}" if self.collation else "",
            self.opclass or "",
        ]
        if method == "btree":
            words.append("DESC" if self.order & DESCENDING else "")
            words.append("NULLS FIRST" if self.order & NULLS_FIRST else "NULLS LAST")
        return " ".join(filter(None, words))


@dataclass(frozen=True)
class Index:
    """A B-tree of plain columns, or the UNIQUE constraint behind which it stands, or the GIN index of grams.

    `asks_for_value`: its condition is about a column that is to be protected. `of_partitions` has the names of the
    indexes that belong to it, by partition.
    """

    name: str
    parts: tuple[Part, ...]
    included: tuple[str, ...] = ()
    is_unique: bool = False
    is_constraint: bool = False
    is_deferrable: bool = False
    is_deferred: bool = False
    nulls_equal: bool = False
    predicate: str | None = None
    comment: str | None = None
    asks_for_value: bool = False
    method: str = "btree"
    of_partitions: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> set[str]:
        return {part.name for part in self.parts}

    def of_tokens(self, tokens: Tokens) -> Index:
        """Returns the same index with search columns in the place of protected ones."""
        return replace(self, parts=tuple(_of_tokens(part, tokens) for part in self.parts))

    def renamed(self, names: Mapping[str, str], rewritten: Callable[[str], str]) -> Index:
        """Returns the same index after a change of its columns' names. `rewritten` returns a condition with these."""
        parts = tuple(replace(part, name=names.get(part.name, part.name)) for part in self.parts)
        included = tuple(names.get(name, name) for name in self.included)
        predicate = rewritten(self.predicate) if self.predicate else None
        return replace(self, parts=parts, included=included, predicate=predicate)

    def create(self, table: str) -> str:
        """Returns the statement for an index. It is never a constraint, because a constraint takes no operator class.
        The errors are alike.
        """
        unique = "UNIQUE " if self.is_unique else ""
        columns = commas(part.sql(self.method) for part in self.parts)
        return (
            f"CREATE {unique}INDEX {ident(self.name)} ON {table} USING {self.method} ({columns}){self._tail()}"
            + self._where()
        )

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

    def settings(self, schema: str, table: str) -> list[str]:
        """Returns what belongs to it besides its definition, for who puts it back."""
        name = ident(self.name)
        what = f"CONSTRAINT {name} ON {table}" if self.is_constraint else f"INDEX {ident(schema)}.{name}"
        return [] if self.comment is None else [grants.comment_on(what, self.comment)]

    def _tail(self) -> str:
        include = f" INCLUDE ({commas(map(ident, self.included))})" if self.included else ""
        return include + (" NULLS NOT DISTINCT" if self.nulls_equal else "")

    def _where(self) -> str:
        return f" WHERE {self.predicate}" if self.predicate else ""


def _of_tokens(part: Part, tokens: Tokens) -> Part:
    found = tokens.get((part.name, part.normalize))
    return part if found is None else Part(found[0], opclass=found[1])


@dataclass(frozen=True)
class Dropped:
    """An index that tokens cannot replace, dropped on demand. `definition` is the text behind the table's name."""

    name: str
    definition: str
    is_constraint: bool = False
    is_unique: bool = False
    comment: str | None = None
    of_partitions: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    def names(self) -> set[str]:
        return set(self.columns)

    def renamed(self, names: Mapping[str, str], _rewritten: Callable[[str], str]) -> Dropped:
        """Returns the same with new names of its columns. The text of its definition stays as it is."""
        return replace(self, columns=tuple(names.get(name, name) for name in self.columns))

    def restore(self, table: str) -> str:
        if self.is_constraint:
            return f"ALTER TABLE {table} ADD CONSTRAINT {ident(self.name)} {self.definition}"
        return f"CREATE {'UNIQUE ' if self.is_unique else ''}INDEX {ident(self.name)} ON {table} {self.definition}"

    def drop(self, schema: str, table: str) -> str:
        return self._index().drop(schema, table)

    def settings(self, schema: str, table: str) -> list[str]:
        return self._index().settings(schema, table)

    def _index(self) -> Index:
        return Index(self.name, (), is_constraint=self.is_constraint, comment=self.comment)


Carried = Index | Dropped | Statistics


@dataclass(frozen=True)
class PlainKey:
    """A foreign key of plain values, for who puts it back. `referring` is the table that has it, as SQL takes it."""

    name: str
    referring: str
    definition: str
    comment: str | None = None

    @property
    def statement(self) -> str:
        return f"ALTER TABLE {self.referring} ADD CONSTRAINT {ident(self.name)} {self.definition}"

    def settings(self) -> list[str]:
        what = f"CONSTRAINT {ident(self.name)} ON {self.referring}"
        return [] if self.comment is None else [grants.comment_on(what, self.comment)]


def droppable(host: Host, table: Table, columns: list[str], kept: Iterable[Index]) -> list[Dropped]:
    """Indexes and constraints of columns whose options say "index": "drop", but for those that tokens stand in for."""
    names = {index.name for index in kept}
    rows = host.rows(DROPPABLE, ["oid", "text[]"], [table.oid, columns]) if columns else []
    return [
        _dropped({**row, "of_partitions": json.loads(row["of_partitions"])}) for row in rows if row["name"] not in names
    ]


def _dropped(row: Mapping[str, Any]) -> Dropped:
    return Dropped(**{**row, "columns": tuple(row["columns"])})


def find(host: Host, table: Table, wanted: Iterable[str]) -> list[Index]:
    """Returns the indexes on columns that are to be protected which tokens can replace."""
    names = set(wanted)
    fit = {column.name for column in table.columns if has_equality(host, column)}
    return [
        one
        for one in _found(host, table, list(names))
        if (used := one.names() & names) and used <= fit and _fits(one, names)
    ]


def _fits(index: Index, names: set[str]) -> bool:
    """Tells whether tokens can replace an index. A deferred one checks later than an index, and an index of tokens has
    no values.
    """
    protected = (part for part in index.parts if part.name in names)
    plain = all(part.opclass is None and part.collation is None for part in protected)
    return plain and index.method == "btree" and not index.is_deferrable and not names & set(index.included)


def _found(host: Host, table: Table, names: list[str]) -> list[Index]:
    """Returns the indexes without those that have other expressions."""
    rows = host.rows(INDEXES, ["oid", "text[]"], [table.oid, names])
    return [index for row in rows if len((index := _index(row)).parts) == row["width"]]


def _index(row: dict[str, Any]) -> Index:
    names = ("name", "order", "class", "collation", "normalize")
    parts = [Part(*(part[name] for name in names)) for part in json.loads(row["columns"] or "[]")]
    rest = {name: row[name] for name in FLAGS}
    rest["of_partitions"] = json.loads(row["of_partitions"])
    included = tuple(json.loads(row["included"]))
    return Index(row["name"], tuple(parts), included, predicate=row["predicate"], comment=row["comment"], **rest)


def of_column(host: Host, table: Table, column: str) -> list[Index]:
    """Returns the indexes on a column of tokens."""
    return [one for one in _found(host, table, [column]) if column in one.names() and column not in one.included]


def renamed(index: Index, name: str) -> Index:
    return replace(index, name=name)


def record(host: Host, key_uuid: str, indexes: Iterable[Carried]) -> None:
    """Records the indexes and statistics, for unprotect(). Their names have schemas of their own, and may be alike."""
    for index in indexes:
        host.rows(RECORD, ["uuid", "name", "text"], [key_uuid, _record_name(index), json.dumps(asdict(index))])


def _record_name(one: Carried) -> str:
    return f"statistics {one.name}" if isinstance(one, Statistics) else one.name


def rename(host: Host, key_uuid: str, renamed: Mapping[str, str], rewritten: Callable[[str], str]) -> None:
    """Takes over the new names of columns. `rewritten` returns a condition with these names.

    An index that was dropped on demand keeps the text of its definition.
    """
    for one in recorded(host, key_uuid):
        now = one.renamed(renamed, rewritten)
        host.rows(DEFINE, ["uuid", "name", "text"], [key_uuid, _record_name(one), json.dumps(asdict(now))])


def recorded(host: Host, key_uuid: str) -> list[Carried]:
    return [_recorded(json.loads(row["definition"])) for row in host.rows(RECORDED, ["uuid"], [key_uuid])]


def of_rollout(host: Host, layout: Layout) -> list[Carried]:
    """Returns those of the columns of a roll-out. Without a roll-out, and where it has all columns, it returns
    all.
    """
    every = recorded(host, layout.key_uuid)
    return (
        [one for one in every if one.names() & layout.in_rollout.keys()]
        if layout.in_rollout and layout.staying
        else every
    )


def wait(host: Host, key_uuid: str, key: PlainKey) -> None:
    """Records a foreign key that can come back when this table is unprotected, too."""
    name = derived_name(f"foreign key {key.referring} ", key.name)
    host.rows(RECORD, ["uuid", "name", "text"], [key_uuid, name, json.dumps(asdict(key))])


def waiting(host: Host, key_uuid: str) -> list[PlainKey]:
    return [PlainKey(**json.loads(row["definition"])) for row in host.rows(WAITING, ["uuid"], [key_uuid])]


def _recorded(one: dict[str, Any]) -> Carried:
    if "definition" in one:
        return _dropped(one)
    if "made" in one:
        return Statistics(**{**one, "columns": tuple(one.get("columns", ()))})
    return Index(**{**one, "parts": tuple(Part(**part) for part in one["parts"]), "included": tuple(one["included"])})


def create(owner: AsOwner, index: Index, table: str) -> None:
    """Raises Duplicate."""
    try:
        owner.run(index.create(table))
    except Exception as error:
        if getattr(error, "sqlstate", None) != Duplicate.sqlstate:
            raise
        raise Duplicate(
            f"index {index.name} cannot be unique: two rows have values that are equal after normalising",
            hint="Change one of them, then call it again. docs/search.md says what each normaliser takes for equal.",
        ) from None


def forget_of(host: Host, key_uuid: str, column: str, names: Iterable[str]) -> None:
    """Forgets the indexes whose tokens are gone. unprotect() does not put them back: rows may violate them now."""
    for index in recorded(host, key_uuid):
        if column in index.names() and index.name in set(names):
            host.rows(FORGET_ONE, ["uuid", "name"], [key_uuid, index.name])


def forget_some(host: Host, key_uuid: str, gone: Iterable[Carried]) -> None:
    for one in gone:
        host.rows(FORGET_ONE, ["uuid", "name"], [key_uuid, _record_name(one)])


def forget(host: Host, key_uuid: str) -> None:
    host.rows("DELETE FROM envelope_private.carried WHERE key_uuid = $1", ["uuid"], [key_uuid])
