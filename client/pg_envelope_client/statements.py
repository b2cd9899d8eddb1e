"""Holds the SQL of each command. Names and values travel as parameters: no statement is put together from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Query:
    """SQL with its parameters, as psycopg's execute takes them."""

    sql: str
    values: tuple[Any, ...] = ()


SIGNING_KEYS = Query("SELECT version, state, public_key FROM envelope.signing_keys()")
KEYS = Query("SELECT * FROM envelope.keys")
COLUMNS = Query("SELECT * FROM envelope.columns")
ACCESS = (
    'SELECT role, relation::text, "column", access, paths, direct, proved, finding FROM envelope.access(%s::boolean)'
    ' ORDER BY relation::text, "column", role'
)
SEARCHES = Query("SELECT * FROM envelope.searches")
# One row for each protected column and each of its searches.
LINTED = Query(
    "SELECT n.nspname AS schema, v.relname AS relation, c.column, s.search_column, s.normalizer, s.search_key,"
    " (SELECT array_agg(a.attname::text) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a"
    " ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) WHERE i.indrelid = c.base_table AND i.indisprimary)"
    " AS primary_key"
    " FROM envelope.columns c JOIN pg_catalog.pg_class v ON v.oid = c.relation"
    " JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace"
    " LEFT JOIN envelope.searches s ON s.relation = c.relation AND s.column = c.column AND s.state = 'ready'"
    " ORDER BY 1, 2, 3, 4"
)
# One row for each column of a table. A protected table has the name of its view; what holds its values is `stored_*`.
TABLE_COLUMNS = Query("""
SELECT n.nspname::text AS schema, coalesce(v.relname, c.relname)::text AS relation, a.attname::text AS column,
    coalesce(pg_catalog.col_description(v.oid, w.attnum), pg_catalog.col_description(c.oid, a.attnum)) AS comment,
    a.atttypid = 'envelope.ciphertext'::regtype AND p.plain_column IS NULL AS is_protected, p.audit,
    s.nspname::text AS stored_schema,
    c.relname::text AS stored_relation, c.oid AS stored_oid,
    c.relkind <> 'f' AND b.typnamespace = 'pg_catalog'::regnamespace AND b.typname IN ('text', 'varchar', 'bpchar',
        'int8', 'numeric', 'date', 'timestamp', 'timestamptz', 'json', 'jsonb') AND NOT EXISTS (
            -- PostgreSQL computes what it can of these when it plans a query, by whose function it may be.
            WITH RECURSIVE tree (oid) AS (
                SELECT c.oid UNION SELECT h.inhrelid FROM tree JOIN pg_catalog.pg_inherits h ON h.inhparent = tree.oid),
            part (class, oid) AS (
                SELECT 'pg_catalog.pg_class'::regclass, i.indexrelid
                    FROM tree JOIN pg_catalog.pg_index i ON i.indrelid = tree.oid
                UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::regclass, e.oid
                    FROM tree JOIN pg_catalog.pg_statistic_ext e ON e.stxrelid = tree.oid
                UNION ALL SELECT 'pg_catalog.pg_constraint'::regclass, k.oid
                    FROM tree JOIN pg_catalog.pg_constraint k ON k.conrelid = tree.oid)
            SELECT FROM part JOIN pg_catalog.pg_depend d ON d.classid = part.class AND d.objid = part.oid
            LEFT JOIN pg_catalog.pg_operator o
                ON d.refclassid = 'pg_catalog.pg_operator'::regclass AND o.oid = d.refobjid
            JOIN pg_catalog.pg_proc f ON f.oid = CASE WHEN d.refclassid = 'pg_catalog.pg_proc'::regclass
                THEN d.refobjid ELSE o.oprcode END
            JOIN pg_catalog.pg_roles u ON u.oid = f.proowner AND NOT u.rolsuper) AS is_readable
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
JOIN pg_catalog.pg_type b ON b.oid = CASE y.typtype WHEN 'd' THEN y.typbasetype ELSE y.oid END
LEFT JOIN envelope_private.protected_table t ON t.base = c.oid
LEFT JOIN envelope_private.protected_column p ON p.base = c.oid AND p.attname = a.attname
LEFT JOIN pg_catalog.pg_class v ON v.oid = t.view
LEFT JOIN pg_catalog.pg_attribute w ON w.attrelid = v.oid AND w.attname = a.attname
JOIN pg_catalog.pg_namespace n ON n.oid = coalesce(v.relnamespace, c.relnamespace)
WHERE c.relkind IN ('r', 'p', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
    AND s.nspname !~ '^(pg_|information_schema$|envelope)' AND y.typnamespace <> 'envelope_search'::regnamespace
    AND NOT EXISTS (SELECT FROM envelope_private.protected_column o
        WHERE o.base = c.oid AND o.plain_column = a.attname AND o.attname <> a.attname)
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
        WHERE d.deptype = 'e' AND d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid)
ORDER BY 1, 2, a.attnum""")
RUN_STATEMENTS = Query(
    "SELECT queryid, query, sum(calls)::bigint AS calls, sum(total_exec_time) / 1000 AS seconds"
    " FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " GROUP BY 1, 2 ORDER BY seconds DESC"
)
PROGRESS = Query("SELECT * FROM envelope.progress")
RECEIPTS = Query("SELECT * FROM envelope.receipts")
INSTALLATION = Query("SELECT database_uuid FROM envelope_private.installation")
LIVE_DEKS = Query("SELECT dek_id, kek, fingerprint FROM envelope_private.dek WHERE state <> 'destroyed' ORDER BY 1")
KEYS_BACKUP_PLACE = Query("SELECT * FROM envelope_private.keys_backup_place()")
STATUS = Query("SELECT check_name, state, detail, hint FROM envelope.status()")

