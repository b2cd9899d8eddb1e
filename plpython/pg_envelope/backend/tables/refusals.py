"""Refuses tables that protect() cannot carry over. It looks before anything is touched, and lists all reasons."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from pg_envelope import errors
from pg_envelope.backend.field_options import FieldOptions
from pg_envelope.backend.host import Host
from pg_envelope.backend.search import advice, protecting
from pg_envelope.backend.search.carried import Carried
from pg_envelope.backend.sqltext import commas, derived_name, ident, literal
from pg_envelope.backend.tables import generate, partitions, unfit
from pg_envelope.backend.tables.canonical import may_lose
from pg_envelope.backend.tables.dependents import own
from pg_envelope.backend.tables.generate import COMMENTED, GUARDS, function_names
from pg_envelope.backend.tables.inspect import Column, Table
from pg_envelope.backend.tables.owner import AsOwner
from pg_envelope.typed import NamedTuple

KINDS = {
    "f": "a foreign table",
    "v": "a view",
    "m": "a materialized view",
    "S": "a sequence",
    "i": "an index",
    "I": "an index",
    "c": "a composite type",
    "t": "a TOAST table",
}

# What depends on a protected column and cannot follow: neither its own default and its own CHECK constraints, nor what
# tables/dependents carries along. Its publications and triggers are there, too.
DEPENDENTS = """
SELECT DISTINCT CASE k.contype WHEN 'f' THEN 'foreign key' ELSE d.classid::regclass::text END AS catalog,
    pg_describe_object(d.classid, d.objid, d.objsubid) AS what
FROM pg_catalog.pg_depend d
LEFT JOIN pg_catalog.pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
LEFT JOIN pg_catalog.pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
LEFT JOIN pg_catalog.pg_policy p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1 AND d.refobjsubid = $2
    AND coalesce(k.contype NOT IN ('c', 'n'), true) AND f.adnum IS DISTINCT FROM $2
    AND d.classid NOT IN ('pg_rewrite'::regclass, 'pg_proc'::regclass, 'pg_trigger'::regclass,
        'pg_publication_rel'::regclass, 'pg_statistic_ext'::regclass)
    AND coalesce(p.polrelid = $1, true)
    AND NOT (d.classid = 'pg_class'::regclass AND d.objid = $1) AND d.deptype <> 'i'
    -- What tokens stand in for, and what is to be dropped.
    AND NOT (k.conrelid IS NOT DISTINCT FROM $1 AND k.conname = ANY ($3::name[]) AND k.contype IN ('u', 'x'))
    AND NOT (d.classid = 'pg_class'::regclass AND d.objid IN (
        SELECT i.indexrelid FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = $1 AND c.relname = ANY ($3)))
ORDER BY 2"""
WHOLE_ROW_INDEXES = """
SELECT pg_describe_object('pg_class'::regclass, i.indexrelid, 0) AS what FROM pg_catalog.pg_index i
WHERE i.indrelid = $1 AND concat(i.indexprs::text, i.indpred::text) LIKE '%:varattno 0 %' ORDER BY 1"""

# A row without columns would be an empty dict, which is false.
TAKEN = """
SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2"""

BYPASSES = "SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1 AND rolbypassrls AND NOT rolsuper"
COLUMN_PRIVILEGES = "SELECT attnum FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attacl <> '{}'"

# The package knows the remains of a protected table that was dropped by their comment. No trigger calls them.
TAKEN_FUNCTIONS = f"""
SELECT p.proname AS name FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = $1 AND p.proname = ANY ($2::name[])
    AND (EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgfoid = p.oid)
        OR NOT starts_with(coalesce(obj_description(p.oid, 'pg_proc'), ''), {literal(COMMENTED)}))
ORDER BY 1"""
# A BEFORE trigger that comes after the guard could change the row key without its knowledge.
LATE_TRIGGERS = f"""
SELECT t.tgname AS name FROM pg_catalog.pg_trigger t WHERE t.tgrelid = $1 AND NOT t.tgisinternal
    AND t.tgtype::int & 67 = 3 AND t.tgname::text COLLATE "C" > {literal(min(GUARDS.values()))}
    AND t.tgname NOT IN ({commas(map(literal, GUARDS.values()))}) ORDER BY 1"""


# Ordinary and partitioned tables.
TABLES = ("r", "p")


def check_kind(table: Table) -> None:
    """Raises Unsupported for a relation that is no ordinary table of the user's own."""
    reasons = list(_kind_reasons(table))
    if reasons:
        way_out = INSTEAD.get(reasons[0], KIND_HINT)
        raise errors.Unsupported(f"{table.sql} cannot be protected: it is {reasons[0]}", hint=way_out)


