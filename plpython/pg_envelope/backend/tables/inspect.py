"""Reads what a table is from the catalogs: columns, primary key, constraints, owner. It decides nothing."""

from __future__ import annotations

from collections.abc import Iterable

from pg_envelope import errors
from pg_envelope.backend.host import Host, Row
from pg_envelope.backend.sqltext import qualified
from pg_envelope.records import dataclass, replace

# Tells of a CHECK whether its result depends on the writing role and its search_path. PostgreSQL's own functions are
# not in pg_depend, so their numbers are looked for in the expression's tree.
ASKS_CALLER = r"""(k.conbin::text ~ 'SQLVALUEFUNCTION :op (9|10|11|14) ' OR EXISTS (
        SELECT FROM regexp_matches(k.conbin::text, 'funcid ([0-9]+)', 'g') f
        JOIN pg_catalog.pg_proc p ON p.oid = f[1]::oid AND p.provolatile <> 'i'
        WHERE p.proname ~ '^(current_|session_user|getpgusername|has_|pg_has_role|row_security_active|to_reg|reg.*in$|'
            '.*_is_visible$|pg_get_serial_sequence)'))"""
# The package makes this CHECK of the base table itself, where writes run code of the table.
NO_DRAFTS = "envelope_no_drafts"
# The type of columns that take values for protected columns. Its triggers run before all others.
INPUT = "envelope.input"
TAKES = "!envelope_upsert"
ONLY_MARKS = "envelope_only_marks"
# pg_repack has a trigger while it works. Its function is SECURITY DEFINER, and copies rows as they are stored.
OF_REPACK = """EXISTS (
        SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
        JOIN pg_catalog.pg_proc p ON p.oid = d.objid
        WHERE d.classid = 'pg_proc'::regclass AND d.objid = t.tgfoid AND d.deptype = 'e' AND p.prosecdef
            AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'pg_repack')"""
# Code that a write of a row runs with its caller's role and settings: triggers, functions of users in constraints,
# generated columns and indexes, and CHECKs that depend on the caller.
RUNS_CODE = f"""(EXISTS (
        SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c' AND {ASKS_CALLER})
    OR EXISTS (
        SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'
            AND t.tgtype::int & 20 <> 0 AND t.tgname !~ '^(~envelope_guard_|{TAKES})' AND NOT {OF_REPACK})
    OR EXISTS (
        SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid >= 16384 AND (
            d.classid = 'pg_constraint'::regclass
                AND d.objid IN (SELECT k.oid FROM pg_catalog.pg_constraint k
                    WHERE k.conrelid = c.oid AND k.conname <> '{NO_DRAFTS}')
            OR d.classid = 'pg_class'::regclass
                AND d.objid IN (SELECT i.indexrelid FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid)
            OR d.classid = 'pg_attrdef'::regclass AND d.objid IN (
                SELECT f.oid FROM pg_catalog.pg_attrdef f JOIN pg_catalog.pg_attribute a
                    ON a.attrelid = f.adrelid AND a.attnum = f.adnum
                WHERE f.adrelid = c.oid AND a.attgenerated <> ''))))"""

RELATION = f"""
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind, c.relpersistence AS persistence,
    c.relrowsecurity AS row_security, c.reltype AS row_type, r.rolname AS owner, r.oid AS owner_oid,
    r.rolsuper AS owner_is_superuser,
    has_schema_privilege(c.relowner, c.relnamespace, 'USAGE') AS owner_may_use_schema,
    {RUNS_CODE} AS runs_code,
    EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p' AND k.condeferrable)
        AS key_is_deferrable,
    EXISTS (SELECT FROM pg_catalog.pg_attribute a, aclexplode(a.attacl) p WHERE a.attrelid = c.oid
            AND p.privilege_type IN ('INSERT', 'UPDATE')) AS has_column_writers,
    c.relispartition AS is_partition, c.reloftype <> 0 AS is_typed,
    EXISTS (SELECT FROM pg_catalog.pg_inherits i
            WHERE c.oid = i.inhrelid OR (c.oid = i.inhparent AND c.relkind <> 'p')) AS inherits,
    obj_description(c.oid, 'pg_class') AS comment,
    EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
            AND d.deptype = 'e') OR n.nspname IN ('pg_catalog', 'information_schema') AS belongs_to_system
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_roles r ON r.oid = c.relowner WHERE c.oid = $1"""