REPORT_PLACE = Query(
    "SELECT current_database()::text AS database, i.database_uuid::text, current_setting('server_version')"
    " AS server_version, e.extversion AS version"
    " FROM envelope_private.installation i CROSS JOIN pg_catalog.pg_extension e WHERE e.extname = 'pg_envelope'"
)
BACKUPS = Query(
    "SELECT label, taken_at::text, expires_at::text, state, registered_at::text, forgotten_at::text"
    " FROM envelope.backups"
)

SECRETS = Query(
    "SELECT s.name, max(s.version) AS version, max(s.created_at) AS stored_at, d.due_at, d.overdue::text"
    " FROM envelope.secrets s LEFT JOIN envelope.due d ON d.level = 'secret' AND d.subject = s.name"
    " GROUP BY s.name, d.due_at, d.overdue ORDER BY s.name"
)

ABOUT_CLUSTER = Query(
    "SELECT pg_catalog.current_database() AS database,"
    " (SELECT rolname::pg_catalog.text FROM pg_catalog.pg_roles WHERE oid = 10) AS superuser,"
    " ARRAY(SELECT rolname::pg_catalog.text FROM pg_catalog.pg_roles"
    " WHERE NOT pg_catalog.starts_with(rolname, 'pg_') ORDER BY rolname) AS roles"
)
HAS_EXTENSION = Query("SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'pg_envelope') AS result")
DATABASES = Query(
    "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname"
)

DUE = Query("SELECT level, subject, last_rotated, due_at, overdue::text, command FROM envelope.due")
DUE_NOW = Query("SELECT level, subject, command FROM envelope.due WHERE due_at <= now()")
SCHEDULES = Query(
    "SELECT level, subject, every::text, transition::text, grace::text, reencrypt FROM envelope.schedules"
)


def sign_report(report: Mapping[str, Any]) -> Query:
    return Query("SELECT * FROM envelope.sign_report(%s::jsonb)", (json.dumps(report),))


def access(proof: bool) -> Query:
    return Query(ACCESS, (proof,))


def rotate_due(dry_run: bool) -> Query:
    return Query("CALL envelope.rotate_due(%s::boolean)", (dry_run,))


def set_schedule(
    level: str,
    every: str | None,
    subject: str | None,
    transition: str | None,
    grace: str | None,
    reencrypt: bool | None,
) -> Query:
    return Query(
        "SELECT envelope.set_schedule(%s::text, %s::interval, %s::text, %s::interval, %s::interval, %s::boolean)",
        (level, every, subject, transition, grace, reencrypt),
    )


def create_key(name: str, kek: str, store: str | None) -> Query:
    return Query("SELECT envelope.create_key(%s::text, %s::text, %s::text) AS result", (name, kek, store))


def grant_key(name: str, role: str) -> Query:
    return Query("SELECT envelope.grant_key(%s::text, %s::regrole) AS result", (name, role))


def revoke_key(name: str, role: str) -> Query:
    return Query("SELECT envelope.revoke_key(%s::text, %s::regrole) AS result", (name, role))


def rotate_key(name: str) -> Query:
    return Query("SELECT envelope.rotate_key(%s::text) AS result", (name,))


def rotate_secret(name: str) -> Query:
    return Query("SELECT envelope.replace_secret(%s::text) AS result", (name,))


def rotate_table(table: str) -> Query:
    return Query("SELECT envelope.rotate(%s::regclass) AS result", (table,))


def rotate_field(table: str, column: str) -> Query:
    return Query("SELECT envelope.rotate_field(%s::regclass, %s::name) AS result", (table, column))