KIND_HINT = "protect() takes ordinary and partitioned tables, logged or unlogged, without inheritance."
PARTITION, TEMPORARY = "a partition", "a temporary table"
INHERITING, TYPED = "part of an inheritance tree", "a typed table"
BESIDE = (
    "Move the columns that you want to protect to an ordinary table with the same primary key, and protect that one:"
    " docs/protected-tables.md."
)
INSTEAD = {
    PARTITION: "Protect the whole table. Or make the partition a table of its own: ALTER TABLE ... DETACH PARTITION.",
    INHERITING: f"{BESIDE} Or make it a table of its own: ALTER TABLE ... NO INHERIT.",
    TYPED: "ALTER TABLE ... NOT OF makes it an ordinary table.",
    TEMPORARY: "Make it an ordinary table, which may be UNLOGGED.",
    "a foreign table": "Protect the table on its own server: the values come decrypted for the role that connects.",
    "a view": "Protect the tables from which it reads.",
    "a materialized view": "Protect the tables from which it reads: docs/protected-tables.md says what becomes of it.",
}


def _kind_reasons(table: Table) -> Iterator[str]:
    if table.kind not in TABLES:
        yield KINDS.get(table.kind, "no table")
    if table.belongs_to_system:
        yield "part of the system or of an extension"
    if table.persistence == "t":
        yield TEMPORARY
    if table.is_partition:
        yield PARTITION
    if table.inherits:
        yield INHERITING
    if table.is_typed:
        yield TYPED


def check_same(before: Table, after: Table) -> None:
    """Raises Conflict when the name that was locked belongs to another relation by then."""
    if (before.schema, before.name) != (after.schema, after.name):
        raise errors.Conflict(f"{before.sql} was renamed meanwhile", hint="Call protect() again.")


class Obstacle(NamedTuple):
    """`column` is the column without which it would be none; None for what stands in the way in any case."""

    column: str | None
    text: str


def check_columns(table: Table, wanted: Mapping[str, FieldOptions], scope_column: str | None) -> None:
    """Raises BadInput for columns that are not there, and for a table without the primary key that they need."""
    missing = [name for name in (*wanted, *filter(None, [scope_column])) if table.column(name) is None]
    if missing:
        raise errors.BadInput(
            f"{table.sql} has no such column", detail=", ".join(missing), hint="Names are case-sensitive here."
        )
    if not table.primary_key and any(options.bind == "row" for options in wanted.values()):
        raise errors.BadInput(
            f"{table.sql} has no primary key to bind values to",
            hint='Add one, or bind by column only: {"name": {"bind": "column"}}.',
        )


def obstacles(
    host: Host,
    table: Table,
    wanted: Mapping[str, FieldOptions],
    scope_column: str | None,
    carried: Sequence[Carried],
    dependents: Sequence[str],
    copies: Mapping[str, Sequence[str]],
) -> list[Obstacle]:
    """Returns everything that keeps columns from being protected.

    `carried` are indexes and statistics that are none. `dependents` has a line for each dependent that cannot follow.
    `copies` has materialized views by the column whose values they hold.
    """
    found = [
        *_of_table(host, table, wanted, scope_column, dependents),
        *_of_columns(host, table, wanted, carried, copies),
    ]
    # The trial reads values as the table's owner, so it runs only if all else is well.
    return found or [Obstacle(None, text) for text in advice.obstacles(host, table, wanted)]


def refuse(table: Table, wanted: Mapping[str, FieldOptions], found: Sequence[Obstacle]) -> None:
    """Raises Unsupported with the list of all obstacles, if there are any."""
    if found:
        raise errors.Unsupported(
            f"{table.sql} cannot be protected as it is; nothing was changed",
            detail="\n".join(f"- {obstacle.text}" for obstacle in found),
            hint=way_out(found, wanted),
        )


def way_out(found: Sequence[Obstacle], wanted: Mapping[str, FieldOptions]) -> str:
    obstructed = {obstacle.column for obstacle in found}
    left = [name for name in wanted if name not in obstructed]
    hint = WAY_OUT
    if left and None not in obstructed:
        out = commas(name for name in wanted if name in obstructed)
        hint = (
            f"Without {out} nothing stands in the way: CALL envelope.protect(..., {literal(json.dumps(left))}). {hint}"
        )
    return hint


WAY_OUT = (
    "Drop or change the listed objects, then call protect() again. Indexes are dropped, and put back by"
    ' unprotect(), where the column\'s options have "index": "drop".'
)


def _of_table(
    host: Host,
    table: Table,
    wanted: Mapping[str, FieldOptions],
    scope_column: str | None,
    dependents: Sequence[str],
) -> Iterator[Obstacle]:
    """Yields what stands in the way whichever columns are protected, or by options of several of them."""
    own = chain(partitions.obstacles(host, table, wanted), partitions.unique(table, wanted))
    some = _obstacles(host, table), own, dependents, protecting.obstacles(host, table, wanted)
    for text in chain(*some, _scope_obstacles(host, table, wanted, scope_column)):
        yield Obstacle(None, text)
    if any(options.bind == "row" for options in wanted.values()):
        yield from (Obstacle(None, text) for text in _key_obstacles(host, table))