COLUMNS = """
SELECT a.attnum, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
    CASE t.typnamespace WHEN 'pg_catalog'::regnamespace THEN t.typname ELSE '' END AS base_type,
    CASE e.typnamespace WHEN 'pg_catalog'::regnamespace THEN e.typname ELSE '' END AS element_type,
    CASE t.typsubscript WHEN 'array_subscript_handler'::regproc THEN 'a' ELSE t.typtype END AS kind,
    a.attnotnull AS not_null,
    a.attidentity AS identity, a.attgenerated AS generated, a.attstorage AS storage, a.attcompression AS compression,
    CASE WHEN a.attcollation <> 0 THEN a.attcollation::regcollation::text END AS collation,
    -- A default names no column. Told of the table, pg_get_expr would compare all its names, for each default.
    pg_get_expr(d.adbin, CASE a.attgenerated WHEN '' THEN 0 ELSE d.adrelid END) AS default,
    col_description(a.attrelid, a.attnum) AS comment,
    CASE WHEN a.attidentity <> '' THEN pg_get_serial_sequence($2, a.attname) END AS sequence
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = envelope_private.base_type(a.atttypid)
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
    -- What foreign keys compare belongs to the search column of which it is generated.
    AND NOT (a.attgenerated <> '' AND t.typnamespace = 'envelope_search'::regnamespace) ORDER BY a.attnum"""

# Each column comes with the operator that the key's index serves, because pg_catalog has none for some types of
# extensions. Once a user has made an implicit cast from the column's type, the operators for all enums, arrays or
# ranges are not the only candidates. Then the package's own operator is used, which no index serves. The index of a key
# WITHOUT OVERLAPS is GiST, in which 3 can be the strategy number of &&.
PRIMARY_KEY = """
SELECT a.attname AS name, CASE
    WHEN p.opcintype::regtype::text ~ '^(any|record$)' AND EXISTS (
        SELECT FROM pg_catalog.pg_cast u WHERE u.oid >= 16384 AND u.castcontext = 'i'
            AND u.castsource = envelope_private.base_type(a.atttypid)) THEN 'OPERATOR(envelope_internal.===)'
    ELSE (
        -- A subquery of its own: PostgreSQL looks for the best order of few relations in much less time.
        SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname)
        FROM pg_catalog.pg_amop m
        JOIN pg_catalog.pg_am h ON h.oid = m.amopmethod
        JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr
            AND CASE h.amname WHEN 'btree' THEN m.amopstrategy = 3 ELSE o.oprname = '=' END
        JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
        WHERE m.amopfamily = p.opcfamily AND m.amoplefttype = p.opcintype AND m.amoprighttype = p.opcintype
        ORDER BY m.amopstrategy LIMIT 1)
    END AS equals
FROM pg_catalog.pg_constraint c
JOIN pg_catalog.pg_index i ON i.indexrelid = c.conindid
CROSS JOIN LATERAL unnest(c.conkey) WITH ORDINALITY k (attnum, position)
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
JOIN pg_catalog.pg_opclass p ON p.oid = i.indclass[k.position - 1]
WHERE c.conrelid = $1 AND c.contype = 'p' ORDER BY k.position"""

# This is PostgreSQL's own limit.
MOST_COLUMNS = 1600
SHAPE = """
SELECT string_agg(format('%I %s %s', attname, format_type(atttypid, atttypmod), attcollation), ', ' ORDER BY attnum)
    AS shape
FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attnum BETWEEN 1 AND $2 AND NOT attisdropped"""

# Before PostgreSQL 18 no constraint says whether it is enforced: all are.
CHECKS = f"""
SELECT k.conname AS name, pg_get_expr(k.conbin, k.conrelid) AS expression, k.convalidated AS validated,
    coalesce((to_jsonb(k) ->> 'conenforced')::bool, true) AS enforced, k.connoinherit AS no_inherit,
    obj_description(k.oid, 'pg_constraint') AS comment,
    ARRAY(SELECT coalesce(a.attname, '') FROM unnest(k.conkey) n LEFT JOIN pg_catalog.pg_attribute a
          ON a.attrelid = k.conrelid AND a.attnum = n AND n > 0) AS columns,
    EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_constraint'::regclass AND d.objid = k.oid
            AND d.refclassid = 'pg_proc'::regclass AND d.refobjid >= 16384) OR {ASKS_CALLER} AS runs_code
FROM pg_catalog.pg_constraint k WHERE k.conrelid = $1 AND k.contype = 'c' ORDER BY k.conname"""


