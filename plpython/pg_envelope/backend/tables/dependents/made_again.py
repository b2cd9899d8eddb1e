"""What cannot be changed in place: materialized views, functions that take or return the row type, and own rules.

They are dropped and made again, with owner, privileges and comments, indexes and settings.
"""

from __future__ import annotations

from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import ident
from pg_envelope.backend.tables import grants, inspect
from pg_envelope.backend.tables.dependents.dependent import Dependent
from pg_envelope.backend.tables.dependents.graph import Node
from pg_envelope.backend.tables.dependents.in_place import RULE
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.records import dataclass

# `indexes` are made by the owner, because their expressions are the owner's text. `settings` hold no such text.
MATERIALIZED = """
SELECT pg_get_viewdef(c.oid) AS query, array_to_string(c.reloptions, ', ') AS options, c.relispopulated AS is_populated,
    a.amname AS method, s.spcname AS tablespace,
    ARRAY(SELECT pg_get_indexdef(i.indexrelid) FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid ORDER BY 1)
    || ARRAY(SELECT pg_get_statisticsobjdef(e.oid) FROM pg_catalog.pg_statistic_ext e
        WHERE e.stxrelid = c.oid ORDER BY 1) AS indexes,
    ARRAY(
        SELECT format('ALTER MATERIALIZED VIEW %s ALTER %I %s', c.oid::regclass, f.attname, part.what)
        FROM pg_catalog.pg_attribute f JOIN pg_catalog.pg_type t ON t.oid = f.atttypid CROSS JOIN LATERAL (VALUES
            (CASE WHEN f.attstattarget >= 0 THEN format('SET STATISTICS %s', f.attstattarget) END),
            (CASE WHEN f.attstorage <> t.typstorage THEN 'SET STORAGE ' || CASE f.attstorage
                WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END),
            (CASE f.attcompression WHEN 'p' THEN 'SET COMPRESSION pglz' WHEN 'l' THEN 'SET COMPRESSION lz4' END),
            ('SET (' || array_to_string(f.attoptions, ', ') || ')')) part (what)
        WHERE f.attrelid = c.oid AND f.attnum > 0 AND NOT f.attisdropped AND part.what IS NOT NULL
        UNION ALL SELECT format('COMMENT ON %s IS %L', o.what, d.description)
        FROM pg_catalog.pg_description d CROSS JOIN LATERAL (
            SELECT format('MATERIALIZED VIEW %s', c.oid::regclass) AS what
                WHERE d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass
            UNION ALL SELECT format('COLUMN %s.%I', c.oid::regclass, f.attname) FROM pg_catalog.pg_attribute f
                WHERE f.attrelid = c.oid AND f.attnum = d.objsubid AND d.objoid = c.oid
                    AND d.classoid = 'pg_class'::regclass AND d.objsubid > 0
            UNION ALL SELECT format('INDEX %s', i.indexrelid::regclass) FROM pg_catalog.pg_index i
                WHERE i.indrelid = c.oid AND i.indexrelid = d.objoid AND d.classoid = 'pg_class'::regclass
            UNION ALL SELECT format('STATISTICS %I.%I', e.stxnamespace::regnamespace, e.stxname)
                FROM pg_catalog.pg_statistic_ext e WHERE e.stxrelid = c.oid AND e.oid = d.objoid
                    AND d.classoid = 'pg_statistic_ext'::regclass) o
        UNION ALL SELECT format('ALTER MATERIALIZED VIEW %s CLUSTER ON %I', c.oid::regclass, x.relname)
        FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        WHERE i.indrelid = c.oid AND i.indisclustered
        UNION ALL SELECT format('ALTER INDEX %s SET TABLESPACE %I', x.oid::regclass, p.spcname)
        FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        JOIN pg_catalog.pg_tablespace p ON p.oid = x.reltablespace WHERE i.indrelid = c.oid) AS settings
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am a ON a.oid = c.relam
LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace WHERE c.oid = $1"""
SIGNATURE = """format('%s %I.%I(%s)', CASE f.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, n.nspname,
        f.proname, pg_get_function_identity_arguments(f.oid))"""
