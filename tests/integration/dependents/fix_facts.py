"""What the catalogs say of objects around a table, in a form that is equal before protect() and after it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from pathlib import Path

from tests.fix_stack import Database

Facts = dict[str, list[tuple[object, ...]]]

ACL = """(SELECT array_agg(format('%%s %%s %%s %%s', x.grantor, x.grantee, x.privilege_type, x.is_grantable) ORDER BY
    x.grantor, x.grantee, x.privilege_type) FROM aclexplode(coalesce({acl}, acldefault({kind}, {owner}))) x)"""
OURS = (
    "('envelope', 'envelope_internal', 'envelope_private', 'envelope_search', 'envelope_compare', 'envelope_pgcrypto')"
)
NAMESPACES = f"""(SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    AND nspname NOT IN {OURS})"""
# The relations that protect() itself makes, and those whose name the table has then.
MADE = """SELECT base FROM envelope_private.key WHERE base IS NOT NULL
    UNION SELECT view FROM envelope_private.key WHERE view IS NOT NULL"""
# PostgreSQL writes out the columns of a function in FROM, among them the search columns of a row type.
TEXT = r"regexp_replace(pg_get_viewdef(c.oid), ', \w+_search\M', '', 'g')"
QUERIES = {
    "views": f"""
        SELECT CASE c.relkind WHEN 'v' THEN c.oid END, c.oid::regclass::text, c.relkind::text,
            pg_get_userbyid(c.relowner), {ACL.format(acl="c.relacl", kind="'r'", owner="c.relowner")},
            c.reloptions, {TEXT},
            obj_description(c.oid, 'pg_class'), c.relispopulated
        FROM pg_class c WHERE c.relkind IN ('v', 'm') AND c.relnamespace IN {NAMESPACES} AND c.oid NOT IN ({MADE})
        ORDER BY 2""",
    "columns": f"""
        SELECT c.oid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation, a.attacl::text,
            col_description(c.oid, a.attnum), pg_get_expr(d.adbin, d.adrelid), a.attstattarget, a.attstorage::text,
            -- Some servers number the changes of a column there.
            ARRAY(SELECT o FROM unnest(a.attoptions) o WHERE NOT starts_with(o, 'pg_'))
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relkind IN ('v', 'm') AND c.relnamespace IN {NAMESPACES} AND c.oid NOT IN ({MADE}) ORDER BY 1, 2""",
    "rules": f"""
        SELECT pg_get_ruledef(w.oid), w.ev_enabled::text, obj_description(w.oid, 'pg_rewrite') FROM pg_rewrite w
        JOIN pg_class c ON c.oid = w.ev_class WHERE w.rulename <> '_RETURN' AND c.relnamespace IN {NAMESPACES}
        ORDER BY 1""",
    "policies": f"""
        SELECT p.oid, p.polrelid::regclass::text, p.polname, p.polcmd::text, p.polroles, p.polpermissive,
            pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid),
            obj_description(p.oid, 'pg_policy')
        FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
        WHERE c.relnamespace IN {NAMESPACES} AND c.oid NOT IN ({MADE}) ORDER BY 2, 3""",
    "functions": f"""
        SELECT pg_get_functiondef(p.oid), pg_get_userbyid(p.proowner),
            {ACL.format(acl="p.proacl", kind="'f'", owner="p.proowner")}, obj_description(p.oid, 'pg_proc')
        FROM pg_proc p WHERE p.pronamespace IN {NAMESPACES} AND p.prokind IN ('f', 'p')
            AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
            AND coalesce(obj_description(p.oid, 'pg_proc'), '') NOT LIKE 'pg_envelope%%' ORDER BY 1""",
    "indexes": f"""
        SELECT pg_get_indexdef(i.indexrelid), i.indisclustered, obj_description(i.indexrelid, 'pg_class')
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relkind = 'm' AND c.relnamespace IN {NAMESPACES}
        ORDER BY 1""",
    "triggers": f"""
        SELECT t.oid, pg_get_triggerdef(t.oid), t.tgenabled::text, obj_description(t.oid, 'pg_trigger')
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relkind = 'v' AND c.relnamespace IN {NAMESPACES} AND c.oid NOT IN ({MADE}) ORDER BY 2""",
}


def facts(db: Database, protected: Collection[str] = ()) -> Facts:
    """Everything about views, rules, policies, functions and triggers, but for what belongs to protected tables."""
    found = {name: db.sql(query.replace("%%", "%")) for name, query in QUERIES.items()}
    bases = {f"{name}_encrypted" for name in protected}
    found["policies"] = [row for row in found["policies"] if row[1] not in bases | set(protected)]
    return found


def digest(db: Database, *relations: str) -> dict[str, str]:
    """A digest of every row of relations, whatever their order."""
    return {
        name: db.one(f"SELECT md5(coalesce(string_agg(x::text, E'\\n' ORDER BY x::text), '')) FROM {name} x")
        for name in relations
    }


def dump(db: Database, *schemas: str) -> str:
    """What pg_dump makes of schemas, without their rows."""
    done = subprocess.run(
        [Path(db.stack.cluster.bindir) / "pg_dump", "--schema-only", *(f"--schema={name}" for name in schemas)],
        env={**os.environ, **db.stack.environ(), "PGDATABASE": db.name},
        capture_output=True,
        text=True,
        check=True,
    )
    # The newer minor versions write a session's random key for psql.
    return "\n".join(line for line in done.stdout.splitlines() if "restrict" not in line)