@dataclass(frozen=True)
class Column:
    """One column as pg_attribute has it; `type` with its modifier.

    `base_type` has domains resolved, and so has `kind`, which is its typtype, or `a` for an array; it and
    `element_type` are names in pg_catalog, empty for types from elsewhere.
    """

    attnum: int
    name: str
    type: str
    base_type: str
    element_type: str
    kind: str
    not_null: bool
    identity: str
    generated: str
    storage: str
    compression: str
    collation: str | None
    default: str | None
    comment: str | None
    sequence: str | None

    def holding(self, plain: Row) -> Column:
        """Returns this column of a base table with the type and collation of its plaintext, from the catalog.

        During a roll-out the catalog knows whether the values are NOT NULL.
        """
        kept = ("type", "base_type", "element_type", "kind", "collation", "storage")
        not_null = self.not_null or plain["plain_not_null"]
        return replace(self, not_null=not_null, **{name: plain[name] for name in kept})

    @property
    def is_bytes(self) -> bool:
        return self.base_type == "bytea"

    @property
    def is_array(self) -> bool:
        return self.kind == "a"


@dataclass(frozen=True)
class Check:
    """A CHECK constraint; `columns` are names, '' for the whole row.

    `runs_code`: it calls functions of users, or asks who writes. One that is not `enforced` only says what should be.
    """

    name: str
    expression: str
    validated: bool
    enforced: bool
    no_inherit: bool
    comment: str | None
    columns: frozenset[str]
    runs_code: bool


@dataclass(frozen=True)
class Table:
    """A relation and what hangs on it; `primary_key` maps columns, in the key's order, to their equality operators."""

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    row_security: bool
    row_type: int
    runs_code: bool
    key_is_deferrable: bool
    has_column_writers: bool
    owner: str
    owner_oid: int
    owner_is_superuser: bool
    owner_may_use_schema: bool
    is_partition: bool
    is_typed: bool
    inherits: bool
    belongs_to_system: bool
    comment: str | None
    columns: tuple[Column, ...]
    primary_key: dict[str, str]
    checks: tuple[Check, ...]

    @property
    def sql(self) -> str:
        return qualified(self.schema, self.name)

    def writes_as_caller(self, checks: Iterable[Check]) -> bool:
        """Tells whether a write runs code of users, which then needs its caller's role and settings.

        Not with privileges on single columns: their holders could write past the view. Then the code runs as the owner.
        """
        runs_code = self.runs_code or any(check.runs_code for check in checks)
        return self.row_security or (runs_code and not self.has_column_writers)

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


def inspect(host: Host, oid: int) -> Table:
    """The table of an OID. Raises BadInput when there is none."""
    rows = host.catalog_rows(RELATION, ["oid"], [oid])
    if not rows:
        raise errors.BadInput("there is no such relation")
    found = rows[0]
    name = qualified(found["schema"], found["name"])
    columns = [Column(**row) for row in host.catalog_rows(COLUMNS, ["oid", "text"], [oid, name])]
    checks = [_check(row) for row in host.catalog_rows(CHECKS, ["oid"], [oid])]
    key = {row["name"]: row["equals"] for row in host.catalog_rows(PRIMARY_KEY, ["oid"], [oid])}
    return Table(**found, columns=tuple(columns), primary_key=key, checks=tuple(checks))


def _check(row: Row) -> Check:
    return Check(**{**row, "columns": frozenset(row["columns"] or ())})


def shape(host: Host, oid: int, first: int = MOST_COLUMNS) -> str:
    """Returns the first columns with type, modifier and collation. They are equal for a table and for the view that
    replaces it.
    """
    row = host.row(SHAPE, ["oid", "int4"], [oid, first])
    return str(row["shape"]) if row else ""


def relation_oid(host: Host, sql: str) -> int:
    """Returns the OID of a relation by its quoted name."""
    row = host.row("SELECT $1::regclass::oid AS oid", ["text"], [sql])
    assert row is not None
    return int(row["oid"])