def _of_columns(
    host: Host,
    table: Table,
    wanted: Mapping[str, FieldOptions],
    carried: Sequence[Carried],
    copies: Mapping[str, Sequence[str]],
) -> Iterator[Obstacle]:
    names = [one.name for one in carried]
    for name in partitions.deciding(host, table, wanted):
        yield Obstacle(name, f"column {name} decides in which partition a row is, and an envelope cannot")
    for name in wanted:
        column = table.column(name)
        assert column is not None
        conditions = own.obstacles(host, table, column)
        held = (f"column {name} would stay readable in {COPY.format(copy)}" for copy in copies.get(name, ()))
        for text in chain(_column_obstacles(host, table, column, names), conditions, held):
            yield Obstacle(name, text)


COPY = "materialized view {}: drop it, or call protect(..., keep_copies => true)"


def _obstacles(host: Host, table: Table) -> Iterator[str]:
    base = derived_name(table.name, "_encrypted")
    if host.row(TAKEN, ["name", "name"], [table.schema, base]):
        yield f"the base table's name is taken: {base}"
    for row in host.rows(
        TAKEN_FUNCTIONS, ["name", "text[]"], [table.schema, function_names(table.name, len(table.checks))]
    ):
        yield f"a trigger function's name is taken: {row['name']}"
    if host.row(BYPASSES, ["name"], [table.owner]):
        yield f"its owner {table.owner} has BYPASSRLS, which would let it read other owners' capabilities"
    if table.row_security and host.row(COLUMN_PRIVILEGES, ["oid"], [table.oid]):
        yield "it has row-level security and privileges on single columns: a view cannot keep to both"
    if not table.owner_may_use_schema:
        yield f"its owner {table.owner} has no USAGE on schema {table.schema}"
    for row in host.rows(LATE_TRIGGERS, ["oid"], [table.oid]):
        yield f"trigger {row['name']} would run after the base table's guard: give it a name that sorts earlier"
    for check in table.checks:
        if "" in check.columns:
            yield f"constraint {check.name} uses the whole row"
    for row in host.rows(WHOLE_ROW_INDEXES, ["oid"], [table.oid]):
        yield f"{row['what']} uses the whole row"


def _column_obstacles(host: Host, table: Table, column: Column, carried: list[str]) -> Iterator[str]:
    where = f"column {column.name}"
    if column.generated:
        yield f"{where} is a generated column"
    if column.identity:
        yield f"{where} is an identity column"
    if column.name in table.primary_key:
        yield f"{where} is part of the primary key"
    yield from (f"{where} {reason}" for reason in unfit.reasons(host, table, column))
    if may_lose(column) and (lost := _lost(host, table, column)):
        yield f"{where} has values that are more than the text that their type writes: {lost}"
    for row in host.rows(DEPENDENTS, ["oid", "int4", "text[]"], [table.oid, column.attnum, carried]):
        yield f"{where} is used by {row['what']}{REASONS.get(row['catalog'], '')}"


# What the kind of an object does not say by itself.
REASONS = {
    "pg_policy": ", which would see an envelope: let it ask for other columns",
    "foreign key": ": protect the columns of both of its sides, in one CALL envelope.protect_tables(...)",
    "pg_attrdef": ", a generated column that would hold plaintext: make it a column of a view",
}


def _lost(host: Host, table: Table, column: Column) -> str:
    """Returns how many values do not come back from their canonical text, "some", or an empty text for none."""
    query = f"SELECT count(*) AS found FROM {table.sql} t WHERE {generate.loses(column, 't')}"
    try:
        found = AsOwner(host, table.owner_oid).count(query)
    except Exception as error:
        # This error comes from a text that is no value of the type at all.
        if not str(getattr(error, "sqlstate", "")).startswith("22"):
            raise
        return "some"
    return str(found) if found else ""


def _key_obstacles(host: Host, table: Table) -> Iterator[str]:
    for column in table.columns:
        if column.name in table.primary_key:
            where = f"primary key column {column.name}"
            yield from (f"{where} {reason}" for reason in unfit.reasons(host, table, column, unfit.NAMES))


def _scope_obstacles(
    host: Host, table: Table, wanted: Mapping[str, FieldOptions], scope_column: str | None
) -> Iterator[str]:
    column = table.column(scope_column) if scope_column else None
    if column is None:
        return
    where = f"scope column {column.name}"
    if column.name in wanted:
        yield f"{where} is to be protected itself: whose a row is must be known before its key is"
    if not column.not_null:
        yield f"{where} may be NULL: ALTER TABLE {table.sql} ALTER {ident(column.name)} SET NOT NULL"
    if column.generated:
        yield f"{where} is a generated column, whose value is not known when the row is encrypted"
    yield from (f"{where} {reason}" for reason in unfit.reasons(host, table, column))