FUNCTION = f"""
SELECT pg_get_functiondef(f.oid) AS text, f.proowner AS owner, n.nspname AS schema,
    {SIGNATURE} AS signature, f.prosqlbody IS NOT NULL AS is_parsed, obj_description(f.oid, 'pg_proc') AS comment,
    ARRAY(SELECT e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'x') AS extensions
FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace WHERE f.oid = $1"""

NAMED = f"""
SELECT f.oid FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
WHERE n.nspname = $1 AND {SIGNATURE} = $2"""


@dataclass(frozen=True)
class MaterializedView(Dependent):
    """Its rows are computed anew, as REFRESH does."""

    sql: str
    indexes: tuple[str, ...]
    settings: tuple[str, ...]
    acl: list[Row]
    is_populated: bool

    @property
    def leaves(self) -> str:
        return f"DROP MATERIALIZED VIEW {self.sql}"

    def back(self, host: Host) -> None:
        self.as_owner(host, self.text, made=1)
        for index in self.indexes:
            self.as_owner(host, index, made=1)
        for setting in self.settings:
            host.run(setting)
        grants.give(host, inspect.relation_oid(host, self.sql), self.sql, self.acl)

    def complete(self, host: Host) -> None:
        if self.is_populated:
            AsOwner(host, self.owner).run(f"REFRESH MATERIALIZED VIEW {self.sql}")


@dataclass(frozen=True)
class MadeFunction(Dependent):
    """A function or procedure; `signature` names it. `is_parsed`: the catalog has its body as a tree."""

    signature: str
    is_parsed: bool
    comment: str | None
    extensions: tuple[str, ...]
    acl: list[Row]

    @property
    def leaves(self) -> str:
        return f"DROP {self.signature}"

    def back(self, host: Host) -> None:
        # PostgreSQL can look at what it has parsed before. Other texts mean the names of another search_path.
        make = self.as_owner if self.is_parsed else self.as_owner_unchecked
        make(host, self.text, made=1)
        if self.comment is not None:
            grants.comment(host, self.signature, self.comment)
        for extension in self.extensions:
            host.run(f"ALTER {self.signature} DEPENDS ON EXTENSION {ident(extension)}")
        (made,) = host.rows(NAMED, ["name", "text"], [self.schema, self.signature])
        grants.give(host, made["oid"], self.signature, self.acl, grants.read_routine)


@dataclass(frozen=True)
class OwnRule(Dependent):
    """A rule of the relation itself. The view has it, as long as the table is protected."""

    name: str
    relation: str
    comment: str | None
    needs_create = False

    @property
    def leaves(self) -> str:
        return f"DROP RULE {ident(self.name)} ON {self.relation}"

    def back(self, host: Host) -> None:
        super().back(host)
        if self.comment is not None:
            grants.comment(host, f"RULE {ident(self.name)} ON {self.relation}", self.comment)


def own_rule(host: Host, node: Node) -> OwnRule:
    (row,) = host.rows(RULE, ["oid"], [node.oid])
    made = row["owner"], row["schema"], row["text"]
    return OwnRule(node.what, *made, row["name"], row["relation"], row["comment"])


def materialized_view(host: Host, node: Node) -> MaterializedView:
    found = inspect.inspect(host, node.oid)
    (row,) = host.rows(MATERIALIZED, ["oid"], [node.oid])
    options = f" WITH ({row['options']})" if row["options"] else ""
    where = f" TABLESPACE {ident(row['tablespace'])}" if row["tablespace"] else ""
    made = f"CREATE MATERIALIZED VIEW {found.sql} USING {ident(row['method'])}{options}{where}"
    return MaterializedView(
        node.what,
        found.owner_oid,
        found.schema,
        f"{made} AS {row['query'].rstrip().removesuffix(';')} WITH NO DATA",
        found.sql,
        tuple(row["indexes"]),
        tuple(row["settings"]),
        grants.read(host, node.oid),
        row["is_populated"],
    )


def function(host: Host, node: Node) -> MadeFunction:
    (row,) = host.rows(FUNCTION, ["oid"], [node.oid])
    return MadeFunction(
        node.what,
        row["owner"],
        row["schema"],
        row["text"],
        row["signature"],
        row["is_parsed"],
        row["comment"],
        tuple(row["extensions"]),
        grants.read_routine(host, node.oid),
    )