def rotate_emergency(table: str, reason: str, subject: str | None = None) -> Query:
    return Query("CALL envelope.rotate_emergency(%s::regclass, %s::text, %s::text)", (table, reason, subject))


def shred(table: str, subject: str | None, reason: str) -> Query:
    return Query("CALL envelope.shred(%s::regclass, %s::text, %s::text)", (table, subject, reason))


def shred_key(name: str, reason: str) -> Query:
    return Query("CALL envelope.shred_key(%s::text, %s::text)", (name, reason))


def register_backup(label: str, taken_at: str | None, expires_at: str | None, finished_at: str | None = None) -> Query:
    sql = (
        "SELECT envelope.register_backup(%s::text, coalesce(%s::timestamptz, now()), %s::timestamptz,"
        " %s::timestamptz) AS result"
    )
    return Query(sql, (label, taken_at, expires_at, finished_at))


def finish_backup(label: str) -> Query:
    return Query("SELECT envelope.finish_backup(%s::text) AS result", (label,))


def keep_backup(label: str, expires_at: str | None) -> Query:
    return Query("SELECT envelope.keep_backup(%s::text, %s::timestamptz) AS result", (label, expires_at))


def forget_backup(label: str) -> Query:
    return Query("SELECT envelope.forget_backup(%s::text) AS result", (label,))


def affected(table: str, subject: str | None) -> Query:
    return Query("SELECT * FROM envelope_private.affected(%s::regclass, %s::text)", (table, subject))


def rotate_kek(kek: str) -> Query:
    return Query("CALL envelope.rotate_kek(%s::text)", (kek,))


def rewrap(kek: str) -> Query:
    return Query("CALL envelope.rewrap(%s::text)", (kek,))


def move_kek(from_kek: str, to_kek: str, store: str | None, table: str | None, tenant: str | None) -> Query:
    sql = "CALL envelope.move_kek(%s::text, %s::text, %s::text, %s::regclass, %s::text)"
    return Query(sql, (from_kek, to_kek, store, table, tenant))


def tenant_kek(table: str, tenant: str, kek: str, store: str | None, new: bool = False) -> Query:
    sql = "SELECT envelope.tenant_kek(%s::regclass, %s::text, %s::text, %s::text, %s::boolean) AS result"
    return Query(sql, (table, tenant, kek, store, new))


def suspend_table(table: str, tenant: str | None, reason: str) -> Query:
    return Query("CALL envelope.suspend(%s::regclass, %s::text, %s::text)", (table, tenant, reason))


def unsuspend_table(table: str, tenant: str | None, version: int | None = None) -> Query:
    return Query("CALL envelope.unsuspend(%s::regclass, %s::text, %s::integer)", (table, tenant, version))


def key_exists(name: str) -> Query:
    return Query("SELECT EXISTS (SELECT FROM envelope.keys WHERE name = %s::text) AS result", (name,))


def table_exists(name: str) -> Query:
    return Query("SELECT to_regclass(%s::text) IS NOT NULL AS result", (name,))


class BatchArguments(NamedTuple):
    """How many rows a job takes at a time, how long it waits after them, and how many MB of WAL a standby may have to
    replay before the next batch waits for it.
    """

    batch_size: int = 1000
    pause_ms: int = 0
    max_lag_mb: int = 64


class OnlineArguments(NamedTuple):
    """Whether the table stays in use meanwhile, how quickly its rows change their form then, and how many MB of WAL
    a standby may have to replay before the next batch waits for it.
    """

    online: bool = False
    batch_size: int = 200
    pause_ms: int = 0
    max_lag_mb: int = 64


@dataclass(frozen=True)
class ScopeArguments:
    """The scope, which tells which values share a DEK, and the answer to a read after the DEK was destroyed."""

    kind: str = "table"
    column: str | None = None
    of: str | None = None
    erased: str = "error"


def protect(
    table: str,
    columns: Mapping[str, Mapping[str, Any]],
    kek: str,
    store: str | None,
    scoping: ScopeArguments | None = None,
    *,
    keep_copies: bool = False,
    dry_run: bool = False,
    pace: OnlineArguments | None = None,
) -> Query:
    wanted, chosen = json.dumps(columns, ensure_ascii=False), scoping or ScopeArguments()
    online = pace or OnlineArguments()
    return Query(
        "CALL envelope.protect(%s::regclass, %s::jsonb, %s::text, %s::text,"
        " %s::text, %s::name, %s::regclass, %s::text, %s::boolean, %s::boolean,"
        " %s::boolean, %s::integer, %s::integer, %s::integer)",
        (table, wanted, kek, store, *astuple(chosen), keep_copies, dry_run, *online),
    )


def unprotect(
    table: str, damaged: str, pace: OnlineArguments | None = None, columns: Sequence[str] | None = None
) -> Query:
    sql = (
        "CALL envelope.unprotect(%s::regclass, %s::text,"
        " %s::boolean, %s::integer, %s::integer, %s::integer, columns => %s::jsonb)"
    )
    some = json.dumps(list(columns), ensure_ascii=False) if columns else None
    return Query(sql, (table, damaged, *(pace or OnlineArguments()), some))


def allow_upsert(table: str) -> Query:
    return Query("CALL envelope.allow_upsert(%s::regclass)", (table,))


def drop_upsert(table: str) -> Query:
    return Query("CALL envelope.drop_upsert(%s::regclass)", (table,))


def add_search(
    table: str, column: str, kind: str, options: Mapping[str, Any], batches: BatchArguments | None = None
) -> Query:
    spec = json.dumps({kind: options}, ensure_ascii=False)
    sql = "CALL envelope.add_search(%s::regclass, %s::name, %s::jsonb, %s::integer, %s::integer, %s::integer)"
    return Query(sql, (table, column, spec, *(batches or BatchArguments())))


def search_advice(table: str, column: str, normalize: str, beside: str | None) -> Query:
    asked = (table, column, normalize, beside)
    return Query("SELECT * FROM envelope.search_advice(%s::regclass, %s::name, %s::text, %s::name)", asked)


def rotate_search(table: str, column: str, name: str | None, normalize: str | None, batches: BatchArguments) -> Query:
    sql = (
        "CALL envelope.rotate_search(%s::regclass, %s::name, %s::name, %s::text, %s::integer, %s::integer, %s::integer)"
    )
    return Query(sql, (table, column, name, normalize, *batches))


def drop_search(table: str, column: str, name: str | None) -> Query:
    return Query("CALL envelope.drop_search(%s::regclass, %s::name, %s::name)", (table, column, name))


def verify(table: str | None, batch_size: int, pause_ms: int, anew: bool) -> Query:
    sql = "CALL envelope.verify(%s::regclass, %s::integer, %s::integer, %s::boolean)"
    return Query(sql, (table, batch_size, pause_ms, anew))


def faults(table: str | None) -> Query:
    """Leaves out values that were erased or suspended on purpose, because there may be very many of them."""
    found = "SELECT * FROM envelope.faults WHERE reason NOT IN ('key destroyed', 'key suspended')"
    return Query(f"{found} AND relation = %s::regclass", (table,)) if table else Query(found)


def verifications(table: str | None) -> Query:
    found = "SELECT * FROM envelope.verifications"
    return Query(f"{found} WHERE relation = %s::regclass", (table,)) if table else Query(found)


def reencrypt(table: str, batches: BatchArguments, part: int, parts: int, newest_first: bool) -> Query:
    return Query(
        "CALL envelope.reencrypt(%s::regclass, %s::integer, %s::integer, %s::integer, %s::integer, %s::boolean,"
        " %s::integer)",
        (table, batches.batch_size, batches.pause_ms, part, parts, newest_first, batches.max_lag_mb),
    )


def progress(table: str) -> Query:
    return Query("SELECT * FROM envelope.progress WHERE relation = %s::regclass", (table,))


def pause(table: str) -> Query:
    return Query("SELECT envelope.pause(%s::regclass) AS result", (table,))


def resume(table: str) -> Query:
    return Query("SELECT envelope.resume(%s::regclass) AS result", (table,))


def abort(table: str) -> Query:
    return Query("SELECT envelope.abort(%s::regclass) AS result", (table,))


def receipts(table: str) -> Query:
    return Query("SELECT * FROM envelope.receipts WHERE relation = %s::regclass", (table,))


def keys_backup(after: int, how_many: int) -> Query:
    return Query("SELECT * FROM envelope_private.keys_backup(%s::bigint, %s::integer)", (after, how_many))


def keys_return_key(kek: str) -> Query:
    return Query("SELECT * FROM envelope_private.keys_return_key(%s::text)", (kek,))


def keys_return(kek: str, public_key: str, dek_ids: list[int], sealed: list[str]) -> Query:
    return Query(
        "SELECT * FROM envelope_private.keys_return(%s::text, %s::text, %s::bigint[], %s::text[])",
        (kek, public_key, dek_ids, sealed),
    )


def rekey(from_environment: str, from_kek: str | None, to_kek: str | None) -> Query:
    return Query("CALL envelope.rekey(%s::text, %s::text, %s::text)", (from_environment, from_kek, to_kek))
